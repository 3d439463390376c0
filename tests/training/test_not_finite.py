r"""Losses that are not finite."""
from signal import SIGTERM

import pytest
import torch
from small import (
    SHORT,
    assert_same_run,
    go_on,
    interrupt,
    small_fit,
    small_model,
    with_losses,
)
from torch.utils._python_dispatch import TorchDispatchMode

from diffmm_pyg.errors import RunError
from diffmm_pyg.nn.models import BPRMF
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints
from diffmm_pyg.utils.interrupt import Interrupted


def spoil(*positions, value=float('nan')):
    r"""Makes losses not finite, at an epoch, a phase and a batch."""
    def change(losses, key):
        if key[1:] in positions:
            return {**losses, 'loss': losses['loss'] * value}
        return losses

    return change


def spoil_gradient(model, position):
    r"""Lets a finite loss have a gradient that is not."""
    def change(losses, key):
        if key[1:] == position:
            zero = (0 * model.user_embedding.weight).sum()
            return {**losses, 'loss': losses['loss'] + 0 * zero.sqrt()}
        return losses

    return with_losses(model, change)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_stops_and_names_the_batch(data, straight, tmp_path, value):
    model = with_losses(small_model(data), spoil((1, 1, 2), value=value))
    with pytest.raises(RunError, match=r"The loss of batch 3 of phase "
                       r"'ranking' is not finite in epoch 2; lower 'lr' .* go "
                       r"on by '--resume .*' from the last good checkpoint "
                       r"\(epoch 2, phase 1, batch 1\)$"):
        small_fit(data, model, out=str(tmp_path), **SHORT)
    assert_same_run(go_on(data, tmp_path), straight)


def test_no_checkpoint_is_not_finite(data, straight, tmp_path):
    # The parameters already are when a checkpoint is due within the phase.
    model = with_losses(small_model(data), spoil((1, 1, 2)))
    with pytest.raises(RunError, match=r"batch 3 of .* checkpoint \(epoch 2, "
                       r"phase 2, batch 3\)"):
        small_fit(data, model, out=str(tmp_path), checkpoint_minutes=0.,
                  **SHORT)
    tensors = Checkpoints(str(tmp_path)).load().tensors
    assert all(x.isfinite().all() for x in tensors.values())
    assert_same_run(go_on(data, tmp_path), straight)


def test_parameters_that_are_not_finite(data, tmp_path):
    model = spoil_gradient(small_model(data), (1, 1, 0))
    with pytest.raises(RunError, match="Parameter 'user_embedding.weight' is "
                       "not finite in epoch 2.*epoch 2, phase 1, batch 1"):
        small_fit(data, model, out=str(tmp_path), batch_size=4096)


def test_skip(data, tmp_path):
    model = with_losses(small_model(data), spoil((1, 1, 0), (1, 1, 2)))
    run = small_fit(data, model, on_nan='skip', out=str(tmp_path / 'run'),
                    **SHORT)
    assert [row['ranking/skipped'] for row in run.history] == [0, 2, 0]
    assert [row['diffusion/skipped'] for row in run.history] == [0, 0, 0]
    assert [row['ranking/skipped'] for row in
            load(str(tmp_path / 'run')).history] == [0, 2, 0]

    # The same as if these batches were not there:
    def drop(losses, key):
        if key[1:] in [(1, 1, 0), (1, 1, 2)]:
            return {name: 0 * x for name, x in losses.items()}
        return losses

    expected = SkippingAdam.train(data, drop)
    assert run.history[0]['ranking/loss'] == (
        expected.history[0]['ranking/loss'])
    num = -(-run.graphs['observed'].size(1) // 40)
    assert run.history[1]['ranking/loss'] == pytest.approx(
        expected.history[1]['ranking/loss'] * num / (num - 2), rel=1e-6)
    for name, x in expected.state.items():
        assert x.equal(run.state[name])


class SkippingAdam(torch.optim.Adam):
    r"""Leaves everything as it is where all gradients are 0."""
    @classmethod
    def train(cls, data, drop):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim, 'Adam', cls)
            return small_fit(data, with_losses(small_model(data), drop),
                             **SHORT)

    def step(self, closure=None):
        params = [p for group in self.param_groups for p in group['params']]
        if any(p.grad is not None and p.grad.any() for p in params):
            return super().step(closure)


def test_skip_bad_gradients(data):
    model = spoil_gradient(small_model(data), (0, 1, 1))
    run = small_fit(data, model, on_nan='skip', **SHORT)
    assert run.history[0]['ranking/skipped'] == 1
    assert all(x.isfinite().all() for x in run.state.values())


def test_skip_everything(data):
    model = with_losses(small_model(data), spoil(
        *((0, 1, step) for step in range(99))))
    with pytest.raises(RunError, match="The losses of all batches of phase "
                       "'ranking' are not finite in epoch 1"):
        small_fit(data, model, on_nan='skip', **SHORT)


def test_skip_after_a_stop(data, tmp_path):
    bad = spoil((1, 1, 2))
    with pytest.raises(RunError):
        small_fit(data, with_losses(small_model(data), bad),
                  out=str(tmp_path), **SHORT)
    run = go_on(data, tmp_path, with_losses(small_model(data, seed=9), bad),
                on_nan='skip')
    assert load(str(tmp_path)).history[0]['ranking/skipped'] == 0
    expected = small_fit(data, with_losses(small_model(data), bad),
                         on_nan='skip', **SHORT)
    assert run.history[1]['ranking/skipped'] == 1
    for name, x in expected.state.items():
        assert x.equal(run.state[name])


def test_skipped_batches_are_counted_across_a_stop(data, tmp_path):
    def model(seed=0):
        return with_losses(small_model(data, seed=seed), spoil((1, 1, 2)))

    with pytest.raises(Interrupted):
        small_fit(data, interrupt(model(), (1, 1, 4), SIGTERM),
                  on_nan='skip', out=str(tmp_path), **SHORT)
    run = go_on(data, tmp_path, model(seed=9), on_nan='skip')
    assert run.history[1]['ranking/skipped'] == 1
    assert_same_run(run, small_fit(data, model(), on_nan='skip', **SHORT))


class Reads(TorchDispatchMode):
    r"""Counts values that the host reads, for which it waits for a GPU."""
    def __init__(self):
        super().__init__()
        self.num = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('on_nan', ['stop', 'skip'])
def test_only_skipping_waits_at_every_step(data, on_nan):
    nums = []
    for batch_size in [40, 60]:
        with Reads() as reads:
            run = small_fit(data, BPRMF(60, 40), epochs=1, on_nan=on_nan,
                            batch_size=batch_size)
        nums.append(reads.num)
    steps = [-(-run.graphs['observed'].size(1) // size) for size in [40, 60]]
    assert steps[0] > steps[1]
    # Whether the loss and the gradient are finite:
    per_step = 1 if on_nan == 'skip' else 0
    assert nums[0] - nums[1] == per_step * (steps[0] - steps[1])
