import warnings
from functools import lru_cache
from typing import Any, List, NamedTuple, Optional, Tuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from diffmm_pyg.typing import Adj, OptTensor, SparseTensor
from torch_geometric.utils import spmm as pyg_spmm


class _CSRMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj_t: SparseTensor, x: Tensor) -> Tensor:
        ctx.adj_t = adj_t
        return _matmul(_csr(adj_t, x.dtype).matrix, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        return None, _matmul(_csr(ctx.adj_t, grad.dtype).transposed, grad)


def _matmul(csr: Tensor, x: Tensor) -> Tensor:
    # In place, as `csr @ x` would fill and copy a matrix of zeros first.
    out = x.new_empty(csr.size(0), x.size(1))
    return torch.addmm(out, csr, x, beta=0, out=out)


class _CSR(NamedTuple):
    value: OptTensor  # What the matrices below were made from,
    version: int  # and its state at that time.
    matrix: Tensor
    transposed: Tensor


# The backward pass of `torch.sparse.mm` transposes its matrix anew in each
# call, which takes as long as the product; hence these are kept for as long
# as a matrix lives and its values stay as they are:
_cache: 'WeakKeyDictionary[Any, _CSR]' = WeakKeyDictionary()


def _csr(adj_t: SparseTensor, dtype: torch.dtype) -> _CSR:
    storage, value = adj_t.storage, adj_t.storage.value()
    version = 0 if value is None else value._version
    csr = _cache.get(storage)
    if (csr is None or csr.value is not value or csr.version != version
            or csr.matrix.dtype != dtype):
        rowptr, col, _ = adj_t.csr()
        x = torch.ones(col.numel()) if value is None else value.detach()
        x, perm = x.to(dtype), storage.csr2csc()
        size = adj_t.sizes()
        csr = _cache[storage] = _CSR(
            value, version, _to_csr(rowptr, col, x, size),
            _to_csr(storage.colptr(), storage.row()[perm], x[perm],
                    size[::-1]))
    return csr


def _to_csr(rowptr: Tensor, col: Tensor, value: Tensor,
            size: List[int]) -> Tensor:
    # MKL is faster on short indices.
    if max(value.numel(), *size) < 2**31:
        rowptr, col = rowptr.int(), col.int()
    return torch.sparse_csr_tensor(rowptr, col, value, size,
                                   check_invariants=False)


@lru_cache(maxsize=None)
def _spend_beta_warning() -> None:
    # torch warns once per process that its CSR matrices are in beta.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.eye(1).to_sparse_csr()


def spmm(adj_t: Adj, x: Tensor, reduce: str = 'sum') -> Tensor:
    r"""Returns the product of a sparse matrix, in any format of
    :class:`torch_geometric.typing.Adj`, with a dense one: that of
    :meth:`torch_geometric.utils.spmm`, with a faster backward pass of sums on
    the CPU where only :obj:`x` needs a gradient.

    Args:
        adj_t (torch.Tensor or SparseTensor): The sparse matrix.
        x (torch.Tensor): The dense matrix.
        reduce (str, optional): How products are reduced, one of
            :obj:`"sum"` or :obj:`"add"`, :obj:`"mean"`, :obj:`"min"` and
            :obj:`"max"`. (default: :obj:`"sum"`)
    """
    _spend_beta_warning()
    if (reduce in ['sum', 'add'] and isinstance(adj_t, SparseTensor)
            and torch.backends.mkl.is_available() and not x.is_cuda
            and x.dim() == 2 and x.dtype in [torch.float, torch.double]
            and not adj_t.requires_grad() and adj_t.nnz() > 0):
        return _CSRMatmul.apply(adj_t, x)
    return pyg_spmm(adj_t, x, reduce)
