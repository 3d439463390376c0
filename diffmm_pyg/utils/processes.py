r"""The processes of a training."""
import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Iterable, Iterator, NamedTuple, Tuple

import torch
import torch.distributed as dist
from torch import Tensor

from diffmm_pyg.errors import LostProcessError
from diffmm_pyg.utils.topk import is_out_of_memory


class Processes(NamedTuple):
    r"""The processes that train a model together. All of them hold the whole
    model and graph and do the same, by the same draws; only of work that takes
    long and can be cut by rows, each one does a share. What it makes of its
    share counts :obj:`size` times, so that a loss, and each gradient, is the
    mean of those of all processes, whatever they share.

    Args:
        rank (int, optional): Which one of them this is. (default: :obj:`0`)
        size (int, optional): Their number. (default: :obj:`1`)
    """
    rank: int = 0
    size: int = 1

    @classmethod
    def launched(cls) -> 'Processes':
        r"""Returns those that :obj:`torchrun` started."""
        if 'LOCAL_RANK' not in os.environ:
            return cls()
        return cls(int(os.environ.get('RANK', 0)),
                   int(os.environ.get('WORLD_SIZE', 1)))

    @property
    def is_first(self) -> bool:
        r"""Whether this is the one that writes and prints."""
        return self.rank == 0

    @contextmanager
    def sharing(self) -> Iterator[None]:
        r"""Lets everything within the block share its work among these
        processes; all of them must do the same there.
        """
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def share(self, num_rows: int) -> Tuple[int, int]:
        r"""Returns the first row of the share of this process, and the one
        after its last. A share may be empty.
        """
        return (num_rows * self.rank // self.size,
                num_rows * (self.rank + 1) // self.size)

    def narrow(self, x: Tensor) -> Tensor:
        r"""Returns the rows of a tensor that are the share of this process."""
        if self.size == 1:
            return x
        start, end = self.share(x.size(0))
        return x[start:end]

    def concat(self, x: Tensor, dim: int = 0) -> Tensor:
        r"""Concatenates what all processes have, in their order; its size may
        differ in dimension :obj:`dim`.
        """
        if self.size == 1:
            return x
        sizes = torch.zeros(self.size, dtype=torch.long)
        sizes[self.rank] = x.size(dim)
        with _lost_processes_told():
            dist.all_reduce(sizes)
        parts = [x.contiguous() if rank == self.rank else
                 x.new_empty(*x.size()[:dim], size, *x.size()[dim + 1:])
                 for rank, size in enumerate(sizes.tolist())]
        with _lost_processes_told():
            for rank, part in enumerate(parts):
                dist.broadcast(part, rank)
        return torch.cat(parts, dim)

    def average_(self, tensors: Iterable[Tensor]) -> None:
        r"""Replaces tensors by their means over the processes."""
        if self.size == 1:
            return
        with _lost_processes_told():
            works = [(x, dist.all_reduce(x, async_op=True)) for x in tensors]
            for x, work in works:
                work.wait()
                x.div_(self.size)

    def max(self, value: int) -> int:
        r"""Returns the largest value that a process has. Does not wait for a
        GPU.
        """
        if self.size == 1:
            return value
        values = torch.tensor(value)
        with _lost_processes_told():
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def wait(self) -> None:
        r"""Waits until all processes are here."""
        self.max(0)

    def from_first(self, value: Any) -> Any:
        r"""Returns what the first process has, on the CPU."""
        if self.size == 1:
            return value
        values = [value]
        with _lost_processes_told():
            dist.broadcast_object_list(values, 0, device=torch.device('cpu'))
        return values[0]


SINGLE = Processes()
_CURRENT = ContextVar('processes', default=SINGLE)


def current_processes() -> Processes:
    r"""Returns those that share their work, see :meth:`Processes.sharing`;
    outside of it, this process only.
    """
    return _CURRENT.get()


@contextmanager
def _lost_processes_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as e:
        # Those of gloo have no class of their own.
        is_theirs = isinstance(e, dist.DistError) or re.search(
            'gloo|connection', str(e), re.IGNORECASE)
        if not is_theirs or is_out_of_memory(e):
            raise
        raise LostProcessError("Another process of this training has ended "
                               "(its own message, if any, tells why)") from e
