r"""What computes sparse products on a device.

This file is also run on its own, in a child process, where it must not need
the package around it: so it imports nothing of it.
"""
import sys
from functools import lru_cache
from typing import Union

import torch


def _multiply(device: torch.device) -> None:
    # One product and its gradient, forward and backward kernels both:
    from torch_sparse import SparseTensor, matmul

    value = torch.tensor([2.0, 3.0], device=device, requires_grad=True)
    index = torch.tensor([0, 1], device=device)
    adj = SparseTensor(row=index, col=1 - index, value=value,
                       sparse_sizes=(2, 2))
    x = torch.tensor([[1.0], [10.0]], device=device, requires_grad=True)
    out = matmul(adj, x)
    grads = torch.autograd.grad(out.sum(), [value, x])
    for name, result, expected in [('product', out, [20.0, 3.0]),
                                   ('gradient', grads[0], [10.0, 1.0]),
                                   ('gradient', grads[1], [3.0, 2.0])]:
        if result.flatten().tolist() != expected:
            raise RuntimeError(f'wrong {name}: {result.flatten().tolist()} '
                               f'instead of {expected}')


@lru_cache(maxsize=None)
def _sparse_backend(device: str) -> str:
    try:
        _multiply(torch.device(device))
    except (ImportError, OSError, RuntimeError, AttributeError):
        return 'torch'
    return 'torch-sparse'


def sparse_backend(device: Union[str, torch.device]) -> str:
    r"""Returns what computes sparse products on :obj:`device`:
    :obj:`'torch-sparse'` where a small product with its gradient comes out
    right, else :obj:`'torch'` (the package is missing, or was built for the
    CPU alone and :obj:`device` is a GPU). Tried once per device and process.
    """
    return _sparse_backend(str(torch.device(device)))


if __name__ == '__main__':
    _multiply(torch.device(sys.argv[1]))
