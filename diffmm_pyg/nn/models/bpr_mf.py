from typing import List, Tuple

from torch import Tensor

from diffmm_pyg.nn.models.embedding_recommender import EmbeddingRecommender
from diffmm_pyg.nn.models.pairwise import bpr_phase
from diffmm_pyg.nn.models.recommender import Key, Phase
from torch_geometric.data import HeteroData


class BPRMF(EmbeddingRecommender):
    r"""Matrix factorization with the pairwise loss from `"BPR: Bayesian
    Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_

    .. math::
        \hat{x}_{ui} = \langle \mathbf{w}_u, \mathbf{h}_i \rangle, \quad
        \mathcal{L} = \frac{1}{B} \sum_{(u,i,j)} - \ln \sigma(\hat{x}_{ui} -
        \hat{x}_{uj}) + \lambda \left( \| \mathbf{w}_u \|^2 +
        \| \mathbf{h}_i \|^2 + \| \mathbf{h}_j \|^2 \right).

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        hidden_channels (int, optional): The size of the embeddings.
            (default: :obj:`64`)
        reg_weight (float, optional): The weight :math:`\lambda`.
            (default: :obj:`1e-2`)
    """
    def __init__(self, num_users: int, num_items: int,
                 hidden_channels: int = 64, reg_weight: float = 1e-2):
        super().__init__(num_users, num_items, hidden_channels, reg_weight)
        self.reset_parameters()

    def forward(self, user: Tensor, item: Tensor) -> Tuple[Tensor, Tensor]:
        r"""Returns the embeddings of users and items at these indices."""
        return self.user_embedding(user), self.item_embedding(item)

    def phases(self, data: HeteroData) -> List[Phase]:
        def embed(user: Tensor, item: Tensor,
                  key: Key) -> Tuple[Tensor, Tensor]:
            return self(user, item)

        return [bpr_phase(self, data, embed)]

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        self.interactions(data)  # Checks sizes.
        return self.user_embedding.weight, self.item_embedding.weight
