from typing import Any, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _RowNormalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        norm = x.norm(dim=-1, keepdim=True).clamp_(min=eps)
        out = x / norm
        ctx.save_for_backward(out, norm)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any,
                 grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        out, norm = ctx.saved_tensors
        dot = (grad * out).sum(dim=-1, keepdim=True)
        return torch.addcmul(grad, out, dot, value=-1).div_(norm), None


def row_normalize(x: Tensor, eps: float = 1e-12) -> Tensor:
    r"""Divides every row by its Euclidean norm, at least :obj:`eps`: equal to
    :meth:`torch.nn.functional.normalize`, whose gradient passes over memory
    three times as often, and can be differentiated again.

    Args:
        x (torch.Tensor): The rows :math:`(N, F)`.
        eps (float, optional): The smallest divisor. (default: :obj:`1e-12`)
    """
    return _RowNormalize.apply(x, eps)
