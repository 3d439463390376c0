from typing import NamedTuple

from torch import Tensor

from diffmm_pyg.utils.processes import current_processes
from diffmm_pyg.utils.sparse_rows import SparseRows


class BatchShare(NamedTuple):
    r"""The rows of a batch that this process computes the loss of: all of
    them, unless processes share their work.

    Args:
        batch (SparseRows): All rows of the batch.
        start (int): The first row.
        end (int): The one after the last row.
        factor (float): What to multiply a mean over these rows by, so that the
            mean over all processes is that over the batch.
    """
    batch: SparseRows
    start: int
    end: int
    factor: float

    @classmethod
    def of(cls, batch: SparseRows) -> 'BatchShare':
        r"""Returns the share of this process. There is a row in it always, if
        only one of factor zero: a mean needs one.
        """
        processes = current_processes()
        start, end = processes.share(batch.num_rows)
        if start == end:
            return cls(batch, 0, 1, 0.)
        return cls(batch, start, end,
                   processes.size * (end - start) / batch.num_rows)

    @property
    def is_all(self) -> bool:
        return self.end - self.start == self.batch.num_rows

    @property
    def rows(self) -> SparseRows:
        r"""These rows."""
        if self.is_all:
            return self.batch
        return self.batch.narrow(self.start, self.end)

    def of_rows(self, x: Tensor) -> Tensor:
        r"""Returns what these rows have of :obj:`x`, :obj:`[N, *]`."""
        return x if self.is_all else x[self.start:self.end]

    def of_ones(self, x: Tensor) -> Tensor:
        r"""Returns what their ones have of :obj:`x`, :obj:`[nnz]`."""
        if self.is_all:
            return x
        return x[self.batch.rowptr[self.start]:self.batch.rowptr[self.end]]
