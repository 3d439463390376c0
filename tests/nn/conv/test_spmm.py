import pytest
import torch
from oracle import WITH_TORCH_SPARSE, assert_close

from diffmm_pyg.nn.conv.spmm import spmm
from diffmm_pyg.typing import SparseTensor

pytestmark = pytest.mark.skipif(not WITH_TORCH_SPARSE,
                                reason='torch-sparse is not installed')


def make_adj(value=None):
    row, col = torch.tensor([[0, 0, 2, 3], [1, 4, 0, 1]])
    return SparseTensor(row=row, col=col, value=value, sparse_sizes=(4, 5))


@pytest.mark.parametrize('weighted', [False, True])
def test_value_and_gradient(double, weighted):
    adj_t = make_adj(torch.randn(4) if weighted else None)
    x = torch.randn(5, 3, requires_grad=True)
    factor = torch.randn(4, 3)
    out = spmm(adj_t, x)
    assert_close(out, adj_t.to_dense() @ x)
    grad, = torch.autograd.grad((factor * out).sum(), x)
    assert_close(grad, adj_t.to_dense().t() @ factor)


def test_values_that_change(double):
    adj_t = make_adj(torch.randn(4))
    x = torch.randn(5, 3, requires_grad=True)

    def check():
        out = spmm(adj_t, x)
        assert_close(out, adj_t.to_dense() @ x)
        grad, = torch.autograd.grad(out.sum(), x)
        assert_close(grad, adj_t.to_dense().t() @ torch.ones(4, 3))

    check()
    adj_t.storage.value().mul_(2)
    check()
    adj_t.set_value_(torch.randn(4), layout='csr')
    check()


@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
def test_types(dtype):
    adj_t = make_adj(torch.randn(4).to(dtype))
    x = torch.randn(5, 3).to(dtype)
    out = spmm(adj_t, x)
    assert out.dtype == dtype
    expected = adj_t.to_dense().double() @ x.double()
    assert (out - expected).abs().max() <= 8 * torch.finfo(dtype).eps
    # One matrix serves several types.
    x = torch.randn(5, 3, dtype=torch.double)
    adj_t = make_adj(torch.randn(4))
    spmm(adj_t, x.float())
    assert_close(spmm(adj_t, x), adj_t.to_dense().double() @ x)


def test_inference_mode(double):
    with torch.inference_mode():
        adj_t, x = make_adj(torch.randn(4)), torch.randn(5, 3)
        for _ in range(2):
            assert_close(spmm(adj_t, x), adj_t.to_dense() @ x)
            adj_t.storage.value().mul_(2)  # Has no version to look at.


def test_gradient_is_that_of_the_product(double):
    adj_t = make_adj(torch.randn(4))
    x = torch.randn(5, 3, requires_grad=True)
    expected = adj_t.to_dense().t() @ torch.ones(4, 3)
    out = spmm(adj_t, x)
    adj_t.storage.value().mul_(100)
    assert_close(torch.autograd.grad(out.sum(), x)[0], expected)
