from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, ModuleList

from diffmm_pyg.nn.conv import ModalityConv
from diffmm_pyg.nn.models.embedding_recommender import EmbeddingRecommender
from diffmm_pyg.nn.models.pairwise import bpr_phase
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.nn.weighted_adj import WeightedAdj, normalized_adj
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.random import keyed_dropout
from torch_geometric.data import HeteroData


class NGCF(EmbeddingRecommender):
    r"""The recommender from `"Neural Graph Collaborative Filtering"
    <https://arxiv.org/abs/1905.08108>`_: with :math:`\mathbf{\hat{A}} =
    \mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}` (Eqs. 7 to 11),

    .. math::
        \mathbf{E}^{(l+1)} &= \text{LeakyReLU} \left( (\mathbf{\hat{A}} +
        \mathbf{I}) \mathbf{E}^{(l)} \mathbf{W}^{(l)}_1 + (\mathbf{\hat{A}}
        \mathbf{E}^{(l)}) \odot \mathbf{E}^{(l)} \, \mathbf{W}^{(l)}_2
        \right), \quad \mathbf{X} = \big\Vert_{l=0}^{L} \mathbf{E}^{(l)}

        \mathcal{L} &= \frac{1}{B} \sum_{(u,i,j)} - \ln \sigma(
        \mathbf{x}_u^{\top} \mathbf{x}_i - \mathbf{x}_u^{\top} \mathbf{x}_j)
        + \lambda \| \Theta \|^2,

    where :math:`\Theta` are all weights, and the embeddings
    :math:`\mathbf{E}^{(0)}` of the batch, divided by :math:`B`.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        hidden_channels (int, optional): The size of the embeddings of every
            layer. (default: :obj:`64`)
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`3`)
        dropout (float, optional): The probability with which entries of the
            messages that reach a node are dropped in training.
            (default: :obj:`0.1`)
        reg_weight (float, optional): The weight :math:`\lambda`.
            (default: :obj:`1e-4`)
    """
    def __init__(self, num_users: int, num_items: int,
                 hidden_channels: int = 64, num_layers: int = 3,
                 dropout: float = 0.1, reg_weight: float = 1e-4):
        super().__init__(num_users, num_items, hidden_channels, reg_weight)
        check_range('num_layers', num_layers, 0)
        check_range('dropout', dropout, 0, 1)
        self.num_layers = num_layers
        self.dropout = dropout
        self.conv = ModalityConv()
        self.lins_sum, self.lins_product = (ModuleList([
            Linear(hidden_channels, hidden_channels, bias=False)
            for _ in range(num_layers)
        ]) for _ in range(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        super().reset_parameters()
        for weight in self._weights:
            torch.nn.init.xavier_uniform_(weight)

    @property
    def _weights(self) -> List[Tensor]:
        return [*self.lins_sum.parameters(), *self.lins_product.parameters()]

    def forward(self, adj: WeightedAdj,
                key: Optional[Key] = None) -> Tuple[Tensor, Tensor]:
        r"""Computes the embeddings of all users and items from the
        normalized matrix of interactions; with a key for random draws,
        entries are dropped.
        """
        x = self.embedding
        outs = [x]
        for i, lins in enumerate(zip(self.lins_sum, self.lins_product,
                                     strict=True)):
            neighbors = self.conv(x, *adj)
            x = lins[0](neighbors + x) + lins[1](neighbors * x)
            x = F.leaky_relu(x, 0.2)
            if key is not None:
                x = keyed_dropout(x, self.dropout, *key, i)
            outs.append(x)
        user, item = torch.cat(outs, dim=-1).split(self.sizes)
        return user, item

    def phases(self, data: HeteroData) -> List[Phase]:
        adj = normalized_adj(self.interactions(data).edge_index, *self.sizes)

        def embed(user: Tensor, item: Tensor,
                  key: Key) -> Tuple[Tensor, Tensor]:
            x_user, x_item = self(adj, key)
            return F.embedding(user, x_user), F.embedding(item, x_item)

        return [bpr_phase(self, data, embed, weights=self._weights)]

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        return self(normalized_adj(self.interactions(data).edge_index,
                                   *self.sizes))
