r"""Sums of the scores of several models, as embeddings."""
from functools import reduce
from typing import Callable, List, Sequence, Tuple

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
BlockStd = Callable[[int, int], Tensor]  # Of the users from start to end.


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
    num_users, (num_items, width) = user_emb.size(0), item_emb.size()
    if (isinstance(user_emb, Tensor) and item_emb.dtype != torch.double
            and (num_users + num_items) * width < num_users * num_items / 2):
        block_std, row_numel = _std_by_covariance(user_emb, item_emb), width
    else:
        block_std, row_numel = _std_by_scores(user_emb, item_emb), num_items
    size = max(1, MAX_BLOCK_NUMEL // max(1, row_numel))
    return torch.cat(map_blocks(block_std, num_users, size))


def _std_by_scores(user_emb: UserEmbedding, item_emb: Tensor) -> BlockStd:
    score = block_scores(user_emb, item_emb)

    def block_std(start: int, end: int) -> Tensor:
        value = score(start, end)
        std, mean = torch.std_mean(value, dim=1, correction=0)
        return _unless_equal(std, mean, value.dtype)

    return block_std


def _std_by_covariance(user_emb: Tensor, item_emb: Tensor) -> BlockStd:
    # With the covariance C of the items' embeddings, the variance of a user's
    # scores is x^T C x, and no score is computed. The digits that squares cost
    # are those that double precision has more.
    num_items, width = item_emb.size()
    mean = item_emb.mean(dim=0, dtype=torch.double)
    cov = mean.new_zeros(width, width)
    for x in item_emb.split(max(1, MAX_BLOCK_NUMEL // max(1, width))):
        x = x - mean
        cov.addmm_(x.t(), x, alpha=1 / num_items)

    def block_std(start: int, end: int) -> Tensor:
        x = user_emb[start:end].double()
        var = ((x @ cov) * x).sum(dim=1).clamp(min=0)
        std = _unless_equal(var.sqrt(), x @ mean, item_emb.dtype)
        return std.to(item_emb.dtype)

    return block_std


def _unless_equal(std: Tensor, mean: Tensor, dtype: torch.dtype) -> Tensor:
    # What rounding makes of equal scores is not to be blown up.
    return torch.where(std > 10 * torch.finfo(dtype).eps * mean.abs(), std, 0.)
