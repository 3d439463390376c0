import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator, precision, random_rows

from diffmm_pyg.diffusion.item_products import _is_direct, item_products


@pytest.mark.parametrize('dtype', [torch.double, torch.float])
@given(num_rows=st.integers(1, 6), num_items=st.integers(1, 9),
       num_modalities=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_equals_dense(dtype, num_rows, num_items, num_modalities, seed):
    with precision(dtype):
        g, M = generator(seed), num_modalities
        rows, x0 = random_rows(num_rows, num_items, seed)
        weight = torch.randn(num_items, M, 4, generator=g, requires_grad=True)
        bias = torch.randn(num_items, M, generator=g, requires_grad=True)
        hidden = torch.randn(M, num_rows, 4, generator=g, requires_grad=True)
        feats = [torch.randn(num_items, 3, generator=g) for _ in range(M)]
        feat = torch.stack(feats)

        # A quadratic form, or directly where there are few rows or items:
        out = item_products(weight, bias, hidden, rows, feats)
        expected = {
            'sq_norm': torch.einsum('imh,mnh->mni', weight,
                                    hidden).square().sum(dim=-1),
            'weight_bias': torch.einsum('imh,im->mh', weight, bias),
            'bias_bias': torch.einsum('im,im->m', bias, bias),
            'row_weight': torch.einsum('ni,imh->nmh', x0, weight),
            'row_bias': x0 @ bias,
            'weight_feat': torch.einsum('imh,mif->mhf', weight, feat),
            'bias_feat': torch.einsum('im,mif->mf', bias, feat),
        }
        assert set(expected) == set(out._fields)
        losses = [torch.zeros(()), torch.zeros(())]
        for name, value in expected.items():
            assert_close(getattr(out, name), value, what=name)
            factor = torch.randn(value.size(), generator=g)
            losses[0] = losses[0] + (factor * getattr(out, name)).sum()
            losses[1] = losses[1] + (factor * value).sum()
            for p in [weight, bias, hidden]:  # Each product on its own,
                grads = [
                    torch.autograd.grad((factor * x).sum(), p,
                                        retain_graph=True, allow_unused=True,
                                        materialize_grads=True)[0]
                    for x in (getattr(out, name), value)
                ]
                assert_close(*grads, what=name)
        for p in [weight, bias, hidden]:  # and all at once.
            assert_close(*[
                torch.autograd.grad(x, p, retain_graph=True)[0]
                for x in losses
            ])


@pytest.mark.parametrize('num_rows', [3, 60])  # Directly, a quadratic form
def test_low_precision(num_rows):
    g = generator(0)
    rows, _ = random_rows(num_rows, 40, 0)
    weight, bias, hidden = [
        torch.randn(size, generator=g, requires_grad=True)
        for size in [(40, 2, 16), (40, 2), (2, num_rows, 16)]
    ]
    feats = [torch.randn(40, 3, generator=g) for _ in range(2)]
    with torch.autocast('cpu', torch.bfloat16):
        low = item_products(weight, bias, hidden, rows, feats)
    full = item_products(weight, bias, hidden, rows, feats)
    for name, a, b in zip(full._fields, low, full, strict=True):
        assert a.dtype == torch.float
        assert_close(a, b, tolerance=0.02, what=name)
        factor = torch.randn(a.size(), generator=g)
        for x, y in zip(*[torch.autograd.grad(
                (factor * out).sum(), [weight, bias, hidden],
                retain_graph=True, allow_unused=True, materialize_grads=True)
                for out in (a, b)], strict=True):
            assert_close(x, y, tolerance=0.02, what=name)


@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
def test_takes_the_way_of_less_arithmetic(dtype):
    def costs(n, num_items, h):
        gram = 1. if dtype == torch.bfloat16 else 10 / 16
        return (3 * n * num_items * h,
                (1 + gram) * num_items * h * h + 2 * n * h * h)

    for n in [1, 92, 400, 700, 2000]:
        for num_items, h in [(6710, 1000), (10, 1000), (10**5, 64)]:
            direct, quadratic = costs(n, num_items, h)
            hidden = torch.empty(n, h, dtype=dtype)
            assert _is_direct(hidden, num_items) == (direct < quadratic)
