from typing import Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from diffmm_pyg.errors import ConfigError, DataError


def split_edges(
    edge_index: Tensor,
    val_ratio: float = 0.1,
    test_ratio: float = 0.1,
    seed: int = 0,
    time: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor, Tensor]:
    r"""Splits the interactions of every user into training, validation and
    test ones. Of a user with three or more, at least one goes into each split
    whose ratio is positive; of a user with fewer, all are trained on. A pair
    that is there repeatedly counts once, at its earliest time.

    Args:
        edge_index (torch.Tensor): The interactions.
        val_ratio (float, optional): The share for validation.
            (default: :obj:`0.1`)
        test_ratio (float, optional): The share for testing.
            (default: :obj:`0.1`)
        seed (int, optional): The seed of the random order that decides, or
            that decides among equal times. (default: :obj:`0`)
        time (torch.Tensor, optional): When each interaction was. If given,
            the latest of a user are tested, and those before validated.
            (default: :obj:`None`)

    Shapes:
        - **edge_index:** :math:`(2, E)`
        - **time:** :math:`(E)` or :math:`(E, 1)`
        - **output:** three of shape :math:`(2, \cdot)`

    Raises:
        ConfigError: If a ratio is negative, or both leave nothing to train.
        DataError: If there is not one time per interaction.
    """
    if min(val_ratio, test_ratio) < 0 or val_ratio + test_ratio >= 1:
        raise ConfigError(f"val_ratio={val_ratio} and test_ratio={test_ratio} "
                          f"must be at least 0, and less than 1 together")
    if time is not None:
        if time.numel() != edge_index.size(1):
            raise DataError(f"'time' has shape {list(time.shape)}; it must be "
                            f"[{edge_index.size(1)}], one per interaction")
        time = time.reshape(-1)
    edge_index, time = _merge_repeated(edge_index, time)
    user = edge_index[0].numpy()
    order = np.random.default_rng(seed).permutation(user.size)
    if time is not None:
        order = order[np.argsort(time.numpy()[order], kind='stable')]
    order = order[np.argsort(user[order], kind='stable')]
    user = user[order]

    _, start, inverse, degree = np.unique(user, return_index=True,
                                          return_inverse=True,
                                          return_counts=True)
    num_test = _held_out(degree, test_ratio, degree - 1)
    num_val = _held_out(degree, val_ratio, degree - 1 - num_test)
    # How many of the user's interactions come after this one:
    later = (start + degree)[inverse] - np.arange(user.size) - 1
    is_test = later < num_test[inverse]
    is_val = ~is_test & (later < (num_test + num_val)[inverse])

    edge_index = edge_index[:, torch.from_numpy(order)]
    masks = [~(is_test | is_val), is_val, is_test]
    train, val, test = [edge_index[:, torch.from_numpy(m)] for m in masks]
    return train, val, test


def _merge_repeated(
    edge_index: Tensor,
    time: Optional[Tensor],
) -> Tuple[Tensor, Optional[Tensor]]:
    item_and_user = edge_index.flip(0).numpy()
    keys = item_and_user if time is None else [time.numpy(), *item_and_user]
    order = torch.from_numpy(np.lexsort(keys))
    edge_index = edge_index[:, order]
    first = torch.ones(order.numel(), dtype=torch.bool)
    first[1:] = (edge_index[:, 1:] != edge_index[:, :-1]).any(dim=0)
    if time is not None:
        time = time[order][first]
    return edge_index[:, first], time


def _held_out(degree: np.ndarray, ratio: float,
              most: np.ndarray) -> np.ndarray:
    if ratio == 0:
        return np.zeros_like(degree)
    num = np.maximum((ratio * degree).astype(degree.dtype), 1)
    return np.where(degree < 3, 0, np.minimum(num, most))
