import re
import warnings
from typing import Callable, List, Optional, Tuple, TypeVar

import torch
from torch import Tensor

from diffmm_pyg.utils.checks import check_k
from diffmm_pyg.utils.row_embedding import UserEmbedding, block_scores
from diffmm_pyg.utils.sparse_rows import SparseRows

T = TypeVar('T')

OUT_OF_MEMORY = re.compile('out of memory|STATUS_ALLOC_FAILED|std::bad_alloc|'
                           "can't allocate memory|not enough memory")
# The largest number of scores that are in memory at a time:
MAX_BLOCK_NUMEL = 2**23


def inner_product_topk(
    query: UserEmbedding,
    key: Tensor,
    k: int,
    bias: Optional[Tensor] = None,
    exclude: Optional[SparseRows] = None,
    block_size: int = 8192,
) -> Tuple[Tensor, Tensor]:
    r"""Returns the :obj:`k` largest entries of every row of
    :obj:`query @ key.t() + bias`, one block of keys at a time, so that the
    memory needed does not depend on the number of keys. Of equal entries,
    those of the first keys are taken, in their order.

    Args:
        query (torch.Tensor or RowEmbedding): The queries, of shape
            :obj:`[N, F]`.
        key (torch.Tensor): The keys, of shape :obj:`[K, F]`.
        k (int): The number of entries to return.
        bias (torch.Tensor, optional): What to add to the scores of every
            key, of shape :obj:`[K]`. (default: :obj:`None`)
        exclude (SparseRows, optional): The keys that are left out, per query.
            (default: :obj:`None`)
        block_size (int, optional): The number of keys that are scored at a
            time. (default: :obj:`8192`)

    Shapes:
        - **output:** values :obj:`[N, k]` in descending order and the key
          indices :obj:`[N, k]` they belong to. Where fewer than :obj:`k` keys
          are left, values are :math:`-\infty` and indices arbitrary.
    """
    check_k(k, key.size(0))
    if isinstance(query, Tensor):
        rows = max(1, MAX_BLOCK_NUMEL // min(block_size, key.size(0)))
    else:
        rows = max(1, MAX_BLOCK_NUMEL // key.size(0))
        scores = block_scores(query, key)

    def topk(start: int, end: int) -> Tuple[Tensor, Tensor]:
        rest = exclude.narrow(start, end) if exclude is not None else None
        if isinstance(query, Tensor):
            return _row_block_topk(query[start:end], key, k, bias, rest,
                                   block_size)
        score = scores(start, end)
        score = score if bias is None else score + bias
        if rest is not None:
            score[rest.row, rest.col] = float('-inf')
        return stable_topk(score, k)

    values, indices = zip(*map_blocks(topk, query.size(0), rows), strict=True)
    return torch.cat(values), torch.cat(indices)


def _row_block_topk(query: Tensor, key: Tensor, k: int,
                    bias: Optional[Tensor], exclude: Optional[SparseRows],
                    block_size: int) -> Tuple[Tensor, Tensor]:
    if exclude is not None:
        row, col = exclude.edge_index
    value = query.new_empty(query.size(0), 0)
    index = query.new_empty(query.size(0), 0, dtype=torch.long)
    for start in range(0, key.size(0), block_size):
        end = min(start + block_size, key.size(0))
        if bias is None:
            score = query @ key[start:end].t()
        else:
            score = torch.addmm(bias[start:end], query, key[start:end].t())
        if exclude is not None:
            mask = (col >= start) & (col < end)
            score[row[mask], col[mask] - start] = float('-inf')
        top = stable_topk(score, min(k, end - start))
        value = torch.cat([value, top[0]], dim=1)
        index = torch.cat([index, top[1] + start], dim=1)
        if start > 0:
            value, perm = value.sort(dim=1, descending=True, stable=True)
            value, index = value[:, :k], index.gather(1, perm[:, :k])
    return value, index


def stable_topk(score: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    r"""Returns the :obj:`k` largest entries of every row and their columns in
    descending order, of equal entries the first, on every device. (Which of
    them :meth:`torch.topk` returns, and in which order, is not defined.)
    """
    if torch.compiler.is_compiling() or k == score.size(1):
        return _topk_of_ties(score, k)
    value, index = score.topk(k + 1, dim=1)
    is_tied = (value[:, k - 1] == value[:, k]) & (value[:, k] > -torch.inf)
    value, index = _sort_ties(value[:, :k], index[:, :k])
    row = is_tied.nonzero().view(-1)
    if row.numel() > 0:  # Some entries like the last one were left out.
        value[row], index[row] = _topk_of_ties(score[row], k)
    return value, index


def _topk_of_ties(score: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    last = score.topk(k, dim=1).values[:, -1:]
    is_above, is_last = ~(score <= last), score == last
    num_left = k - is_above.sum(dim=1, keepdim=True)
    place = is_last.cumsum(dim=1, dtype=torch.int)
    is_taken = is_above | (is_last & (place <= num_left))
    column = torch.arange(score.size(1), dtype=torch.int, device=score.device)
    # No two of these are equal:
    column = column.where(is_taken, score.size(1))
    index = column.topk(k, dim=1, largest=False).values.long()
    return _sort_ties(score.gather(1, index), index)


def _sort_ties(value: Tensor, index: Tensor) -> Tuple[Tensor, Tensor]:
    index, perm = index.sort(dim=1)
    value, order = value.gather(1, perm).sort(dim=1, descending=True,
                                              stable=True)
    return value, index.gather(1, order)


def map_blocks(fn: Callable[[int, int], T], num_rows: int,
               block_size: int) -> List[T]:
    r"""Calls :obj:`fn(start, end)` on consecutive blocks of rows and returns
    the results. Where memory runs out, the block is halved and the work goes
    on from there; its parts never reach into the next one.
    """
    out: List[T] = []
    if torch.compiler.is_compiling():
        block_size = num_rows  # The traced program is for any number of rows.
    start, size, block_end = 0, block_size, block_size
    while start < num_rows or len(out) == 0:
        end = min(start + size, block_end, num_rows)
        try:
            out.append(fn(start, end))
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e) or end - start <= 1:
                raise
            size = (end - start) // 2
            continue
        start = end
        if start == block_end:
            block_end += block_size
    if size < block_size:
        warnings.warn(f"Out of memory with blocks of {block_size} rows; "
                      f"went on with {size}", stacklevel=2)
    return out


def is_out_of_memory(error: BaseException) -> bool:
    r"""Whether an error says that a device, or the machine, had no more
    memory.
    """
    return (isinstance(error, (torch.OutOfMemoryError, MemoryError))
            or OUT_OF_MEMORY.search(str(error)) is not None)
