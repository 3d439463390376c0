from itertools import combinations
from typing import Dict, Iterable, List, Literal, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.utils.logsumexp import weighted_logsumexp
from diffmm_pyg.utils.normalize import row_normalize

# Embeddings of users and of items, and the mask of the latter:
View = Tuple[Tensor, Tensor, Optional[Tensor]]


def bpr_loss(positives: Tensor, negatives: Tensor,
             batch_size: Optional[int] = None) -> Tensor:
    r"""The Bayesian Personalized Ranking (BPR) loss from `"BPR: Bayesian
    Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_

    .. math::
        - \frac{1}{B} \sum_b \log \sigma(s^+_b - s^-_b).

    Args:
        positives (torch.Tensor): The scores of positive pairs, :obj:`[N]`.
        negatives (torch.Tensor): The scores of negative pairs, :obj:`[N]`.
        batch_size (int, optional): What the sum is divided by. With the
            nominal size of a batch, every interaction of an epoch weighs the
            same, also those in a short last batch. If set to :obj:`None`,
            will be :obj:`N`. (default: :obj:`None`)
    """
    batch_size = positives.numel() if batch_size is None else batch_size
    return -F.logsigmoid(positives - negatives).sum() / batch_size


def info_nce_loss(
    anchor: Tensor,
    other: Tensor,
    index: Tensor,
    temperature: float,
    mask: Optional[Tensor] = None,
) -> Tensor:
    r"""The InfoNCE loss from `"Representation Learning with Contrastive
    Predictive Coding" <https://arxiv.org/abs/1807.03748>`_, with cosine
    similarity, between two views of the same nodes

    .. math::
        - \frac{1}{B} \sum_{v \in \mathcal{B}} \log
        \frac{\exp(\cos(a_v, o_v) / \tau)}
        {\sum_{w \in \mathcal{V}} \exp(\cos(a_v, o_w) / \tau)}.

    Args:
        anchor (torch.Tensor): The anchor view :math:`(|\mathcal{V}|, F)`.
        other (torch.Tensor): The other view :math:`(|\mathcal{V}|, F)`.
        index (torch.Tensor): The nodes :math:`\mathcal{B}` of the batch; one
            that occurs twice counts twice.
        temperature (float): The temperature :math:`\tau`.
        mask (torch.Tensor, optional): The nodes :math:`(|\mathcal{V}|)` that
            take part; the others are neither anchors nor in the denominator.
            (default: :obj:`None`)
    """
    if not temperature > 0:
        raise ValueError(f"'temperature' must be positive "
                         f"(got {temperature})")
    if index.is_cuda:  # Finding duplicates would synchronize.
        node, count = index, torch.ones_like(index)
    else:
        node, count = index.unique(return_counts=True)
    weight, bias = count.to(anchor.dtype), None
    if mask is not None:
        weight = weight * mask[node]
        bias = torch.zeros_like(mask, dtype=anchor.dtype)
        bias.masked_fill_(~mask, float('-inf'))

    x, y = row_normalize(anchor[node]), row_normalize(other)
    positive = (weight * (x * y[node]).sum(dim=-1)).sum() / temperature
    total = weighted_logsumexp(x, y, weight, 1 / temperature, bias,
                               bound=1 / temperature)
    return (total - positive) / index.numel()


def contrastive_loss(
    final: Tuple[Tensor, Tensor],
    view_dict: Dict[str, Tuple[Tensor, Tensor]],
    user: Tensor,
    item: Tensor,
    temperature: float,
    anchor: Literal['main', 'modality'] = 'main',
    mask_dict: Optional[Dict[str, Tensor]] = None,
) -> Tensor:
    r"""The cross-modal contrastive loss (Eqs. 22 and 23 of `"DiffMM"
    <https://arxiv.org/abs/2406.11781>`_): the sum over pairs of views of
    :meth:`info_nce_loss` over users and over items.

    Args:
        final (Tuple[torch.Tensor, torch.Tensor]): The final embeddings of all
            users and of all items.
        view_dict (Dict[str, Tuple[torch.Tensor, torch.Tensor]]): The same of
            the view of every modality.
        user (torch.Tensor): The users of the batch, :obj:`[N]`.
        item (torch.Tensor): The items of the batch, :obj:`[N]`.
        temperature (float): The temperature.
        anchor (str, optional): Whether the final embeddings are paired with
            every view (:obj:`"main"`), or the views with each other
            (:obj:`"modality"`). (default: :obj:`"main"`)
        mask_dict (Dict[str, torch.Tensor], optional): The items
            :math:`(|\mathcal{I}|)` that have a modality; the others are left
            out of its view. (default: :obj:`None`)
    """
    views: List[View] = [(*view, (mask_dict or {}).get(m))
                         for m, view in view_dict.items()]
    pairs: Iterable[Tuple[View, View]] = combinations(views, 2)
    if anchor == 'main':
        pairs = [((*final, None), view) for view in views]

    loss = user.new_zeros((), dtype=final[0].dtype)
    for (user1, item1, mask1), (user2, item2, mask2) in pairs:
        mask = mask1 if mask2 is None else mask2
        if mask1 is not None and mask2 is not None:
            mask = mask1 & mask2
        loss = loss + info_nce_loss(user1, user2, user, temperature)
        loss = loss + info_nce_loss(item1, item2, item, temperature, mask)
    return loss
