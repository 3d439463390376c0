from typing import Dict, List, Tuple

import torch
from torch import Tensor
from torch.nn import Embedding, Linear, ModuleDict

from diffmm_pyg.data import unit_features
from diffmm_pyg.nn.models.embedding_recommender import ModalityRecommender
from diffmm_pyg.nn.models.pairwise import bpr_phase
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.utils.checks import check_range
from torch_geometric.data import HeteroData


class VBPR(ModalityRecommender):
    r"""The recommender from `"VBPR: Visual Bayesian Personalized Ranking from
    Implicit Feedback" <https://arxiv.org/abs/1510.01784>`_, for any number of
    modalities with features :math:`\mathbf{f}^m_i` of norm 1,

    .. math::
        \hat{x}_{ui} = \beta_i + \gamma_u^{\top} \gamma_i + \sum_m \left(
        \theta_u^{\top} \mathbf{E}_m \mathbf{f}^m_i + \beta_m^{\top}
        \mathbf{f}^m_i \right)

    trained by :meth:`~diffmm_pyg.nn.bpr_loss` and :math:`\lambda \| \Theta
    \|^2`, where :math:`\Theta` are the :math:`\mathbf{E}_m, \beta_m`, and the
    factors :math:`\gamma, \theta, \beta` of the batch, divided by its size.
    (Constants and biases of users do not change a ranking.) One matrix per
    modality is the same as one of all features side by side; a modality that
    an item lacks contributes nothing.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        in_channels (Dict[str, int]): The size of the features of every
            modality.
        hidden_channels (int, optional): The size of the factors
            :math:`\gamma`. (default: :obj:`64`)
        feature_channels (int, optional): The size of the factors
            :math:`\theta`. (default: :obj:`64`)
        reg_weight (float, optional): The weight :math:`\lambda`.
            (default: :obj:`1e-2`)
    """
    def __init__(self, num_users: int, num_items: int,
                 in_channels: Dict[str, int], hidden_channels: int = 64,
                 feature_channels: int = 64, reg_weight: float = 1e-2):
        super().__init__(in_channels, num_users=num_users,
                         num_items=num_items, hidden_channels=hidden_channels,
                         reg_weight=reg_weight)
        check_range('feature_channels', feature_channels, 1)
        self.feature_channels = feature_channels
        self.user_factor = Embedding(num_users, feature_channels)
        self.item_bias = Embedding(num_items, 1)
        # The last output is the bias that the features explain:
        self.lins = ModuleDict({
            m: Linear(channels, feature_channels + 1, bias=False)
            for m, channels in in_channels.items()
        })
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        super().reset_parameters()
        torch.nn.init.xavier_uniform_(self.user_factor.weight)
        torch.nn.init.zeros_(self.item_bias.weight)
        for weight in self.lins.parameters():
            torch.nn.init.xavier_uniform_(weight)

    def forward(self, user: Tensor, item: Tensor,
                feat_dict: Dict[str, Tensor]) -> Tuple[Tensor, Tensor]:
        r"""Computes the embeddings of users and items.

        Args:
            user (torch.Tensor): The indices of the users :obj:`[N]`.
            item (torch.Tensor): The indices of the items :obj:`[M]`.
            feat_dict (Dict[str, torch.Tensor]): The features of all items,
                of norm 1, or 0 where an item lacks the modality.
        """
        x_user = torch.cat([
            self.user_embedding(user),
            self.user_factor(user),
            torch.ones_like(user, dtype=self.user_factor.weight.dtype)[:, None]
        ], dim=-1)
        content = torch.stack([lin(feat_dict[m][item])
                               for m, lin in self.lins.items()]).sum(dim=0)
        factor, bias = content.tensor_split([self.feature_channels], dim=-1)
        x_item = torch.cat([self.item_embedding(item), factor,
                            bias + self.item_bias(item)], dim=-1)
        return x_user, x_item

    def phases(self, data: HeteroData) -> List[Phase]:
        feat_dict = unit_features(data)

        def embed(user: Tensor, item: Tensor,
                  key: Key) -> Tuple[Tensor, Tensor]:
            return self(user, item, feat_dict)

        return [bpr_phase(self, data, embed,
                          user_tables=[self.user_embedding, self.user_factor],
                          item_tables=[self.item_embedding, self.item_bias],
                          weights=list(self.lins.parameters()))]

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        self.interactions(data)  # Checks sizes.
        device = self.item_bias.weight.device
        user, item = (torch.arange(n, device=device) for n in self.sizes)
        return self(user, item, unit_features(data))
