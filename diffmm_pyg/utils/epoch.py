import math
from typing import Callable, Dict, Tuple, Union

import torch
from torch import Tensor

from diffmm_pyg.errors import RunError
from diffmm_pyg.utils.random import keyed_generator


def train_epoch(
    loss: Callable[[Tensor, Tuple[int, ...]], Dict[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    num_examples: int,
    batch_size: int,
    key: Tuple[int, ...],
    name: str,
    device: Union[str, torch.device] = 'cpu',
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> Dict[str, float]:
    r"""Takes one step of an optimizer for every batch of shuffled examples,
    and returns the means of the losses over batches.

    Args:
        loss (Callable): Maps the indices of the examples of a batch and a key
            for random draws to a dictionary of scalars, of which :obj:`loss`
            is minimized.
        optimizer (torch.optim.Optimizer): The optimizer.
        num_examples (int): The number of examples.
        batch_size (int): The number of examples of a batch.
        key (Tuple[int]): The key of the shuffling, *i.e.* the seed, the epoch
            and what else tells it from others; that of a batch has its number
            in addition.
        name (str): What is trained, for an error.
        device (str, optional): The device of the indices.
            (default: :obj:`"cpu"`)
        backward (Callable, optional): How gradients are computed.
            (default: :meth:`torch.Tensor.backward`)

    Raises:
        RunError: If the mean of :obj:`loss` is not finite.
    """
    perm = torch.randperm(num_examples, generator=keyed_generator(*key))
    batches = perm.to(device).split(batch_size)
    totals: Dict[str, Tensor] = {}
    for step, index in enumerate(batches):
        losses = loss(index, (*key, step))
        backward(losses['loss'])
        optimizer.step()
        optimizer.zero_grad()  # Gradients are not to outlive their epoch.
        for part, value in losses.items():
            totals[part] = totals.get(part, 0.) + value.detach()
    means = {part: float(total) / len(batches)
             for part, total in totals.items()}
    if not math.isfinite(means['loss']):
        raise RunError(f"The loss of phase '{name}' is not finite in epoch "
                       f"{key[1] + 1}; lower 'lr' (or look for extreme "
                       f"features), and train again")
    return means
