from typing import Callable, Dict, Union

import torch
from torch import Tensor

from diffmm_pyg.utils.sparse_rows import SparseRows


class RowEmbedding:
    r"""Embeddings of users that end in their scaled interaction rows,
    :math:`[\mathbf{x}_u, s_u \mathbf{r}_u]`, which are never made: with
    :math:`[\mathbf{y}_i, \mathbf{w}_i]` as those of the items, the inner
    product adds the scores of an item-item model :math:`\mathbf{W}` without a
    users times items matrix.

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
        r"""The device."""
        return self.scale.device

    @property
    def tensors(self) -> Dict[str, Tensor]:
        r"""What the embeddings consist of beside the rows."""
        return {'scale': self.scale, 'dense': self.dense}

    def size(self, dim: int) -> int:
        r"""Returns the number of users, or the width with the rows."""
        width = self.dense.size(1) + self.rows.num_cols
        return (self.scale.size(0), width)[dim]

    def apply(self, fn: Callable[[Tensor], Tensor]) -> 'RowEmbedding':
        r"""Applies a function to every tensor, *e.g.*, moves them."""
        rows = SparseRows(fn(self.rows.rowptr), fn(self.rows.col),
                          self.rows.num_cols)
        return RowEmbedding(rows, fn(self.scale), fn(self.dense))

    def float(self) -> 'RowEmbedding':
        r"""Converts the embeddings to single precision."""
        return self.apply(lambda x: x.float() if x.is_floating_point() else x)

    def __getitem__(self, index: Union[slice, Tensor]) -> 'RowEmbedding':
        if isinstance(index, slice) and index.step in [None, 1]:
            start, end, _ = index.indices(self.rows.num_rows)
            rows = self.rows.narrow(start, max(start, end))
        else:
            every = torch.arange(self.rows.num_rows, device=self.device)
            rows = self.rows.select(every[index])
        return RowEmbedding(rows, self.scale[index], self.dense[index])

    def __matmul__(self, other: Tensor) -> Tensor:
        r"""Returns the product with :obj:`[F + I, K]`. Rows are sparse: their
        part takes interactions times :obj:`K`.
        """
        width = self.dense.size(1)
        out = self.rows.matmul(other[width:]).mul_(self.scale.view(-1, 1))
        return out.addmm_(self.dense, other[:width])

    def to_dense(self) -> Tensor:
        r"""Returns the embeddings :obj:`[N, F + I]`; meant for few users."""
        rows = self.rows.to_dense(self.dense.dtype)
        return torch.cat([self.dense, rows.mul_(self.scale.view(-1, 1))],
                         dim=-1)


UserEmbedding = Union[Tensor, RowEmbedding]


def block_scores(user_emb: UserEmbedding,
                 item_emb: Tensor) -> Callable[[int, int], Tensor]:
    r"""Returns a function that scores all items for the users from
    :obj:`start` to :obj:`end`.
    """
    weight = item_emb.t()
    if isinstance(user_emb, RowEmbedding):
        weight = weight.contiguous()  # Once, not for every block.
    return lambda start, end: user_emb[start:end] @ weight
