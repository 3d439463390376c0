import random
from typing import Any, Dict, Union

import numpy as np
import torch
from torch import Tensor


def keyed_generator(
    *key: int,
    device: Union[str, torch.device] = 'cpu',
) -> torch.Generator:
    r"""Returns a random number generator whose stream depends on
    :obj:`key` alone, *e.g.*, on seed, epoch and step, so that any draw can
    be repeated without replaying those before it.

    Args:
        *key (int): The key.
        device (str or torch.device, optional): The device of the generator.
            (default: :obj:`"cpu"`)
    """
    # Zeros at the end of an entropy sequence do not count, its length does.
    entropy = (len(key), *key)
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    generator = torch.Generator(device=device)
    return generator.manual_seed(int(state) & (2**63 - 1))


def dropout_mask(num_rows: int, num_cols: int, p: float,
                 generator: torch.Generator) -> Tensor:
    r"""Draws a boolean mask of shape :obj:`[num_rows, num_cols]` that is
    :obj:`False` with probability :obj:`p`, rounded to a multiple of
    :math:`2^{-16}`.

    Every 64 random bits decide four entries, which takes an eighth of the
    time of a Bernoulli draw.

    Args:
        num_rows (int): The number of rows.
        num_cols (int): The number of columns.
        p (float): The dropout probability.
        generator (torch.Generator): What draws, on the device of the mask.
    """
    num_words = (num_rows * num_cols + 3) // 4
    words = torch.empty(num_words, dtype=torch.long, device=generator.device)
    # All 64 bits are wanted: `random_` on its own leaves the sign bit at 0.
    words.random_(-2**63, None, generator=generator)
    draws = words.view(torch.int16)[:num_rows * num_cols]
    return (draws >= quantized_threshold(p)).view(num_rows, num_cols)


def quantized_threshold(p: float) -> int:
    r"""Returns the 16-bit integer below which a draw counts as dropped."""
    return round(p * 2**16) - 2**15


def quantized_keep(p: float) -> float:
    r"""Returns the exact probability with which :meth:`dropout_mask` keeps
    an entry.
    """
    return (2**15 - quantized_threshold(p)) / 2**16


def keyed_dropout(x: Tensor, p: float, *key: int) -> Tensor:
    r"""Sets entries of a matrix to zero with probability :obj:`p` and
    rescales the others, as :meth:`torch.nn.functional.dropout` does, by draws
    that depend on :obj:`key` alone.
    """
    if p == 0:
        return x
    mask = dropout_mask(x.size(0), x.size(1), p,
                        keyed_generator(*key, device=x.device))
    return x * (mask.to(x.dtype) / quantized_keep(p))


def random_ranks(row: Tensor, rowptr: Tensor,
                 generator: torch.Generator) -> Tensor:
    r"""Draws an order of the entries of every row, and returns the rank
    :obj:`[nnz]` of each in its row, from 0.

    Args:
        row (torch.Tensor): The row of every entry.
        rowptr (torch.Tensor): The number of entries of all rows before one.
        generator (torch.Generator): What draws, on the device of the rows.
    """
    perm = torch.randperm(row.numel(), generator=generator, device=row.device)
    perm = perm[row[perm].argsort(stable=True)]
    rank = torch.arange(row.numel(), device=row.device) - rowptr[row[perm]]
    return torch.empty_like(rank).scatter_(0, perm, rank)


def global_random_state() -> Dict[str, Any]:
    r"""Returns the states of the global random number generators of Python,
    NumPy and torch, as plain values. No draw of this package depends on them,
    those of modules of others may.
    """
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=True)
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return {
        'python': [version, list(words), gauss],
        'numpy': [numpy[0], numpy[1].tolist(), *numpy[2:]],
        'torch': [state.numpy().tobytes().hex() for state in states],
    }


def set_global_random_state(state: Dict[str, Any]) -> None:
    r"""Sets them back to what :meth:`global_random_state` returned."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(state['numpy']))
    cpu, *cuda = [torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
                  for text in state['torch']]
    torch.set_rng_state(cpu)
    if torch.cuda.is_initialized():
        for device, value in zip(range(torch.cuda.device_count()), cuda):
            torch.cuda.set_rng_state(value, device)
