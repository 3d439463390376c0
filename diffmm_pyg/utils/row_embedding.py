from typing import Callable, Dict, Union

import torch
from torch import Tensor

from diffmm_pyg.utils.sparse_rows import SparseRows


class RowEmbedding:
    r"""Embeddings of users that end in their scaled interaction rows,
    :math:`[\mathbf{x}_u, s_u \mathbf{r}_u]`, and are made where they are
    indexed: with :math:`[\mathbf{y}_i, \mathbf{w}_i]` as those of the items,
    the inner product adds the scores of an item-item model
    :math:`\mathbf{W}` without a users times items matrix.

    Args:
        rows (SparseRows): The rows :math:`\mathbf{r}_u`.
        scale (torch.Tensor): The factors :math:`s_u`, :obj:`[N]`.
        dense (torch.Tensor): The embeddings :math:`\mathbf{x}_u`, of shape
            :obj:`[N, F]`, where :obj:`F` may be 0.
    """
    def __init__(self, rows: SparseRows, scale: Tensor, dense: Tensor):
        self.rows = rows
        self.scale = scale
        self.dense = dense

    @classmethod
    def from_rows(cls, rows: SparseRows) -> 'RowEmbedding':
        r"""The embeddings that are nothing but the rows."""
        return cls(rows, torch.ones(rows.num_rows, device=rows.col.device),
                   torch.empty(rows.num_rows, 0, device=rows.col.device))

    @property
    def device(self) -> torch.device:
        return self.scale.device

    @property
    def tensors(self) -> Dict[str, Tensor]:
        r"""What the embeddings consist of beside the rows."""
        return {'scale': self.scale, 'dense': self.dense}

    def size(self, dim: int) -> int:
        width = self.dense.size(1) + self.rows.num_cols
        return (self.scale.size(0), width)[dim]

    def apply(self, fn: Callable[[Tensor], Tensor]) -> 'RowEmbedding':
        r"""Applies a function to every tensor, *e.g.*, moves them."""
        rows = SparseRows(fn(self.rows.rowptr), fn(self.rows.col),
                          self.rows.num_cols)
        return RowEmbedding(rows, fn(self.scale), fn(self.dense))

    def __getitem__(self, index: Tensor) -> Tensor:
        rows = self.rows.select(index).to_dense(self.dense.dtype)
        return torch.cat([
            self.dense[index], rows.mul_(self.scale[index].view(-1, 1))
        ], dim=-1)


UserEmbedding = Union[Tensor, RowEmbedding]
