from typing import Tuple

import torch
from torch import Tensor

# Exponentials that do not count beside 1 are 0: a CPU takes up to 20 times as
# long for products with numbers so small that they are not normalized.
MIN_EXPONENT = -50.


def to_matmul_dtype(x: Tensor) -> Tensor:
    r"""Casts :obj:`x` to the type in which matrix products run: that of
    autocast where it is enabled, else its own. For use inside of
    :class:`torch.autograd.Function`, whose backward autocast does not reach.
    """
    if torch.is_autocast_enabled(x.device.type):
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x


def shifted_exp(x: Tensor, inplace: bool = False) -> Tuple[Tensor, Tensor]:
    r"""Returns the exponentials of how much less entries are than the largest
    one of their row, and these largest entries.

    Args:
        x (torch.Tensor): The exponents, of shape :obj:`[N, K]`.
        inplace (bool, optional): If set to :obj:`True`, the exponentials take
            their place. (default: :obj:`False`)

    Returns:
        Tensors of shape :obj:`[N, K]` and :obj:`[N, 1]`.
    """
    shift = x.amax(dim=1, keepdim=True)
    # Where all entries are infinite, so would be the difference.
    shift.clamp_(min=torch.finfo(shift.dtype).min)
    x = x.sub_(shift) if inplace else x - shift
    return torch.threshold_(x, MIN_EXPONENT, -torch.inf).exp_(), shift


def sum_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    r"""Returns the sums of the rows of :obj:`x`, of shape :obj:`[N, K]`, in a
    type of no less precision.
    """
    if x.dtype == torch.half:  # They may be beyond its range.
        return x.sum(dim=1, dtype=dtype)
    # Sums are taken in full precision and rounded once. To ask for another
    # type would cast all of `x` first.
    return x.sum(dim=1).to(dtype)
