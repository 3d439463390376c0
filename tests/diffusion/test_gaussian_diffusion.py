import pytest
import torch
from oracle import assert_close, generator, textbook_schedule

from diffmm_pyg.diffusion import GaussianDiffusion
from diffmm_pyg.testing import textbook


@pytest.mark.parametrize('kwargs', [
    {},
    {'num_steps': 1},
    {'num_steps': 40, 'noise_scale': 1.},
    {'first_beta': 1e-4},
    {'loss_weighting': 'uniform'},
], ids=str)
def test_buffers_equal_textbook(double, kwargs):
    process = GaussianDiffusion(**kwargs)
    expected = textbook_schedule(process)
    for ours, theirs in [('betas', ) * 2, ('alphas_cumprod', ) * 2,
                         ('posterior_mean_coef1', ) * 2,
                         ('posterior_mean_coef2', ) * 2,
                         ('posterior_variance', ) * 2,
                         ('loss_weights', 'loss_weight')]:
        assert_close(getattr(process, ours), expected[theirs], floor=0.,
                     what=ours)


def test_add_noise_and_step(double):
    process, g = GaussianDiffusion(num_steps=4), generator(0)
    x, noise = torch.randn(2, 6, 3, generator=g)
    t = torch.tensor([3, 0, 1, 2, 2, 0])
    expected = textbook.add_noise(x, t, noise, textbook_schedule(process))
    assert_close(process.add_noise(x, noise, t), expected)
    # The prediction itself comes last.
    assert_close(process.step(x, 0, noise), x)
    # By definition: the mean of q(x_{t-1} | x_t, x_0), here of t = 2.
    a, b = process.alphas_cumprod[1], process.betas[2]
    precision = (1 - b) / b + 1 / (1 - a)
    mean = ((1 - b).sqrt() / b * noise + a.sqrt() / (1 - a) * x) / precision
    assert_close(process.step(x, 2, noise), mean)


def test_timesteps_are_uniform():
    t = GaussianDiffusion().sample_timesteps(20000, generator(0))
    count = t.bincount()
    assert count.numel() == 5
    assert (count - 4000).abs().max() < 5 * (20000 * 0.2 * 0.8)**0.5
