r"""Ranked items for users, by original ids."""
from typing import Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.typing import ITEM, USER
from diffmm_pyg.utils import SparseRows, UserEmbedding, inner_product_topk
from diffmm_pyg.utils.checks import check_k

__all__ = [
    'Recommendations',
    'recommend',
]

Id = Union[int, str]


class Recommendations(NamedTuple):
    r"""Ranked items.

    Args:
        user ([int or str]): The ids of the users, of length :obj:`N`.
        item ([[int or str]]): For every user, the ids of the items, best
            first; fewer than :obj:`k` where no more are left.
        score (torch.Tensor): Their scores, of shape :obj:`[N, k]`,
            :math:`-\infty` where no item is left.
    """
    user: List[Id]
    item: List[List[Id]]
    score: Tensor


def recommend(
    user_emb: UserEmbedding,
    item_emb: Tensor,
    seen: SparseRows,
    ids: Dict[str, List[Id]],
    users: Optional[Union[Id, Sequence[Id], Tensor]] = None,
    k: int = 20,
) -> Recommendations:
    r"""Recommends to every user the items with the largest inner products,
    without those already seen.

    Args:
        user_emb (torch.Tensor or RowEmbedding): The embeddings
            :math:`(|\mathcal{U}|, F)`.
        item_emb (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
        seen (SparseRows): The items of every user that are left out.
        ids (Dict[str, List]): The original ids of users and of items.
        users (int, str or Sequence, optional): The ids of the
            users; all of them if not given. (default: :obj:`None`)
        k (int, optional): The number of items per user. (default: :obj:`20`)

    Raises:
        ConfigError: If an id is unknown or :obj:`k` is out of range.
    """
    check_k(k, item_emb.size(0))
    index = torch.arange(user_emb.size(0), device=user_emb.device)
    if users is not None:
        index = index[positions(users, ids[USER], USER)]
    score, item = inner_product_topk(user_emb[index], item_emb, k,
                                     exclude=seen.select(index))
    item_ids = np.array(ids[ITEM], dtype=object)
    left = (score > float('-inf')).cpu().numpy()
    return Recommendations(
        user=[ids[USER][i] for i in index.tolist()],
        item=[item_ids[row[mask]].tolist()
              for row, mask in zip(item.cpu().numpy(), left, strict=True)],
        score=score,
    )


def positions(given: Union[Id, Sequence[Id], Tensor], ids: List[Id],
              node_type: str) -> List[int]:
    r"""Returns the positions of the given ids among those of all nodes.

    Raises:
        ConfigError: If an id is unknown.
    """
    if isinstance(given, Tensor):
        given = given.tolist()
    if isinstance(given, (int, str)):
        given = [given]
    # On the command line, and in files, integers are text as well.
    position = {str(node): i for i, node in enumerate(ids)}
    unknown = [node for node in given if str(node) not in position]
    if len(unknown) > 0:
        raise ConfigError(f"There is no {node_type} '{unknown[0]}' "
                          f"({len(unknown)} of {len(given)} given ids are "
                          f"unknown); ids look like '{ids[0]}'")
    return [position[str(node)] for node in given]
