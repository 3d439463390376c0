r"""Inner products of all pairs of items, by their interactions and by their
features.
"""
from typing import Optional

import torch
from torch import Tensor

from diffmm_pyg.data import unit_features
from diffmm_pyg.utils.sparse_rows import SparseRows
from diffmm_pyg.utils.topk import MAX_BLOCK_NUMEL
from torch_geometric.data import HeteroData


def interaction_gram(rows: SparseRows,
                     weight: Optional[Tensor] = None) -> Tensor:
    r"""Returns :math:`\mathbf{X}^{\top} \mathrm{diag}(\mathbf{w}) \,
    \mathbf{X}`, the number (or weight) of rows that two items are both in, of
    shape :math:`(|\mathcal{I}|, |\mathcal{I}|)`, in time that grows with
    interactions times items.

    Args:
        rows (SparseRows): The rows, :math:`(|\mathcal{U}|, |\mathcal{I}|)`.
        weight (torch.Tensor, optional): The weights :math:`\mathbf{w}` of the
            rows; all 1 if not given. (default: :obj:`None`)
    """
    dtype, num_items = torch.get_default_dtype(), rows.num_cols
    items = SparseRows.from_edge_index(rows.edge_index.flip(0), num_items,
                                       rows.num_rows)
    out = torch.empty(num_items, num_items, dtype=dtype,
                      device=rows.col.device)
    size = max(1, MAX_BLOCK_NUMEL // rows.num_rows)
    for start in range(0, num_items, size):
        end = min(start + size, num_items)
        block = items.narrow(start, end).to_dense(dtype).t()
        if weight is not None:
            block = weight.to(dtype).view(-1, 1) * block
        out[:, start:end] = items.matmul(block.contiguous())
    return out


def add_content_gram(gram: Tensor, data: HeteroData, weight: float) -> Tensor:
    r"""Adds :obj:`weight` times the inner products of the features of all
    modalities, each of unit norm, to a matrix of all pairs of items, in place.
    """
    x = torch.cat([*unit_features(data).values()], dim=1)
    # In place, it is single precision in mixed precision, too.
    return gram.addmm_(x, x.t(), alpha=weight)
