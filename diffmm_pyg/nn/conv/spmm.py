import warnings
from functools import lru_cache
from typing import Any, Optional, Tuple

import torch
from torch import Tensor

from diffmm_pyg.typing import Adj, SparseTensor
from torch_geometric.utils import spmm as pyg_spmm


class _CSRMatmul(torch.autograd.Function):
    # The backward pass of `torch.sparse.mm` transposes its matrix anew in
    # each call; `SparseTensor` has the permutation in its cache.
    @staticmethod
    def forward(ctx: Any, adj_t: SparseTensor, x: Tensor) -> Tensor:
        ctx.adj_t = adj_t
        return _csr_matmul(adj_t, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        return None, _csr_matmul(ctx.adj_t.t(), grad.contiguous())


def _csr_matmul(adj_t: SparseTensor, x: Tensor) -> Tensor:
    rowptr, col, value = adj_t.csr()
    value = x.new_ones(col.numel()) if value is None else value.to(x.dtype)
    csr = torch.sparse_csr_tensor(rowptr, col, value, adj_t.sizes(),
                                  check_invariants=False)
    return torch.sparse.mm(csr, x, 'sum')


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
            and not x.is_cuda and not adj_t.requires_grad()
            and adj_t.nnz() > 0):
        return _CSRMatmul.apply(adj_t, x)
    return pyg_spmm(adj_t, x, reduce)
