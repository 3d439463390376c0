from typing import List, Tuple

import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.nn.conv import ModalityConv
from diffmm_pyg.nn.models.embedding_recommender import EmbeddingRecommender
from diffmm_pyg.nn.models.pairwise import bpr_phase
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.nn.propagation import mean_of_layers
from diffmm_pyg.nn.weighted_adj import WeightedAdj, normalized_adj
from diffmm_pyg.utils.checks import check_range
from torch_geometric.data import HeteroData


class LightGCN(EmbeddingRecommender):
    r"""The recommender from `"LightGCN: Simplifying and Powering Graph
    Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_

    .. math::
        \mathbf{X} = \frac{1}{L + 1} \sum_{l=0}^{L} \left( \mathbf{D}^{-1/2}
        \mathbf{A} \mathbf{D}^{-1/2} \right)^l \mathbf{E}, \quad
        \mathcal{L} = \frac{1}{B} \sum_{(u,i,j)} - \ln \sigma(
        \mathbf{x}_u^{\top} \mathbf{x}_i - \mathbf{x}_u^{\top} \mathbf{x}_j)
        + \lambda \left( \| \mathbf{e}_u \|^2 + \| \mathbf{e}_i \|^2 +
        \| \mathbf{e}_j \|^2 \right),

    the propagation of :class:`torch_geometric.nn.models.LightGCN` over all
    interactions in every step, in the form of this package.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        hidden_channels (int, optional): The size of the embeddings.
            (default: :obj:`64`)
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`2`)
        reg_weight (float, optional): The weight :math:`\lambda`.
            (default: :obj:`1e-4`)
    """
    def __init__(self, num_users: int, num_items: int,
                 hidden_channels: int = 64, num_layers: int = 2,
                 reg_weight: float = 1e-4):
        super().__init__(num_users, num_items, hidden_channels, reg_weight)
        check_range('num_layers', num_layers, 0)
        self.num_layers = num_layers
        self.conv = ModalityConv()
        self.reset_parameters()

    def forward(self, adj: WeightedAdj) -> Tuple[Tensor, Tensor]:
        r"""Computes the embeddings of all users and items from the
        normalized matrix of interactions.
        """
        x = mean_of_layers(self.conv, adj, self.embedding, self.num_layers)
        user, item = x.split(self.sizes)
        return user, item

    def phases(self, data: HeteroData) -> List[Phase]:
        adj = normalized_adj(self.interactions(data).edge_index, *self.sizes)

        def embed(user: Tensor, item: Tensor,
                  key: Key) -> Tuple[Tensor, Tensor]:
            x_user, x_item = self(adj)
            return F.embedding(user, x_user), F.embedding(item, x_item)

        return [bpr_phase(self, data, embed)]

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        return self(normalized_adj(self.interactions(data).edge_index,
                                   *self.sizes))
