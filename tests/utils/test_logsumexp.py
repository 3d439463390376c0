import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator, precision

from diffmm_pyg.utils import logsumexp
from diffmm_pyg.utils.logsumexp import weighted_logsumexp


@pytest.mark.parametrize('dtype', [torch.double, torch.float])
@given(
    num_rows=st.integers(1, 9),
    num_keys=st.integers(1, 9),
    block=st.sampled_from([1, 20, 2**20]),
    scale=st.sampled_from([1., 2., 10.]),
    with_bias=st.booleans(),
    with_bound=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_dense(dtype, num_rows, num_keys, block, scale, with_bias,
                      with_bound, seed):
    with precision(dtype), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(logsumexp, 'MAX_BLOCK_NUMEL', block)
        g = generator(seed)
        x = torch.randn(num_rows, 3, generator=g)
        y = torch.randn(num_keys, 3, generator=g)
        if with_bound:  # The product of unit vectors is at most the scale.
            x, y = F.normalize(x), F.normalize(y)
        x.requires_grad_(), y.requires_grad_()
        weight = torch.rand(num_rows, generator=g)
        bias = None
        if with_bias:
            bias = torch.randn(num_keys, generator=g)
            bias[1::2] = float('-inf')
        logits = scale * x @ y.t() + (0 if bias is None else bias)
        out = weighted_logsumexp(x, y, weight, scale, bias,
                                 scale if with_bound else None)
        expected = (weight * logits.logsumexp(dim=1)).sum()
        assert_close(out, expected)
        for a, b in zip(torch.autograd.grad(3 * out, [x, y]),
                        torch.autograd.grad(3 * expected, [x, y]),
                        strict=True):
            assert_close(a, b)


def test_large_products_do_not_overflow():
    x = torch.tensor([[1000.], [-1000.]], requires_grad=True)
    y = torch.tensor([[1.], [-1.]])
    out = weighted_logsumexp(x, y, torch.tensor([1., 2.]))
    out.backward()
    assert out == 3000
    assert x.grad.tolist() == [[1.], [-2.]]


@pytest.mark.parametrize('index', [0, 1])
def test_one_gradient_only(index):
    xs = [torch.randn(4, 3), torch.randn(5, 3)]
    xs[index].requires_grad_()
    out = weighted_logsumexp(*xs, torch.ones(4))
    expected = (xs[0] @ xs[1].t()).logsumexp(dim=1).sum()
    assert_close(*[torch.autograd.grad(o, xs[index])[0]
                   for o in (out, expected)])


def test_bfloat16():
    g = generator(0)
    x, y = [F.normalize(torch.randn(50, 8, generator=g)) for _ in range(2)]
    x.requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        out = weighted_logsumexp(x, y, torch.ones(50), 2.)
    expected = (2 * x @ y.t()).logsumexp(dim=1).sum()
    assert out.dtype == torch.float
    assert_close(out, expected, tolerance=0.01)
    assert_close(torch.autograd.grad(out, x)[0],
                 torch.autograd.grad(expected, x)[0], tolerance=0.02)
