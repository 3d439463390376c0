from typing import Tuple

import torch
from torch import Tensor

from diffmm_pyg.nn.models.row_recommender import RowRecommender
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.row_embedding import RowEmbedding
from diffmm_pyg.utils.sparse_rows import SparseRows
from diffmm_pyg.utils.topk import MAX_BLOCK_NUMEL
from torch_geometric.data import HeteroData


class RandomWalk(RowRecommender):
    r"""Random walks from a user over the observed graph, from `"Random Walks
    in Recommender Systems: Exact Computation and Simulations"
    <https://doi.org/10.1145/2567948.2579244>`_: the probability
    :math:`P^{2n+1}` of being at an item after :math:`2n + 1` steps. With the
    interaction matrix :math:`\mathbf{X}` and the degrees
    :math:`\mathbf{D}_u` and :math:`\mathbf{D}_i`, scores are

    .. math::
        \mathbf{X} \mathbf{T}^n \mathbf{D}_i^{-\beta}, \quad
        \mathbf{T} = \mathbf{D}_i^{-\alpha} \mathbf{X}^{\top}
        \mathbf{D}_u^{-\alpha} \mathbf{X}

    where :math:`\alpha` is that of :math:`P^3_{\alpha}`, and :math:`\beta`
    the penalty of popular items in `"Updatable, Accurate, Diverse, and
    Scalable Recommendations for Interactive Applications"
    <https://doi.org/10.1145/2955101>`_ :math:`(RP^3_{\beta})`.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        num_hops (int, optional): The number :math:`n` of hops from item to
            item. (default: :obj:`1`)
        alpha (float, optional): The exponent of transition probabilities.
            (default: :obj:`1.`)
        beta (float, optional): The exponent of the popularity of items.
            (default: :obj:`0.`)
    """
    def __init__(self, num_users: int, num_items: int, num_hops: int = 1,
                 alpha: float = 1., beta: float = 0.):
        super().__init__(num_users, num_items)
        check_range('num_hops', num_hops, 1)
        check_range('alpha', alpha, 0)
        check_range('beta', beta, 0)
        self.num_hops = num_hops
        self.alpha = alpha
        self.beta = beta

    def embed(self, data: HeteroData) -> Tuple[RowEmbedding, Tensor]:
        rows = self.rows(data)
        weight = walk_weights(rows, self.num_hops, self.alpha)
        count = torch.bincount(rows.col, minlength=rows.num_cols).clamp(min=1)
        item = weight.mul_(count.to(weight.dtype).pow(-self.beta).view(-1, 1))
        return RowEmbedding.from_rows(rows), item


def walk_weights(rows: SparseRows, num_hops: int,
                 alpha: float = 1.) -> Tensor:
    r"""Returns :math:`{\mathbf{T}^n}^{\top}`, see :class:`RandomWalk`: in row
    :math:`i` and column :math:`j` the weight of item :math:`i` for those who
    know item :math:`j`, of shape :math:`(|\mathcal{I}|, |\mathcal{I}|)`, in
    time that grows with interactions times items. Items without an
    interaction have zeros.
    """
    items = SparseRows.from_edge_index(rows.edge_index.flip(0), rows.num_cols,
                                       rows.num_rows)
    dtype = torch.get_default_dtype()
    out = torch.zeros(rows.num_cols, rows.num_cols, dtype=dtype,
                      device=rows.col.device)
    user_scale, item_scale = [
        x.count.clamp(min=1).to(dtype).pow(-alpha).view(-1, 1)
        for x in [rows, items]
    ]
    size = max(1, MAX_BLOCK_NUMEL // rows.num_rows)
    for start in range(0, rows.num_cols, size):
        end = min(start + size, rows.num_cols)
        x = out.new_zeros(rows.num_cols, end - start)  # Columns of T^0.
        x[start:end].fill_diagonal_(1.)
        for _ in range(num_hops):
            x = item_scale * items.matmul(user_scale * rows.matmul(x))
        out[start:end] = x.t()
    return out
