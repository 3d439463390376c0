import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator, precision

from diffmm_pyg.utils import logsumexp
from diffmm_pyg.utils.logsumexp import weighted_logsumexp
from diffmm_pyg.utils.precision import shifted_exp


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


@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
def test_exponentials_are_normalized_or_zero(dtype):
    x = torch.linspace(-200., 0., 301, dtype=dtype).repeat(2, 1)
    x[1] = -torch.inf
    for inplace in [False, True]:
        out, shift = shifted_exp(x, inplace)
        assert out.data_ptr() == x.data_ptr() or not inplace
        assert out.dtype == dtype and (out[1] == 0).all() and shift[0] == 0
        assert not ((0 < out) & (out < torch.finfo(dtype).tiny)).any()
    assert (out[0, -60:] > 0).all() and out[0, -1] == 1


@pytest.mark.parametrize('index', [0, 1])
def test_one_gradient_only(index):
    xs = [torch.randn(4, 3), torch.randn(5, 3)]
    xs[index].requires_grad_()
    out = weighted_logsumexp(*xs, torch.ones(4))
    expected = (xs[0] @ xs[1].t()).logsumexp(dim=1).sum()
    assert_close(*[torch.autograd.grad(o, xs[index])[0]
                   for o in (out, expected)])


# Of 200 rows and 50 keys, pieces are all rows, 128 of them, and 3.
@pytest.mark.parametrize('block', [2**20, 2**11, 40])
@pytest.mark.parametrize('with_bias', [False, True])
def test_bfloat16(monkeypatch, block, with_bias):
    monkeypatch.setattr(logsumexp, 'MAX_BLOCK_NUMEL', block)
    g, bias = generator(0), None
    x = F.normalize(torch.randn(200, 8, generator=g)).requires_grad_()
    y = F.normalize(torch.randn(50, 8, generator=g)).requires_grad_()
    weight = torch.rand(200, generator=g)
    logits = 2 * x @ y.t()
    if with_bias:
        bias = torch.randn(50, generator=g)
        bias[::3] = float('-inf')
        logits = logits + bias
    with torch.autocast('cpu', torch.bfloat16):
        out = weighted_logsumexp(x, y, weight, 2., bias)
    expected = (weight * logits.logsumexp(dim=1)).sum()
    assert out.dtype == torch.float
    assert_close(out, expected, tolerance=2e-3)
    for a, b in zip(torch.autograd.grad(out, [x, y]),
                    torch.autograd.grad(expected, [x, y]), strict=True):
        assert_close(a, b, tolerance=0.02)


@given(num_rows=st.integers(1, 5000), num_keys=st.integers(1, 10**7))
def test_pieces_in_low_precision(num_rows, num_keys):
    keys = torch.empty(1, dtype=torch.bfloat16).expand(num_keys, 1)
    size, pad = logsumexp._chunk_size(num_rows, keys)
    assert size * num_keys <= max(num_keys, 4 * 2**20) \
        or size <= logsumexp.ROW_MULTIPLE and num_rows * num_keys <= 2**22
    num_chunks = -(-num_rows // size)
    assert pad == 0 or num_rows + pad == num_chunks * size
    assert pad < logsumexp.ROW_MULTIPLE * num_chunks


def test_half_precision_does_not_overflow():
    x = torch.zeros(2, 1, requires_grad=True)
    with torch.autocast('cpu', torch.half):
        out = weighted_logsumexp(x, torch.ones(70_000, 1), torch.ones(2))
    assert_close(out, 2 * torch.tensor(70_000.).log(), tolerance=1e-3)


def test_no_second_derivative():
    x = torch.randn(3, 2, requires_grad=True)
    out = weighted_logsumexp(x, x.detach(), torch.ones(3))
    grad, = torch.autograd.grad(out.square(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()
