import torch
from torch import Tensor


def to_matmul_dtype(x: Tensor) -> Tensor:
    r"""Casts :obj:`x` to the type in which matrix products run: that of
    autocast where it is enabled, else its own. For use inside of
    :class:`torch.autograd.Function`, whose backward autocast does not reach.
    """
    if torch.is_autocast_enabled(x.device.type):
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x
