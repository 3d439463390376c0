from typing import Tuple

import torch
from torch import Tensor

from diffmm_pyg.nn.models.row_recommender import RowRecommender
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.sparse_rows import SparseRows
from torch_geometric.data import HeteroData

SHRINKAGE = 30.  # What DiffMM ranks with, too.


class Drift(RowRecommender):
    r"""Ranks items, for every user alike, by whether they are found in long
    histories more than in short ones. Where the interactions to predict come
    after those that are known, this tells what comes late from what came
    early, without timestamps: a history of :math:`n` interactions reaches to
    the :math:`n`-th. With the quantile :math:`q_u \in (0, 1)` of a user's
    number :math:`n_u` of interactions among those of all users,

    .. math::
        \hat{y}_{ui} = \frac{\sum_{v \in \mathcal{U}_i} \left( q_v -
        \frac{1}{2} \right) / n_v}{\lambda + \sum_{v \in \mathcal{U}_i}
        1 / n_v},

    a mean over the users :math:`\mathcal{U}_i` of an item, in which each one
    counts once over all items, shrunk towards that over all items. It is
    meant for sums with other scores, where the split is one by time. In
    predicting interactions that were held out at random, it does harm.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        shrinkage (float, optional): The number :math:`\lambda` of users by
            which means are shrunk. (default: :obj:`30.`)
    """
    def __init__(self, num_users: int, num_items: int,
                 shrinkage: float = SHRINKAGE):
        super().__init__(num_users, num_items)
        check_range('shrinkage', shrinkage, 0, open_low=True)
        self.shrinkage = shrinkage

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        return drift_embeddings(self.rows(data), self.shrinkage)


def drift_embeddings(rows: SparseRows,
                     shrinkage: float = SHRINKAGE) -> Tuple[Tensor, Tensor]:
    r"""Returns embeddings :math:`(|\mathcal{U}|, 1)` and
    :math:`(|\mathcal{I}|, 1)` whose inner products are the scores of
    :class:`Drift`.
    """
    dtype = torch.get_default_dtype()
    known = rows.count[rows.count > 0].sort().values
    # The middle of the users with as many interactions:
    rank = (torch.searchsorted(known, rows.count) +
            torch.searchsorted(known, rows.count, right=True))
    quantile = rank.to(dtype) / (2 * max(1, known.numel()))

    weight = (1 / rows.count.clamp(min=1).to(dtype))[rows.row]
    total, size = torch.zeros(2, rows.num_cols, dtype=dtype,
                              device=rows.col.device)
    total.index_add_(0, rows.col, weight * (quantile[rows.row] - 0.5))
    size.index_add_(0, rows.col, weight)
    item = total / (shrinkage + size)
    return item.new_ones(rows.num_rows, 1), item.view(-1, 1)
