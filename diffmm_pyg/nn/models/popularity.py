from typing import Tuple

import torch
from torch import Tensor

from diffmm_pyg.nn.models.row_recommender import RowRecommender
from torch_geometric.data import HeteroData
from torch_geometric.utils import degree


class Popularity(RowRecommender):
    r"""Ranks items by the number of users who interacted with them, for every
    user alike: what any other model has to beat,

    .. math::
        \hat{y}_{ui} = \sum_{v \in \mathcal{U}} r_{vi}.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
    """
    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        rows = self.rows(data)
        count = degree(rows.col, self.num_items,
                       dtype=torch.get_default_dtype())
        return count.new_ones(self.num_users, 1), count.view(-1, 1)
