r"""Inner products of all pairs of items, by their interactions and by their
features.
"""
from typing import Optional

import torch
from torch import Tensor

from diffmm_pyg.data import modality_features, modality_masks
from diffmm_pyg.utils.normalize import row_normalize
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


def content_features(data: HeteroData) -> Tensor:
    r"""Returns the features of all modalities side by side, of shape
    :math:`(|\mathcal{I}|, \sum_m F_m)`: those of an item have unit norm in
    every modality, and are zero in one that it lacks.
    """
    masks, out = modality_masks(data), []
    for m, x in modality_features(data).items():
        x = row_normalize(x)
        out.append(x * masks[m].view(-1, 1) if m in masks else x)
    return torch.cat(out, dim=1)


def add_content_gram(gram: Tensor, data: HeteroData, weight: float) -> Tensor:
    r"""Adds :obj:`weight` times the inner products of
    :meth:`content_features` to a matrix of all pairs of items, in place.
    """
    x = content_features(data)
    # In place, it is single precision in mixed precision, too.
    return gram.addmm_(x, x.t(), alpha=weight)
