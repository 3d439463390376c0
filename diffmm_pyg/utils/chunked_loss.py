from typing import Any, Callable, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fn: Callable[..., Tensor], chunk_size: int,
                rows: Tensor, *shared: Tensor) -> Tensor:
        grads = [torch.zeros_like(x) for x in (rows, *shared)]
        parts = []
        for start in range(0, rows.size(0), chunk_size):
            end = min(start + chunk_size, rows.size(0))
            with torch.enable_grad():
                leaves = [rows[start:end], *shared]
                leaves = [x.detach().requires_grad_() for x in leaves]
                loss = fn(start, end, *leaves)
                chunk_grads = torch.autograd.grad(loss.sum(), leaves)
            grads[0][start:end] = chunk_grads[0]
            for grad, chunk_grad in zip(grads[1:], chunk_grads[1:],
                                        strict=True):
                grad += chunk_grad
            parts.append(loss.detach())
        ctx.save_for_backward(*grads)
        return torch.stack(parts).sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        # The gradients above are those of the sum over all parts of the loss.
        return None, None, *[grad[0] * x for x in ctx.saved_tensors]


def chunked_loss(
    fn: Callable[..., Tensor],
    rows: Tensor,
    *shared: Tensor,
    chunk_size: int,
) -> Tuple[Tensor, Tensor]:
    r"""Computes a sum over rows of a loss, with its gradient, one chunk of
    rows at a time, so that what the loss needs in between is never in memory
    for all rows.

    Args:
        fn (Callable): Maps :obj:`(start, end, rows[start:end], *shared)` to
            the parts of the loss of these rows, a vector whose sum is the
            loss.
        rows (torch.Tensor): What every row has of its own, :obj:`[N, *]`.
        *shared (torch.Tensor): What all rows share.
        chunk_size (int): The number of rows of a chunk.

    Returns:
        The loss, differentiable in :obj:`rows` and :obj:`shared`, and its
        parts, which are not.
    """
    parts = _ChunkedLoss.apply(fn, chunk_size, rows, *shared)
    # The parts enter the sum with the same gradient, which is what
    # `backward` relies on.
    return parts.sum(), parts.detach()
