import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    assert_close,
    assert_grads_close,
    generator,
    precision,
    random_diffusion,
    random_rows,
    textbook_scores,
)

from diffmm_pyg.diffusion import noisy_rows, reverse
from diffmm_pyg.diffusion.reverse import HiddenReverse

SAMPLERS = {
    'posterior': 'gaussian',
    'softmax': 'multinomial',
    'direct': 'multinomial',
}


def denoised(diffusion, rows, **kwargs):
    denoiser = diffusion.denoiser
    hidden = HiddenReverse(denoiser, diffusion.process,
                           diffusion.sampler)(rows, **kwargs)
    out = torch.einsum('nmh,imh->mni', hidden, denoiser.weight_out) + \
        denoiser.bias_out.t().unsqueeze(1)
    if diffusion.likelihood == 'multinomial':
        out = out.log_softmax(dim=-1)
    return out


def check(dtype, sampler, num_rows, num_items, num_modalities, num_steps,
          normalize, noised, seed):
    with precision(dtype):
        diffusion = random_diffusion(
            num_items, num_modalities, seed, sampler=sampler,
            likelihood=SAMPLERS[sampler], num_steps=num_steps,
            normalize=normalize).eval()
        rows, x0 = random_rows(num_rows, num_items, seed)
        kwargs, expected_kwargs = {}, {}
        if noised:
            noise = torch.randn(x0.size(), generator=generator(seed))
            step = seed % num_steps
            kwargs = {'noise_step': step, 'noise': noise}
            expected_kwargs = {'noised_steps': step + 1, 'noise': noise}
        out = denoised(diffusion, rows, **kwargs)
        expected = torch.stack(
            textbook_scores(diffusion, x0, **expected_kwargs))
        assert_close(out, expected)
        if dtype == torch.double:
            weight = torch.randn(out.size(), generator=generator(seed))
            assert_grads_close((weight * out).sum(),
                               (weight * expected).sum(),
                               diffusion.named_parameters())


@pytest.mark.parametrize('sampler', SAMPLERS)
@pytest.mark.parametrize('dtype', [torch.double, torch.float])
@given(
    num_rows=st.integers(1, 8),
    num_items=st.integers(1, 12),
    num_modalities=st.integers(1, 3),
    num_steps=st.sampled_from([1, 2, 5]),
    normalize=st.booleans(),
    noised=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_dense_sampling(dtype, sampler, num_items, **kwargs):
    if dtype == torch.float and kwargs['normalize']:
        # The norm of a few entries may cancel to little more than rounding.
        num_items += 4
    check(dtype, sampler, num_items=num_items, **kwargs)


@pytest.mark.parametrize('sampler', SAMPLERS)
@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('noised', [False, True])
def test_blocks_that_do_not_divide(monkeypatch, sampler, normalize, noised):
    monkeypatch.setattr(noisy_rows, 'MAX_BLOCK_NUMEL', 5 * 3)
    monkeypatch.setattr(reverse, 'MAX_BLOCK_NUMEL', 7 * 2)
    check(torch.double, sampler, 5, 7, 2, 4, normalize=normalize,
          noised=noised, seed=1)


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_noise_is_that_of_the_seed(sampler):
    diffusion = random_diffusion(9, 2, seed=0, sampler=sampler,
                                 likelihood=SAMPLERS[sampler])
    rows, _ = random_rows(6, 9, seed=0)
    out = [
        denoised(diffusion, rows, noise_step=3, seed=s)
        for s in [(1, 0), (1, 0), (1, 6)]
    ]
    assert torch.equal(out[0], out[1])
    assert not torch.allclose(out[0], out[2])
