r"""Sums of the scores of several models, as embeddings."""
from functools import reduce
from typing import List, Sequence, Tuple

import torch
from torch import Tensor

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.utils.row_embedding import (
    RowEmbedding,
    UserEmbedding,
    block_scores,
)
from diffmm_pyg.utils.topk import MAX_BLOCK_NUMEL, map_blocks

Embeddings = Tuple[UserEmbedding, Tensor]


def standardized(user_emb: UserEmbedding, item_emb: Tensor,
                 weight: float = 1.) -> UserEmbedding:
    r"""Scales the embeddings of every user such that the scores of all items
    have a standard deviation of :obj:`weight`; all zero where a user's scores
    are all equal. Their mean, which cannot change a ranking, stays.

    Args:
        user_emb (torch.Tensor or RowEmbedding): The embeddings
            :math:`(|\mathcal{U}|, F)`.
        item_emb (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
        weight (float, optional): The weight. (default: :obj:`1.`)
    """
    dtype = torch.promote_types(item_emb.dtype, torch.get_default_dtype())
    with torch.autocast(user_emb.device.type, enabled=False):
        if isinstance(user_emb, RowEmbedding):
            dense = user_emb.dense.to(dtype)
            user_emb = RowEmbedding(user_emb.rows, user_emb.scale, dense)
        else:
            user_emb = user_emb.to(dtype)
        std = _score_std(user_emb, item_emb.to(dtype))
    return scaled(user_emb, torch.where(std > 0, weight / std, 0.))


def scaled(user_emb: UserEmbedding, factor: Tensor) -> UserEmbedding:
    r"""Multiplies the embeddings of every user by a factor, as it does their
    scores.

    Args:
        user_emb (torch.Tensor or RowEmbedding): The embeddings
            :math:`(|\mathcal{U}|, F)`.
        factor (torch.Tensor): The factors :math:`(|\mathcal{U}|)`, or a
            single one, of shape :obj:`[1]`.
    """
    if isinstance(user_emb, RowEmbedding):
        return RowEmbedding(user_emb.rows, user_emb.scale * factor,
                            user_emb.dense * factor.view(-1, 1))
    return user_emb * factor.view(-1, 1)


def concat_embeddings(embeddings: Sequence[Embeddings]) -> Embeddings:
    r"""Returns embeddings of users and items whose scores are the sum of
    those of :obj:`embeddings`.

    Args:
        embeddings ([Tuple]): Pairs of embeddings of all users and of all
            items.

    Raises:
        ConfigError: If several are a
            :class:`~diffmm_pyg.utils.RowEmbedding`, of different rows or
            factors: the weights of their items do not add up then.
    """
    dense, items, weights = [], [], []
    row_emb: List[RowEmbedding] = []
    for user_emb, item_emb in embeddings:
        if isinstance(user_emb, RowEmbedding):
            width = user_emb.dense.size(1)
            dense.append(user_emb.dense)
            items.append(item_emb[:, :width])
            weights.append(item_emb[:, width:])
            row_emb.append(user_emb)
        else:
            dense.append(user_emb)
            items.append(item_emb)
    if len(row_emb) == 0:
        return torch.cat(dense, dim=1), torch.cat(items, dim=1)

    first = row_emb[0]
    if not all(_same_rows(first, other) for other in row_emb[1:]):
        raise ConfigError("Scores of several item-item models, e.g., EASE and "
                          "ItemKNN, add up only if their rows and factors per "
                          "user are equal; combine one of them with others")
    return (RowEmbedding(first.rows, first.scale, torch.cat(dense, dim=1)),
            torch.cat([*items, reduce(torch.add, weights)], dim=1))


def _same_rows(a: RowEmbedding, b: RowEmbedding) -> bool:
    return (a.scale.equal(b.scale) and a.rows.rowptr.equal(b.rows.rowptr)
            and a.rows.col.equal(b.rows.col))


def _score_std(user_emb: UserEmbedding, item_emb: Tensor) -> Tensor:
    score = block_scores(user_emb, item_emb)

    def block_std(start: int, end: int) -> Tensor:
        value = score(start, end)
        std = value.std(dim=1, correction=0)
        # What rounding makes of equal scores is not to be blown up.
        eps = 10 * torch.finfo(std.dtype).eps
        return torch.where(std > eps * value.abs().amax(dim=1), std, 0.)

    size = max(1, MAX_BLOCK_NUMEL // item_emb.size(0))
    return torch.cat(map_blocks(block_std, user_emb.size(0), size))
