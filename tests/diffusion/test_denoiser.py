import pytest
import torch
from oracle import assert_close, generator, random_diffusion, textbook_params

from diffmm_pyg.testing import textbook


@pytest.mark.parametrize('normalize', [False, True])
def test_equals_textbook(double, normalize):
    denoiser = random_diffusion(7, 3, seed=0, normalize=normalize).denoiser
    x, t = torch.randn(5, 7, generator=generator(0)), torch.arange(5)
    out = denoiser.eval()(x, t)
    assert out.size() == (5, 3, 7)
    for m in range(3):
        expected = textbook.denoise(textbook_params(denoiser, m), x, t,
                                    normalize=normalize)
        assert_close(out[:, m], expected)


def test_dropout_of_the_input(double):
    denoiser = random_diffusion(7, 1, seed=0, dropout=0.5).denoiser
    x, t = torch.randn(5, 7, generator=generator(0)), torch.arange(5)
    torch.manual_seed(3)
    out = denoiser(x, t)
    torch.manual_seed(3)
    mask = torch.nn.functional.dropout(torch.ones_like(x), 0.5)
    assert set(mask.unique().tolist()) == {0., 2.}
    expected = textbook.denoise(textbook_params(denoiser, 0), x, t,
                                dropout_mask=mask)
    assert_close(out[:, 0], expected)


def test_time_code():
    denoiser = random_diffusion(3, 1, seed=0, time_channels=4).denoiser
    assert denoiser.freq.tolist() == pytest.approx([1., 0.01])
