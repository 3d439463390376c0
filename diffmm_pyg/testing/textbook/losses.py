from itertools import combinations
from typing import Dict, Literal, Optional, Tuple

import torch.nn.functional as F
from torch import Tensor


def bpr_loss(
    user: Tensor,
    item: Tensor,
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    batch_size: int,
) -> Tensor:
    r"""The sum over a batch of :math:`-\log \sigma(s_{pos} - s_{neg})`,
    divided by the nominal :obj:`batch_size`.

    Args:
        user (torch.Tensor): The embeddings of all users.
        item (torch.Tensor): The embeddings of all items.
        users (torch.Tensor): The users of the batch.
        positives (torch.Tensor): Their positive items.
        negatives (torch.Tensor): Their negative items.
        batch_size (int): What the sum is divided by.

    Shapes:
        - **user**, **item:** :math:`(U, d)`, :math:`(I, d)`
        - **users**, **positives**, **negatives:** :math:`(B)`
        - **output:** a scalar
    """
    difference = (user[users] * (item[positives] - item[negatives])).sum(dim=1)
    return -F.logsigmoid(difference).sum() / batch_size


def l2_loss(user: Tensor, item: Tensor) -> Tensor:
    r"""The sum of the squared Frobenius norms of both tables.

    Args:
        user (torch.Tensor): The user table.
        item (torch.Tensor): The item table.
    """
    return user.pow(2).sum() + item.pow(2).sum()


def info_nce_loss(
    anchor: Tensor,
    other: Tensor,
    index: Tensor,
    temperature: float,
    has: Optional[Tensor] = None,
) -> Tensor:
    r"""InfoNCE with cosine similarity: every row of :obj:`anchor` that
    :obj:`index` names should find its own row among all of :obj:`other`.
    A row named twice counts twice.

    .. math::
        \frac{1}{B} \sum_b -\log \frac{\exp(\cos(a_{n_b}, o_{n_b}) / \tau)}
        {\sum_j \exp(\cos(a_{n_b}, o_j) / \tau)}

    Args:
        anchor (torch.Tensor): The anchors' embeddings.
        other (torch.Tensor): The other view's embeddings.
        index (torch.Tensor): The anchors of the batch.
        temperature (float): The temperature :math:`\tau`.
        has (torch.Tensor, optional): Rows where it is :obj:`False` are left
            out as anchors and from the denominator; the mean stays over the
            whole batch. (default: :obj:`None`)

    Shapes:
        - **anchor**, **other:** :math:`(N, d)`
        - **index:** :math:`(B)`
        - **has:** :math:`(N)`
        - **output:** a scalar
    """
    batch_size = index.numel()
    anchor, other = F.normalize(anchor), F.normalize(other)
    if has is None:
        nodes = other
    else:
        index, nodes = index[has[index]], other[has]
    positive = (anchor[index] * other[index]).sum(dim=1) / temperature
    logits = anchor[index] @ nodes.t() / temperature
    return (logits.logsumexp(dim=1) - positive).sum() / batch_size


def contrastive_loss(
    user: Tensor,
    item: Tensor,
    view_dict: Dict[str, Tuple[Tensor, Tensor]],
    users: Tensor,
    items: Tensor,
    temperature: float,
    anchor: Literal['main', 'modality'] = 'main',
    has_dict: Optional[Dict[str, Tensor]] = None,
) -> Tensor:
    r"""InfoNCE over users plus over items, summed over modalities with the
    final embeddings as anchors (:obj:`"main"`), or over the unordered pairs
    of modalities with the earlier view as anchor (:obj:`"modality"`).
    The item term of a pair covers the items that have both modalities.

    Args:
        user (torch.Tensor): The final embeddings of all users.
        item (torch.Tensor): The final embeddings of all items.
        view_dict (Dict[str, Tuple[torch.Tensor, torch.Tensor]]): The views of
            users and items, per modality.
        users (torch.Tensor): The users of the batch.
        items (torch.Tensor): The items of the batch.
        temperature (float): The temperature :math:`\tau`.
        anchor (str, optional): :obj:`"main"` or :obj:`"modality"`.
            (default: :obj:`"main"`)
        has_dict (Dict[str, torch.Tensor], optional): :obj:`False` where an
            item lacks the modality. (default: :obj:`None`)

    Shapes:
        - **user**, **item:** :math:`(U, d)`, :math:`(I, d)`
        - **view_dict:** the views of both, per modality
        - **users**, **items:** :math:`(B)`
        - **has_dict:** :math:`(I)`, boolean, per modality
        - **output:** a scalar
    """
    has = dict(has_dict or {})
    if anchor == 'main':
        terms = [((user, item), view_dict[m], has.get(m)) for m in view_dict]
    else:
        terms = [(view_dict[a], view_dict[b], _both(has.get(a), has.get(b)))
                 for a, b in combinations(view_dict, 2)]
    return sum((info_nce_loss(a[0], b[0], users, temperature) +
                info_nce_loss(a[1], b[1], items, temperature, mask)
                for a, b, mask in terms), user.new_zeros(()))


def _both(a: Optional[Tensor], b: Optional[Tensor]) -> Optional[Tensor]:
    if a is None or b is None:
        return b if a is None else a
    return a & b
