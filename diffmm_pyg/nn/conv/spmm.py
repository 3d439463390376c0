import warnings
import weakref
from functools import lru_cache
from typing import Any, List, Optional, Tuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffmm_pyg.typing import Adj, OptTensor, SparseTensor
from torch_geometric.utils import spmm as pyg_spmm


class _CSRMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj_t: SparseTensor, x: Tensor) -> Tensor:
        csr = _csr(adj_t, x.dtype)
        if ctx.needs_input_grad[1]:
            ctx.transposed = csr.transposed()
        return _matmul(csr.matrix, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        return None, _matmul(ctx.transposed, grad)


def _matmul(csr: Tensor, x: Tensor) -> Tensor:
    # In place, as `csr @ x` would fill and copy a matrix of zeros first.
    out = x.new_empty(csr.size(0), x.size(1))
    return torch.addmm(out, csr, x, beta=0, out=out)


class _CSR:
    def __init__(self, adj_t: SparseTensor, dtype: torch.dtype):
        rowptr, col, value = adj_t.csr()
        self.adj_t = weakref.ref(adj_t.storage)
        self.size, self.dtype = adj_t.sizes(), dtype
        # What the matrix was made from, and its state at that time:
        self.value, self.version = value, _version(value)
        if value is None:
            x = torch.ones(col.numel(), dtype=dtype)
        else:
            x = value.detach().to(dtype, copy=True)
        self.matrix = _to_csr(rowptr, col, x, self.size)
        self._transposed: Optional[Tensor] = None

    def fits(self, value: OptTensor, dtype: torch.dtype) -> bool:
        return (self.value is value and self.dtype == dtype
                and self.version == _version(value))

    def transposed(self) -> Tensor:
        if self._transposed is None:
            storage = self.adj_t()
            assert storage is not None
            perm = storage.csr2csc()
            self._transposed = _to_csr(
                storage.colptr(), storage.row()[perm],
                self.matrix.values()[perm], self.size[::-1])
        return self._transposed


# The backward pass of `torch.sparse.mm` transposes its matrix anew in each
# call, which takes as long as the product; hence these are kept for as long
# as a matrix lives and its values stay as they are:
_cache: WeakKeyDictionary[Any, _CSR] = WeakKeyDictionary()


def _csr(adj_t: SparseTensor, dtype: torch.dtype) -> _CSR:
    value = adj_t.storage.value()
    csr = _cache.get(adj_t.storage)
    if csr is None or not csr.fits(value, dtype):
        csr = _CSR(adj_t, dtype)
        if value is None or not value.is_inference():
            _cache[adj_t.storage] = csr
    return csr


def _version(value: OptTensor) -> int:
    return 0 if value is None or value.is_inference() else value._version


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
