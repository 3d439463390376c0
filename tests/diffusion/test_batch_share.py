import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_inputs import make_inputs
from oracle import (
    assert_close,
    assert_grads_close,
    random_diffusion,
    random_rows,
)

from diffmm_pyg.diffusion import noisy_rows
from diffmm_pyg.utils.processes import Processes


@pytest.mark.parametrize('likelihood, corruption', [
    ('gaussian', 'noise'), ('multinomial', 'noise'), ('multinomial', 'mask')])
@pytest.mark.parametrize('num_sampled', [None, 4])
@given(
    num_rows=st.integers(1, 7),  # Fewer and more than there are processes.
    size=st.integers(1, 4),
    block=st.sampled_from([5, 2**24]),  # Noise in several blocks, or in one.
    with_inputs=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_loss_is_the_mean_over_processes(double, likelihood, corruption,
                                         num_sampled, num_rows, size, block,
                                         with_inputs, seed):
    diffusion = random_diffusion(9, 2, seed, likelihood=likelihood,
                                 corruption=corruption, normalize=True,
                                 num_sampled_items=num_sampled)
    rows, _ = random_rows(num_rows, 9, seed)
    features, emb, masks, inputs = make_inputs(diffusion, num_rows, seed, True)
    if corruption == 'mask':
        inputs = {'mask': inputs['mask']}

    def loss():
        return diffusion.loss(rows, features, emb, masks, (seed, 3),
                              **(inputs if with_inputs else {}))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(noisy_rows, 'MAX_BLOCK_NUMEL', block)
        losses = []
        for rank in range(size):
            with Processes(rank, size).sharing():
                losses.append(loss())
        expected = loss()
        means = {name: torch.stack([x[name] for x in losses]).mean()
                 for name in expected}
        for name, value in expected.items():
            assert_close(means[name], value, what=name)
        assert_grads_close(means['loss'], expected['loss'],
                           diffusion.named_parameters())
