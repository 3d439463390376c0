from typing import NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_geometric import EdgeIndex
from torch_geometric.utils import coalesce, cumsum, degree

# Of what is gathered at a time; large pieces of memory are slow to come by.
MAX_PIECE_NUMEL = 2**20
# Rows of more ones than these are hardly ever equal:
MAX_EQUAL_COUNT = 4


class SparseRows(NamedTuple):
    r"""The rows of a 0/1 matrix, as the column indices of their ones: what a
    user interacted with, without a users times items matrix.

    Args:
        rowptr (torch.Tensor): The row pointers, of shape :obj:`[N + 1]`.
        col (torch.Tensor): The column indices, sorted within each row, of
            shape :obj:`[nnz]`.
        num_cols (int): The number of columns.
    """
    rowptr: Tensor
    col: Tensor
    num_cols: int

    @classmethod
    def from_edge_index(cls, edge_index: Tensor, num_rows: int,
                        num_cols: int) -> 'SparseRows':
        r"""Builds the rows from edges :math:`(2, |\mathcal{E}|)`, of which
        duplicates count once.
        """
        if isinstance(edge_index, EdgeIndex):  # Which cannot be coalesced.
            edge_index = edge_index.as_tensor()
        row, col = coalesce(edge_index, num_nodes=max(num_rows, num_cols))
        count = degree(row, num_rows, dtype=torch.long)
        return cls(cumsum(count), col, num_cols)

    @property
    def num_rows(self) -> int:
        return self.rowptr.numel() - 1

    @property
    def count(self) -> Tensor:  # type: ignore[override]
        r"""The number of ones in every row."""
        return self.rowptr.diff()

    @property
    def row(self) -> Tensor:
        r"""The row index of every one, of shape :obj:`[nnz]`."""
        return torch.arange(self.num_rows, device=self.col.device) \
            .repeat_interleave(self.count, output_size=self.col.numel())

    @property
    def edge_index(self) -> Tensor:
        r"""The ones as edges from rows to columns."""
        return torch.stack([self.row, self.col])

    def select(self, index: Tensor) -> 'SparseRows':
        r"""Returns the rows at :obj:`index`, in that order."""
        count = self.count[index]
        rowptr = cumsum(count)
        offset = (self.rowptr[index] - rowptr[:-1]).repeat_interleave(count)
        pos = torch.arange(offset.numel(), device=offset.device) + offset
        return SparseRows(rowptr, self.col[pos], self.num_cols)

    def narrow(self, start: int, end: int) -> 'SparseRows':
        r"""Returns the rows :obj:`start` to :obj:`end`, without a copy."""
        rowptr = self.rowptr[start:end + 1]
        first, last = int(rowptr[0]), int(rowptr[-1])
        return SparseRows(rowptr - first, self.col[first:last], self.num_cols)

    def filter(self, mask: Tensor) -> 'SparseRows':
        r"""Returns the rows with those of their ones only that :obj:`mask`,
        of shape :obj:`[nnz]`, names.
        """
        rowptr = F.pad(mask.cumsum(0), (1, 0))[self.rowptr]
        return SparseRows(rowptr, self.col[mask], self.num_cols)

    def distinct(self, group: Tensor) -> Tuple[Tensor, Tensor]:
        r"""Returns the indices of rows that stand for all, and which of these
        every row is equal to: what is computed from rows need not be computed
        for all of them. Some of the longer ones may be equal all the same.

        Args:
            group (torch.Tensor): The groups of the rows, integers of shape
                :obj:`[N]`; no two of different groups are taken as equal.
        """
        every = torch.arange(self.num_rows, device=self.col.device)
        key = every.new_full((self.num_rows, MAX_EQUAL_COUNT + 2), -1)
        key[:, 0] = group
        is_long = self.count > MAX_EQUAL_COUNT
        key[:, 1] = every.where(is_long, -1)
        part = (~is_long)[self.row].nonzero().view(-1)
        row = self.row[part]
        key[row, 2 + part - self.rowptr[row]] = self.col[part]
        key, inverse = key.unique(dim=0, return_inverse=True)
        return every.new_empty(key.size(0)).scatter_(0, inverse,
                                                     every), inverse

    def matmul(self, other: Tensor) -> Tensor:
        r"""Returns the product with a dense matrix :obj:`[num_cols, F]`."""
        return F.embedding_bag(self.col, other, self.rowptr, mode='sum',
                               include_last_offset=True)

    def add_transposed_matmul(self, out: Tensor, other: Tensor) -> None:
        r"""Adds the product of the transposed matrix with a dense one
        :obj:`[N, F]` to :obj:`out`, of shape :obj:`[num_cols, F]`.
        """
        size = max(1, MAX_PIECE_NUMEL // max(1, other.size(1)))
        for row, col in zip(self.row.split(size), self.col.split(size),
                            strict=True):
            out.index_add_(0, col, other[row])

    def to_dense(self, dtype: torch.dtype = torch.float) -> Tensor:
        r"""Returns the rows as a dense matrix :obj:`[N, num_cols]`; meant for
        batches.
        """
        out = torch.zeros(self.num_rows, self.num_cols, dtype=dtype,
                          device=self.col.device)
        out[self.row, self.col] = 1
        return out
