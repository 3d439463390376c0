import pytest
import torch

from diffmm_pyg.errors import RunError
from diffmm_pyg.utils.epoch import train_epoch


def run(value, seen=None, **kwargs):
    param = torch.zeros((), requires_grad=True)

    def loss(index, key):
        if seen is not None:
            seen.append((index.tolist(), key))
        return {'loss': param + value(index), 'size': param * 0 + len(index)}

    optimizer = torch.optim.SGD([param], lr=0.25)
    return param, train_epoch(loss, optimizer, 7, 3, (4, 2), 'ranking',
                              **kwargs)


def test_one_step_per_batch_and_means_over_batches():
    seen = []
    param, means = run(lambda index: float(len(index)), seen)
    # The gradient is 1: three steps, each of -1/4.
    assert float(param.detach()) == -0.75 and param.grad is None
    assert means == {'loss': (3 + 2.75 + 0.5) / 3, 'size': (3 + 3 + 1) / 3}
    index, keys = zip(*seen, strict=True)
    assert sorted(sum(index, [])) == list(range(7))
    assert sum(index, []) != list(range(7))  # Shuffled.
    assert list(keys) == [(4, 2, 0), (4, 2, 1), (4, 2, 2)]


def test_gradients_as_told():
    param, _ = run(lambda index: 0.,
                   backward=lambda loss: (2 * loss).backward())
    assert float(param.detach()) == -1.5


def test_loss_that_is_not_finite():
    with pytest.raises(RunError, match="of phase 'ranking' is not finite in "
                       "epoch 3"):
        run(lambda index: float('nan'))
