from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, ModuleDict

from diffmm_pyg.data import modality_features, modality_masks
from diffmm_pyg.nn.conv import ModalityConv
from diffmm_pyg.nn.models.embedding_recommender import ModalityRecommender
from diffmm_pyg.nn.models.pairwise import squared_norm, total_loss
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.nn.propagation import mean_of_layers
from diffmm_pyg.nn.weighted_adj import WeightedAdj, normalized_adj
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.random import keyed_dropout
from torch_geometric.data import HeteroData
from torch_geometric.nn.inits import reset


class BM3(ModalityRecommender):
    r"""The recommender from `"Bootstrap Latent Representations for
    Multi-modal Recommendation" <https://arxiv.org/abs/2207.05969>`_, which
    needs no negatives. Embeddings come from :class:`LightGCN`, that of an
    item with its own one added, :math:`\mathbf{h}_u, \mathbf{h}_i`, and from
    features, :math:`\mathbf{h}_m = \mathbf{f}^m_i \mathbf{W}_m +
    \mathbf{b}_m`. With the predictions :math:`\mathbf{\tilde{h}} =
    \mathbf{h} \mathbf{W} + \mathbf{b}`, the targets :math:`\mathbf{\dot{h}}`,
    which are :math:`\mathbf{h}` after dropout, without a gradient, and
    :math:`C(\mathbf{a}, \mathbf{b}) = - \cos(\mathbf{a}, \mathbf{b})`,

    .. math::
        \mathcal{L}_{\text{rec}} &= C(\mathbf{\tilde{h}}_u,
        \mathbf{\dot{h}}_i) + C(\mathbf{\tilde{h}}_i, \mathbf{\dot{h}}_u),
        \quad \mathcal{L}_{\text{align}} = \sum_m C(\mathbf{\tilde{h}}_m,
        \mathbf{\dot{h}}_i), \quad \mathcal{L}_{\text{mask}} = \sum_m
        C(\mathbf{\tilde{h}}_m, \mathbf{\dot{h}}_m)

        \mathcal{L} &= \mathcal{L}_{\text{rec}} + \omega \left(
        \mathcal{L}_{\text{align}} + \mathcal{L}_{\text{mask}} \right) +
        \lambda \left( \| \mathbf{h}_u \|^2 + \| \mathbf{h}_i \|^2 \right)

    is averaged over the interactions. A modality that an item lacks
    contributes nothing. Scores are :math:`\mathbf{\tilde{h}}_u^{\top}
    \mathbf{\tilde{h}}_i`.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        in_channels (Dict[str, int]): The size of the features of every
            modality.
        hidden_channels (int, optional): The size of the embeddings.
            (default: :obj:`64`)
        num_layers (int, optional): The number of layers. (default: :obj:`1`)
        dropout (float, optional): The probability with which entries of the
            targets are dropped. (default: :obj:`0.3`)
        align_weight (float, optional): The weight :math:`\omega`.
            (default: :obj:`1.0`)
        reg_weight (float, optional): The weight :math:`\lambda`.
            (default: :obj:`1e-2`)
    """
    def __init__(self, num_users: int, num_items: int,
                 in_channels: Dict[str, int], hidden_channels: int = 64,
                 num_layers: int = 1, dropout: float = 0.3,
                 align_weight: float = 1.0, reg_weight: float = 1e-2):
        super().__init__(in_channels, num_users=num_users,
                         num_items=num_items, hidden_channels=hidden_channels,
                         reg_weight=reg_weight)
        check_range('num_layers', num_layers, 0)
        check_range('dropout', dropout, 0, 1)
        check_range('align_weight', align_weight, 0)
        self.num_layers = num_layers
        self.dropout = dropout
        self.align_weight = align_weight
        self.conv = ModalityConv()
        self.lins = ModuleDict({m: Linear(channels, hidden_channels)
                                for m, channels in in_channels.items()})
        self.predictor = Linear(hidden_channels, hidden_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        super().reset_parameters()
        reset(self.lins)
        reset(self.predictor)

    def forward(self, adj: WeightedAdj) -> Tuple[Tensor, Tensor]:
        r"""Computes the embeddings :math:`\mathbf{h}` of all users and items
        from the normalized matrix of interactions.
        """
        x = mean_of_layers(self.conv, adj, self.embedding, self.num_layers)
        user, item = x.split(self.sizes)
        return user, item + self.item_embedding.weight

    def loss(
        self,
        x_user: Tensor,
        x_item: Tensor,
        feat_dict: Dict[str, Tensor],
        key: Key,
        batch_size: Optional[int] = None,
        mask_dict: Optional[Dict[str, Tensor]] = None,
    ) -> Dict[str, Tensor]:
        r"""Computes the loss of a batch of interactions: :obj:`loss` and its
        parts :obj:`rec`, :obj:`align`, :obj:`mask` and :obj:`reg`.

        Args:
            x_user (torch.Tensor): The embeddings of users :obj:`[N, F]`.
            x_item (torch.Tensor): Those of their items :obj:`[N, F]`.
            feat_dict (Dict[str, torch.Tensor]): The features of these items,
                of shape :obj:`[N, F_m]`, per modality.
            key (Tuple[int]): What the dropout depends on.
            batch_size (int, optional): What sums are divided by; :obj:`N` if
                not given. (default: :obj:`None`)
            mask_dict (Dict[str, torch.Tensor], optional): Whether these items
                have a modality, of shape :obj:`[N]`. (default: :obj:`None`)
        """
        size = x_user.size(0) if batch_size is None else batch_size
        user, item = (self._target(x, (*key, i))
                      for i, x in enumerate([x_user, x_item]))
        rec = _distance(self.predictor(x_user), item) + \
            _distance(self.predictor(x_item), user)
        align = mask = torch.zeros_like(rec)
        for i, (m, lin) in enumerate(self.lins.items(), start=2):
            x = lin(feat_dict[m])
            online, target = self.predictor(x), self._target(x, (*key, i))
            has = (mask_dict or {}).get(m, 1)
            align = align + has * _distance(online, item)
            mask = mask + has * _distance(online, target)
        return total_loss({
            'rec': rec.sum() / size,
            'align': self.align_weight * align.sum() / size,
            'mask': self.align_weight * mask.sum() / size,
            'reg': self.reg_weight * squared_norm([x_user, x_item]) / size,
        })

    def _target(self, x: Tensor, key: Key) -> Tensor:
        return keyed_dropout(x.detach(), self.dropout, *key)

    def phases(self, data: HeteroData) -> List[Phase]:
        edge_index = self.interactions(data).edge_index
        adj = normalized_adj(edge_index, *self.sizes)
        x_dict, mask_dict = modality_features(data), modality_masks(data)

        def loss(index: Tensor, batch_size: int,
                 key: Key) -> Dict[str, Tensor]:
            user, item = edge_index[:, index]
            x_user, x_item = self(adj)
            return self.loss(F.embedding(user, x_user),
                             F.embedding(item, x_item),
                             {m: x[item] for m, x in x_dict.items()}, key,
                             batch_size,
                             {m: x[item] for m, x in mask_dict.items()})

        return [Phase('ranking', list(self.parameters()), edge_index.size(1),
                      loss)]

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        edge_index = self.interactions(data).edge_index
        user, item = self(normalized_adj(edge_index, *self.sizes))
        return self.predictor(user), self.predictor(item)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return -F.cosine_similarity(x, y, dim=-1)
