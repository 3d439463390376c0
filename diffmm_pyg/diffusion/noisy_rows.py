from typing import Any, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffmm_pyg.diffusion.batch_share import BatchShare
from diffmm_pyg.utils.precision import to_matmul_dtype
from diffmm_pyg.utils.random import (
    dropout_mask,
    keyed_generator,
    quantized_keep,
)
from diffmm_pyg.utils.sparse_rows import SparseRows

# The largest number of entries of noised rows that are in memory at a time:
MAX_BLOCK_NUMEL = 2**24


class NoisyRows(NamedTuple):
    r"""Rows :math:`x_t = s \cdot x_0 + \sigma \cdot \epsilon` with dropout,
    made one block of columns at a time. Noise and mask of a block depend on
    :obj:`seed` and on the block alone, so that they can be made again, unless
    they are given.

    Args:
        rows (SparseRows): The clean rows :math:`x_0`.
        signal (torch.Tensor): The scale :math:`s` of every row, :obj:`[N]`.
        std (torch.Tensor): The scale :math:`\sigma` of the noise of every
            row, :obj:`[N]`.
        dropout (float): The probability with which entries are set to zero;
            the others are rescaled.
        seed (Tuple[int], optional): The key of the random draws.
        noise (torch.Tensor, optional): The noise :obj:`[N, num_cols]`, in
            place of draws.
        mask (torch.Tensor, optional): The entries :obj:`[N, num_cols]` that
            dropout keeps, in place of draws.
        share (BatchShare, optional): Where the rows are in the batch that is
            drawn for; all of it if not given.
    """
    rows: SparseRows
    signal: Tensor
    std: Tensor
    dropout: float = 0.0
    seed: Tuple[int, ...] = (0, )
    noise: Optional[Tensor] = None
    mask: Optional[Tensor] = None
    share: Optional[BatchShare] = None

    @property
    def num_drawn(self) -> int:
        return (self.rows if self.share is None else
                self.share.batch).num_rows

    @property
    def block_size(self) -> int:
        return max(1, MAX_BLOCK_NUMEL // max(1, self.num_drawn))

    @property
    def keep_prob(self) -> float:
        if self.mask is not None:
            return 1 - self.dropout
        return quantized_keep(self.dropout)

    def block(self, start: int, end: int) -> Tuple[Tensor, Tensor]:
        r"""Returns the columns :obj:`start` to :obj:`end` after dropout, not
        yet rescaled, and the squared norm of every row of the block before
        dropout.
        """
        size = (self.num_drawn, end - start)
        device = self.signal.device
        generator = keyed_generator(*self.seed, start, device=device)
        if self.noise is not None:
            x = self.noise[:, start:end] * self.std.view(-1, 1)
        else:
            x = self._own(torch.randn(size, generator=generator, device=device,
                                      dtype=self.signal.dtype))
            x.mul_(self.std.view(-1, 1))

        row, col = self.rows.edge_index
        if end - start < self.rows.num_cols:
            inside = (col >= start) & (col < end)
            row, col = row[inside], col[inside] - start
        x[row, col] += self.signal[row]
        sq_norm = torch.linalg.vector_norm(x, dim=1).square()

        if self.mask is not None:
            x = x * self.mask[:, start:end]
        elif self.dropout > 0:
            x.mul_(self._own(dropout_mask(*size, self.dropout, generator)))
        return x, sq_norm

    def _own(self, draws: Tensor) -> Tensor:
        return draws if self.share is None else self.share.of_rows(draws)


class _NoisyMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: NoisyRows,
                weight: Tensor) -> Tuple[Tensor, Tensor]:
        ctx.x, ctx.size = x, weight.size()
        weight = to_matmul_dtype(weight)
        ctx.dtype = weight.dtype
        out = x.signal.new_zeros(x.rows.num_rows, weight.size(1))
        sq_norm = torch.zeros_like(x.signal)
        for start in range(0, weight.size(0), x.block_size):
            end = min(start + x.block_size, weight.size(0))
            block, sq = x.block(start, end)
            block = block.to(weight.dtype)
            out += block @ weight[start:end]
            sq_norm += sq
        # A single block is worth keeping; several are made again instead.
        ctx.saved = block if x.block_size >= weight.size(0) else None
        ctx.mark_non_differentiable(sq_norm)
        scale = 1 / x.keep_prob
        return out.mul_(scale), sq_norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tuple[None, Tensor]:
        x = ctx.x
        out = grad.new_empty(ctx.size)
        grad = grad / x.keep_prob
        for start in range(0, ctx.size[0], x.block_size):
            end = min(start + x.block_size, ctx.size[0])
            block = ctx.saved
            if block is None:
                block = x.block(start, end)[0]
                block = block.to(ctx.dtype)
            if block.dtype == out.dtype:
                torch.mm(block.t(), grad, out=out[start:end])
            else:
                out[start:end] = block.t() @ grad.to(block.dtype)
        return None, out


def noisy_matmul(x: NoisyRows, weight: Tensor) -> Tuple[Tensor, Tensor]:
    r"""Returns the product of noised rows with a matrix :obj:`[num_cols, F]`,
    and the squared norm of every row before dropout. Gradients flow into
    :obj:`weight`; memory is one block of columns.
    """
    return _NoisyMatmul.apply(x, weight)
