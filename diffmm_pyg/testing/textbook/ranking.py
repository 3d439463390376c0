from typing import Dict, Sequence, Tuple

import torch
from torch import Tensor


def rank_items(
    user: Tensor,
    item: Tensor,
    seen: Tensor,
    k: int,
) -> Tuple[Tensor, Tensor]:
    r"""The :obj:`k` items with the largest inner products per user, best
    first; items already seen score minus infinity.

    Args:
        user (torch.Tensor): The embeddings of users.
        item (torch.Tensor): The embeddings of all items.
        seen (torch.Tensor): The items that are left out.
        k (int): The number of items per user.

    Shapes:
        - **user**, **item:** :math:`(B, d)`, :math:`(I, d)`
        - **seen:** :math:`(B, I)`, boolean
        - **output:** scores and items, both :math:`(B, \min(k, I))`
    """
    scores = (user @ item.t()).masked_fill(seen, -torch.inf)
    return scores.topk(min(k, item.size(0)), dim=1)


def ranking_metrics(
    scores: Tensor,
    items: Tensor,
    positives: Tensor,
    ks: Sequence[int],
) -> Dict[str, float]:
    r"""Recall, NDCG and precision at every :math:`K`, each a mean over the
    users with at least one positive:

    .. math::
        \mathrm{recall} &= \frac{hits}{positives}, \quad
        \mathrm{precision} = \frac{hits}{K}

        \mathrm{ndcg} &= \frac{\sum_{r=1}^{K} hit_r / \log_2(r + 1)}
        {\sum_{r=1}^{\min(K, positives)} 1 / \log_2(r + 1)}

    Args:
        scores (torch.Tensor): The scores of :func:`rank_items`; an item at
            minus infinity is not a recommendation.
        items (torch.Tensor): The items of :func:`rank_items`.
        positives (torch.Tensor): The relevant items.
        ks (Sequence[int]): The cut-offs.

    Shapes:
        - **scores**, **items:** :math:`(B, \max K)` or, where there are fewer
          items, :math:`(B, I)`
        - **positives:** :math:`(B, I)`, boolean
        - **output:** keys such as :obj:`"recall@20"`
    """
    counted = positives.any(dim=1)
    scores, items = scores[counted], items[counted]
    positives = positives[counted]
    count = positives.sum(dim=1)
    hit = (positives.gather(1, items) & (scores > -torch.inf)).double()
    ranks = torch.arange(2, max(ks) + 2, dtype=hit.dtype, device=hit.device)
    discount = 1 / ranks.log2()
    ideal = discount.cumsum(0)

    out = {}
    for k in ks:
        hit_k = hit[:, :k]
        hits = hit_k.sum(dim=1)
        dcg = (hit_k * discount[:hit_k.size(1)]).sum(dim=1)
        out[f'recall@{k}'] = float((hits / count).mean())
        out[f'ndcg@{k}'] = float((dcg / ideal[count.clamp(max=k) - 1]).mean())
        out[f'precision@{k}'] = float((hits / k).mean())
    return out
