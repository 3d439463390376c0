import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator, precision, random_rows

from diffmm_pyg.diffusion.softmax_rows import softmax_rows


@pytest.mark.parametrize('dtype', [torch.double, torch.float])
@given(num_rows=st.integers(1, 6), num_items=st.integers(1, 9),
       scale=st.sampled_from([1., 60.]), seed=st.integers(0, 2**31))
def test_equals_dense(dtype, num_rows, num_items, scale, seed):
    with precision(dtype):
        g = generator(seed)
        rows, x0 = random_rows(num_rows, num_items, seed)
        logits = scale * torch.randn(num_rows, num_items, generator=g)
        logits.requires_grad_()
        feat = torch.randn(num_items, 3, generator=g)
        count = x0.sum(dim=1, keepdim=True)

        out = softmax_rows(logits, rows, feat)
        expected = (-(x0 * logits.log_softmax(dim=1)).sum(dim=1),
                    count * logits.softmax(dim=1) @ feat)
        for a, b in zip(out, expected, strict=True):
            assert_close(a, b)
        factors = [torch.randn(x.size(), generator=g) for x in out]
        grads = [
            torch.autograd.grad(sum((f * x).sum() for f, x in zip(factors, y)),
                                logits)[0] for y in (out, expected)
        ]
        # What cancels in them is of the order of one.
        assert_close(*grads, floor=1.)


def test_low_precision():
    rows, x0 = random_rows(4, 5000, 0)
    logits = torch.randn(4, 5000, generator=generator(0)).bfloat16()
    logits.requires_grad_()
    feat = torch.randn(5000, 3, generator=generator(1))
    nll, expected = softmax_rows(logits, rows, feat)
    assert nll.dtype == expected.dtype == torch.float
    exact = logits.detach().double().requires_grad_()
    x0, feat = x0.double(), feat.double()
    exact_nll = -(x0 * exact.log_softmax(dim=1)).sum(dim=1)
    exact_expected = x0.sum(dim=1, keepdim=True) * exact.softmax(dim=1) @ feat
    torch.testing.assert_close(nll.double(), exact_nll, rtol=1e-3, atol=0.)
    assert_close(expected, exact_expected, tolerance=0.02)
    grads = [torch.autograd.grad(a.sum() + b.square().sum(), x)[0] for a, b, x
             in [(nll, expected, logits), (exact_nll, exact_expected, exact)]]
    assert_close(*grads, tolerance=0.02)
