from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.evaluation import evaluate, known_items
from diffmm_pyg.typing import ITEM, USER
from diffmm_pyg.utils import inner_product_topk

Ids = List[Union[int, str]]


class Recommendations(NamedTuple):
    r"""Ranked items.

    Args:
        user ([int or str]): The ids of the users, of length :obj:`N`.
        item ([[int or str]]): For every user, the ids of the items, best
            first.
        score (torch.Tensor): Their scores, of shape :obj:`[N, k]`.
    """
    user: Ids
    item: List[Ids]
    score: Tensor


class Run:
    r"""A finished training: all that is needed to rank and to evaluate, with
    the original data gone.

    Args:
        config (Dict): The hyper-parameters and what the run was made from.
        metrics (Dict): The metrics of the best epoch.
        history ([Dict]): Losses and metrics of every epoch.
        state (Dict[str, torch.Tensor]): The parameters of the model.
        graphs (Dict[str, torch.Tensor]): Edges: :obj:`observed`, the
            positives :obj:`val` and :obj:`test`, and for every modality the
            generated ones with their weights.
        user_emb (torch.Tensor): The embeddings :math:`(|\mathcal{U}|, F)`.
        item_emb (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
        ids (Dict[str, List]): The original ids of users and items.
    """
    def __init__(self, config: Dict[str, Any], metrics: Dict[str, Any],
                 history: List[Dict[str, float]], state: Dict[str, Tensor],
                 graphs: Dict[str, Tensor], user_emb: Tensor,
                 item_emb: Tensor, ids: Dict[str, Ids]):
        self.config = config
        self.metrics = metrics
        self.history = history
        self.state = state
        self.graphs = graphs
        self.user_emb = user_emb
        self.item_emb = item_emb
        self.ids = ids

    @property
    def num_users(self) -> int:
        return self.user_emb.size(0)

    @property
    def num_items(self) -> int:
        return self.item_emb.size(0)

    def recommend(self, users: Optional[Sequence[Union[int, str]]] = None,
                  k: int = 20) -> Recommendations:
        r"""Recommends the :obj:`k` best items to users, by their original
        ids, without what they are known to have interacted with in training.

        Args:
            users ([int or str], optional): The ids of the users; all of them
                if not given. (default: :obj:`None`)
            k (int, optional): The number of items per user.
                (default: :obj:`20`)

        Raises:
            ConfigError: If an id is unknown or :obj:`k` is out of range.
        """
        if not 0 < k <= self.num_items:
            raise ConfigError(f"'k' must lie in 1..{self.num_items}, the "
                              f"number of items (got {k})")
        if users is None:
            index = torch.arange(self.num_users)
        else:
            index = self._user_index(users)
        seen = known_items(self.graphs['observed'], self.num_users,
                           self.num_items)
        score, item = inner_product_topk(self.user_emb[index], self.item_emb,
                                         k, exclude=seen.select(index))
        item_ids = np.array(self.ids[ITEM], dtype=object)
        keep = score > float('-inf')
        return Recommendations(
            user=[self.ids[USER][i] for i in index.tolist()],
            item=[item_ids[row[mask]].tolist() for row, mask in zip(
                item.numpy(), keep.numpy(), strict=True)],
            score=score,
        )

    def _user_index(self, users: Sequence[Union[int, str]]) -> Tensor:
        position = {str(user): i for i, user in enumerate(self.ids[USER])}
        unknown = [user for user in users if str(user) not in position]
        if len(unknown) > 0:
            raise ConfigError(f"There is no user '{unknown[0]}' in this run "
                              f"({len(unknown)} of {len(users)} given ids are "
                              f"unknown); ids look like "
                              f"'{self.ids[USER][0]}'")
        return torch.tensor([position[str(user)] for user in users],
                            dtype=torch.long)

    def evaluate(self, k: Optional[Sequence[int]] = None,
                 ) -> Dict[str, Dict[str, float]]:
        r"""Computes the metrics of validation and test anew from the
        embeddings, under the protocol of the run.
        """
        training = self.config['training']
        k = [training['top_k']] if k is None else k
        if max(k) > self.num_items or min(k) < 1:
            raise ConfigError(f"'k' must lie in 1..{self.num_items}, the "
                              f"number of items (got {list(k)})")
        out = {}
        for name in ['val', 'test']:
            if name not in self.graphs:
                continue
            also = None
            if name == 'test' and training['protocol'] == 'strict':
                also = self.graphs.get('val')
            exclude = known_items(self.graphs['observed'], self.num_users,
                                  self.num_items, also)
            out[name] = evaluate(self.user_emb, self.item_emb,
                                 self.graphs[name], exclude, k)
        return out
