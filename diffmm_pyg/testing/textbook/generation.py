from typing import Literal, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def topk_edges(
    scores: Tensor,
    k: int,
    *,
    candidates: Literal['all', 'unseen', 'observed'] = 'all',
    observed: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor]:
    r"""The edges from every row to its :obj:`k` best items, best first; a
    row with fewer candidates has fewer edges.

    Args:
        scores (torch.Tensor): Finite scores.
        k (int): The number of edges per row.
        candidates (str, optional): Whether all items compete, or only those
            that are not, or that are, :obj:`observed`.
            (default: :obj:`"all"`)
        observed (torch.Tensor, optional): The observed interactions, needed
            unless all items compete. (default: :obj:`None`)

    Shapes:
        - **scores:** :math:`(B, I)`
        - **observed:** :math:`(B, I)`, boolean
        - **output:** :obj:`edge_index` :math:`(2, E)`, row then item, and
          the scores :math:`(E)`
    """
    if candidates != 'all':
        assert observed is not None
        excluded = observed if candidates == 'unseen' else ~observed
        scores = scores.masked_fill(excluded, -torch.inf)
    value, item = scores.topk(min(k, scores.size(1)), dim=1)
    row = torch.arange(scores.size(0), device=scores.device)
    row = row[:, None].expand_as(item)
    keep = value > -torch.inf
    return torch.stack([row[keep], item[keep]]), value[keep]


def edge_weights(
    scores: Tensor,
    weighting: Literal['binary', 'softplus', 'probability'],
    scale: float = 1.0,
) -> Tensor:
    r"""The positive weights of generated edges: 1, or :obj:`scale` times
    the softplus of a gaussian head's value, or :obj:`scale` times the
    probability whose logarithm a multinomial head gave.

    Args:
        scores (torch.Tensor): The scores of the edges.
        weighting (str): :obj:`"binary"`, :obj:`"softplus"` or
            :obj:`"probability"`.
        scale (float, optional): The factor. (default: :obj:`1.0`)

    Shapes:
        - **scores:** :math:`(E)`
        - **output:** :math:`(E)`
    """
    if weighting == 'binary':
        return torch.ones_like(scores)
    if weighting == 'softplus':
        return scale * F.softplus(scores)
    return scale * scores.exp()
