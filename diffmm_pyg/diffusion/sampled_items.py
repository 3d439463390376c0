from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from diffmm_pyg.diffusion.noisy_rows import NoisyRows, noisy_matmul
from diffmm_pyg.utils.random import dropout_mask, keyed_generator
from diffmm_pyg.utils.sparse_rows import SparseRows
from torch_geometric.utils import degree


class SampledItems(NamedTuple):
    r"""The items that the loss of a batch of rows touches: a sample of all
    items, which stands for the zeros of the rows, and the ones of the rows.

    Args:
        touched (torch.Tensor): These items, first the sample, then the others,
            of shape :obj:`[C]`.
        num_sampled (int): The size :math:`S` of the sample.
        rows (SparseRows): The rows, whose columns are positions in
            :obj:`touched`, :obj:`[N, C]`.
        num_items (int): The number of all items.
    """
    touched: Tensor
    num_sampled: int
    rows: SparseRows
    num_items: int

    @classmethod
    def draw(cls, rows: SparseRows, num_sampled: int,
             generator: torch.Generator) -> 'SampledItems':
        r"""Draws :obj:`num_sampled` distinct items uniformly."""
        perm = torch.randperm(rows.num_cols, generator=generator,
                              device=rows.col.device)
        return cls.from_sample(rows, perm[:num_sampled].sort().values)

    @classmethod
    def from_sample(cls, rows: SparseRows, sample: Tensor) -> 'SampledItems':
        r"""Takes the distinct items :obj:`sample`, of shape :obj:`[S]`."""
        num_sampled = sample.numel()
        position = sample.new_full((rows.num_cols, ), -1)
        position[sample] = torch.arange(num_sampled, device=sample.device)
        others = rows.col[position[rows.col] < 0].unique()
        touched = torch.cat([sample, others])
        position[touched] = torch.arange(touched.numel(),
                                         device=sample.device)
        edge_index = torch.stack([rows.row, position[rows.col]])
        local = SparseRows.from_edge_index(edge_index, rows.num_rows,
                                           touched.numel())
        return cls(touched, num_sampled, local, rows.num_cols)

    @property
    def num_zeros_per_sample(self) -> Tensor:
        r"""The number of zeros of every row for which each one that is in the
        sample stands, of shape :obj:`[N]`.
        """
        row, col = self.rows.edge_index
        num_ones = degree(row[col < self.num_sampled], self.rows.num_rows,
                          dtype=torch.long)
        num_zeros = (self.num_sampled - num_ones).clamp(min=1)
        return (self.num_items - self.rows.count) / num_zeros


def sampled_noisy_matmul(x: NoisyRows, items: SampledItems,
                         weight: Tensor) -> Tuple[Tensor, Tensor]:
    r"""Returns what :meth:`noisy_matmul` does if noise falls on the sampled
    items only. It is scaled by :math:`\sqrt{|\mathcal{I}| / S}`, so that,
    over all samples, the covariance of its product with :obj:`weight` and its
    expected squared norm are those of noise on all items.

    Args:
        x (NoisyRows): The noised rows, :obj:`[N, num_cols]`. Of noise and
            mask, if given, only the entries of :obj:`items` count.
        items (SampledItems): The items of these rows.
        weight (torch.Tensor): The matrix :obj:`[num_cols, F]`.
    """
    num_sampled = items.num_sampled
    weight = weight.index_select(0, items.touched)
    sampled = x._replace(
        rows=items.rows,
        std=x.std * (items.num_items / num_sampled)**0.5,
        noise=None if x.noise is None else x.noise[:, items.touched],
        mask=None if x.mask is None else x.mask[:, items.touched],
    )
    out, sq_norm = noisy_matmul(sampled, weight[:num_sampled])

    # The ones outside of the sample, which bear no noise:
    row, col = items.rows.edge_index
    outside = col >= num_sampled
    count = degree(row[outside], items.rows.num_rows, dtype=x.signal.dtype)
    kept = outside & _keep(sampled, row, col, num_sampled)
    scale = (x.signal / x.keep_prob).view(-1, 1)
    return (out + scale * items.rows.filter(kept).matmul(weight),
            sq_norm + x.signal.square() * count)


def _keep(x: NoisyRows, row: Tensor, col: Tensor, num_sampled: int) -> Tensor:
    if x.mask is not None:
        return x.mask[row, col]
    # The key of the block of noise that would be next:
    generator = keyed_generator(*x.seed, num_sampled, device=row.device)
    num_ones = (row if x.share is None else x.share.batch.col).numel()
    keep = dropout_mask(1, num_ones, x.dropout, generator).view(-1)
    return keep if x.share is None else x.share.of_ones(keep)
