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


def sum_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    r"""Returns the sums of the rows of :obj:`x`, of shape :obj:`[N, K]`, in a
    type of no less precision.
    """
    if x.dtype == torch.half:  # They may be beyond its range.
        return x.sum(dim=1, dtype=dtype)
    # Sums are taken in full precision and rounded once. To ask for another
    # type would cast all of `x` first.
    return x.sum(dim=1).to(dtype)
