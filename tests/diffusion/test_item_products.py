import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator, precision, random_rows

from diffmm_pyg.diffusion.item_products import item_products


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
