import math
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffmm_pyg.utils.precision import (
    shifted_exp,
    sum_rows,
    to_matmul_dtype,
)
from diffmm_pyg.utils.processes import current_processes

# The largest number of products that are in memory at a time; small enough
# for the caches of a CPU, where most of the time goes into memory traffic:
MAX_BLOCK_NUMEL = 2**20
# Matrix units want larger pieces of work, and so does a GPU:
LOW_PRECISION_FACTOR = 4
CUDA_FACTOR = 32
# Of the rows of a piece in low precision. oneDNN compiles a kernel for every
# shape it has not met, which takes longer than to run it; let there be few.
ROW_MULTIPLE = 64
# Exponents that are known not to exceed this need not be shifted:
MAX_EXPONENT = 40.


class _WeightedLogSumExp(torch.autograd.Function):
    # The gradient of a weighted sum of log-sum-exps needs the exponentials
    # that the sums are made of. Taken while these are in memory, it costs two
    # products more, and each exponential is computed once.
    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor, weight: Tensor,
                scale: float, bias: Optional[Tensor],
                bound: Optional[float]) -> Tensor:
        num_rows, other_low = x.size(0), to_matmul_dtype(other)
        chunk_size, pad = _chunk_size(num_rows, other_low)
        x, weight = F.pad(x, (0, 0, 0, pad)), F.pad(weight, (0, pad))
        x_low = x.to(other_low.dtype)
        grad_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        grad_other = None
        if ctx.needs_input_grad[1]:
            grad_other = torch.zeros_like(other)

        total = x.new_zeros(())
        buffer = x_low.new_empty(chunk_size, other.size(0))
        for start in range(0, x.size(0), chunk_size):
            rows = slice(start, start + chunk_size)
            prob = torch.mm(x_low[rows] * scale, other_low.t(),
                            out=buffer[:x.size(0) - start])
            if bias is not None:
                prob += bias
            shift = None
            if (bound is None or bound > MAX_EXPONENT
                    or prob.dtype == torch.half):
                prob, shift = shifted_exp(prob, inplace=True)
            else:
                prob.exp_()
            # Where all biases are infinite, the sum is 0, as are the weights.
            norm = sum_rows(prob, x.dtype)
            norm.clamp_(min=torch.finfo(norm.dtype).tiny)
            lse = norm.log()
            if shift is not None:
                lse += shift.view(-1)
            total += (weight[rows] * lse).sum()

            factor = (scale * weight[rows] / norm).view(-1, 1)
            if grad_x is not None:
                grad_x[rows] = factor * (prob @ other_low)
            if grad_other is not None:
                scaled = (factor * x[rows]).to(prob.dtype)
                if prob.dtype == grad_other.dtype:
                    grad_other.addmm_(prob.t(), scaled)
                else:
                    grad_other += prob.t() @ scaled
        grad_x = None if grad_x is None else grad_x[:num_rows]
        ctx.save_for_backward(grad_x, grad_other)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        grads = [None if x is None else grad * x for x in ctx.saved_tensors]
        return *grads, None, None, None, None


def _chunk_size(num_rows: int, other: Tensor) -> Tuple[int, int]:
    # The number of rows that are multiplied with `other` at a time, and of
    # zeros to add to the rows.
    is_low = other.dtype.itemsize < 4 and not other.is_cuda
    max_numel = MAX_BLOCK_NUMEL
    if other.is_cuda:
        max_numel *= CUDA_FACTOR
    elif is_low:
        max_numel *= LOW_PRECISION_FACTOR
    size = max(1, max_numel // max(1, other.size(0)))
    if not is_low or size < ROW_MULTIPLE:
        return max(1, min(size, num_rows)), 0
    # Pieces of about the same size:
    num_chunks = max(1, math.ceil(num_rows / (size - size % ROW_MULTIPLE)))
    size = math.ceil(num_rows / num_chunks / ROW_MULTIPLE) * ROW_MULTIPLE
    return max(1, size), -num_rows % max(1, size)


def weighted_logsumexp(
    x: Tensor,
    other: Tensor,
    weight: Tensor,
    scale: float = 1.0,
    bias: Optional[Tensor] = None,
    bound: Optional[float] = None,
) -> Tensor:
    r"""Returns

    .. math::
        \sum_i w_i \log \sum_j \exp ( s \cdot x_i^{\top} y_j + b_j )

    one block of rows at a time: memory does not grow with the product of
    their numbers. Gradients flow into :obj:`x` and :obj:`other`. Processes
    that share their work take each :math:`i` once.

    Args:
        x (torch.Tensor): The vectors :math:`x_i`, of shape :obj:`[N, F]`.
        other (torch.Tensor): The vectors :math:`y_j`, of shape
            :obj:`[K, F]`.
        weight (torch.Tensor): The constant weights :math:`w_i`, :obj:`[N]`.
        scale (float, optional): The factor :math:`s`. (default: :obj:`1.0`)
        bias (torch.Tensor, optional): The constant biases :math:`b_j`, of
            shape :obj:`[K]`, of which at least one is finite.
            (default: :obj:`None`)
        bound (float, optional): What no exponent exceeds in magnitude, where
            that is known; saves a search for the maximum if it is small.
            (default: :obj:`None`)
    """
    processes = current_processes()
    x, weight = processes.narrow(x), processes.narrow(weight)
    return processes.size * _WeightedLogSumExp.apply(x, other, weight, scale,
                                                     bias, bound)
