from typing import Any, Dict, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import Embedding

from diffmm_pyg.data import check_sizes, observed_rows
from diffmm_pyg.nn.models.recommender import Recommender
from diffmm_pyg.utils import SparseRows
from diffmm_pyg.utils.checks import check_range
from torch_geometric.data import HeteroData


class EmbeddingRecommender(Recommender):
    r"""What recommenders with an embedding per user and per item share. They
    start from Xavier-uniform values.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        hidden_channels (int): The size of the embeddings.
        reg_weight (float): The weight of squared norms in the loss.
    """
    # The size of the features of every modality, if the model takes them:
    in_channels: Optional[Dict[str, int]] = None

    def __init__(self, num_users: int, num_items: int, hidden_channels: int,
                 reg_weight: float):
        super().__init__()
        check_range('hidden_channels', hidden_channels, 1)
        check_range('reg_weight', reg_weight, 0)
        self.num_users = num_users
        self.num_items = num_items
        self.hidden_channels = hidden_channels
        self.reg_weight = reg_weight
        self.user_embedding = Embedding(num_users, hidden_channels)
        self.item_embedding = Embedding(num_items, hidden_channels)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.xavier_uniform_(self.user_embedding.weight)
        torch.nn.init.xavier_uniform_(self.item_embedding.weight)

    @property
    def sizes(self) -> Tuple[int, int]:
        r"""The numbers of users and items."""
        return self.num_users, self.num_items

    @property
    def embedding(self) -> Tensor:
        r"""The embeddings of all nodes, users first."""
        return torch.cat([self.user_embedding.weight,
                          self.item_embedding.weight])

    def interactions(self, data: HeteroData) -> SparseRows:
        r"""Returns the items of every user in training.

        Raises:
            ConfigError: If :obj:`data` is not of the sizes that this model
                was made for.
        """
        check_sizes(data, *self.sizes, self.in_channels)
        return observed_rows(data)

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}({self.num_users}, '
                f'{self.num_items}, {self.hidden_channels})')


class ModalityRecommender(EmbeddingRecommender):
    r"""What those share that take features of items.

    Args:
        in_channels (Dict[str, int]): The size of the features of every
            modality.
        **kwargs: The arguments of :class:`EmbeddingRecommender`.
    """
    in_channels: Dict[str, int]

    def __init__(self, in_channels: Dict[str, int], **kwargs: Any):
        super().__init__(**kwargs)
        self.in_channels = dict(in_channels)

    @classmethod
    def from_sizes(cls, num_users: int, num_items: int,
                   in_channels: Dict[str, int],
                   **kwargs: Any) -> 'Recommender':
        return cls(num_users=num_users, num_items=num_items,
                   in_channels=in_channels, **kwargs)
