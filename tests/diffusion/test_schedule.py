import pytest
import torch
from oracle import assert_close

from diffmm_pyg.diffusion import linear_variance_betas


def test_variance_grows_linearly():
    betas = linear_variance_betas(5, 0.1, 1e-2, 0.5)
    assert betas.dtype == torch.double
    variance = 1 - (1 - betas).cumprod(dim=0)
    assert variance.tolist() == pytest.approx(
        [0.001, 0.01325, 0.0255, 0.03775, 0.05])


def test_ends():
    assert linear_variance_betas(1, 0.1, 0.2, 0.3).tolist() == \
        pytest.approx([0.02])
    betas = linear_variance_betas(2, 1., 0.1, 0.99999)
    assert_close(betas, torch.tensor([0.1, 0.999]).double(), tolerance=1e-6)


@pytest.mark.parametrize('args,match', [
    ((0, ), 'at least 1'),
    ((5, 0.), 'noise variances'),
    ((5, 1., 0.3, 0.2), 'noise variances'),
    ((5, 1., 0.1, 1.), 'noise variances'),
    ((5, float('nan')), 'noise variances'),
])
def test_errors(args, match):
    with pytest.raises(ValueError, match=match):
        linear_variance_betas(*args)
