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
    num_contrasts: Optional[int] = None,
    generator: Optional[torch.Generator] = None,
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
        temperature (float): The temperature :math:`\tau`. In mixed
            precision, the similarities of nearly equal views cost too many
            digits below 0.1.
        mask (torch.Tensor, optional): The nodes :math:`(|\mathcal{V}|)` that
            take part; the others are neither anchors nor in the denominator.
            (default: :obj:`None`)
        num_contrasts (int, optional): If given, the sum in the denominator is
            estimated, without bias, from the nodes of the batch and so many
            others, drawn uniformly, whose terms are weighted by the inverse
            of their number (the log-Q correction of `"Sampling-Bias-Corrected
            Neural Modeling for Large Corpus Item Recommendations"
            <https://doi.org/10.1145/3298689.3346996>`_).
            (default: :obj:`None`)
        generator (torch.Generator, optional): What draws them.
            (default: :obj:`None`)

    Raises:
        ValueError: If :obj:`temperature` or :obj:`num_contrasts` is not
            positive.
    """
    if not temperature > 0:
        raise ValueError(f"'temperature' must be positive "
                         f"(got {temperature})")
    if num_contrasts is not None and num_contrasts < 1:
        raise ValueError(f"'num_contrasts' must be at least 1 "
                         f"(got {num_contrasts})")
    if index.is_cuda:  # Finding duplicates would synchronize.
        node, count = index, torch.ones_like(index)
    else:
        node, count = index.unique(return_counts=True)
    weight, bias = count.to(anchor.dtype), None
    if mask is not None:
        weight = weight * mask[node]
        bias = mask.to(anchor.dtype).log()
    x, y = row_normalize(anchor[node]), row_normalize(other[node])
    positive = (weight * (x * y).sum(dim=-1)).sum() / temperature
    if num_contrasts is None:
        y = row_normalize(other)
    else:
        contrast, bias = _sample_contrasts(node, other.size(0), num_contrasts,
                                           mask, generator)
        y = torch.cat([y, row_normalize(other[contrast])])
        bias = bias.to(anchor.dtype)
    total = weighted_logsumexp(x, y, weight, 1 / temperature, bias,
                               1 / temperature if bias is None else None)
    return (total - positive) / index.numel()


def _sample_contrasts(
    node: Tensor,
    num_nodes: int,
    num_contrasts: int,
    mask: Optional[Tensor],
    generator: Optional[torch.Generator],
) -> Tuple[Tensor, Tensor]:
    # Nodes, and the logarithm of how many nodes each one of the batch, and
    # each of these, stands for.
    count = torch.zeros(num_nodes, device=node.device)
    count.index_add_(0, node, count.new_ones(node.numel()))
    rest, own = count == 0, count[node].reciprocal()
    if mask is not None:
        rest, own = rest & mask, own * mask[node]
    rank = rest.cumsum(0)
    draw = torch.rand(num_contrasts, generator=generator, device=node.device,
                      dtype=torch.double)
    contrast = torch.searchsorted(rank, (draw * rank[-1]).long(), right=True)
    stands_for = (rank[-1] / num_contrasts).expand(num_contrasts)
    # Without a node left, these stand for none.
    return (contrast.clamp_(max=num_nodes - 1),
            torch.cat([own, stands_for]).log())


def contrastive_loss(
    final: Tuple[Tensor, Tensor],
    view_dict: Dict[str, Tuple[Tensor, Tensor]],
    user: Tensor,
    item: Tensor,
    temperature: float,
    anchor: Literal['main', 'modality'] = 'main',
    mask_dict: Optional[Dict[str, Tensor]] = None,
    num_contrasts: Optional[int] = None,
    generator: Optional[torch.Generator] = None,
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
        num_contrasts (int, optional): See :meth:`info_nce_loss`.
            (default: :obj:`None`)
        generator (torch.Generator, optional): What draws contrasts.
            (default: :obj:`None`)
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
        for x, y, index, present in [(user1, user2, user, None),
                                     (item1, item2, item, mask)]:
            loss = loss + info_nce_loss(x, y, index, temperature, present,
                                        num_contrasts, generator)
    return loss
