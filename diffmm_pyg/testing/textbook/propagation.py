from typing import Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def normalized_adjacency(
    edge_index: Tensor,
    num_users: int,
    num_items: int,
    edge_weight: Optional[Tensor] = None,
    *,
    multiplier: Optional[Tensor] = None,
    dtype: torch.dtype = torch.float,
    layout: torch.layout = torch.strided,
) -> Tensor:
    r"""The matrix :math:`D^{-1/2} (A + I) D^{-1/2}` over all users, then all
    items, with unit self-loops; :math:`D` holds the row sums of
    :math:`A + I`. Parallel edges add up.

    Args:
        edge_index (torch.Tensor): The edges, users then items.
        num_users (int): The number of users :math:`U`.
        num_items (int): The number of items :math:`I`.
        edge_weight (torch.Tensor, optional): Positive edge weights, through
            which gradients flow; 1 if not given. (default: :obj:`None`)
        multiplier (torch.Tensor, optional): Factors of the normalized
            entries, for edge dropout: the edges' entries in user rows, their
            entries in item rows, and the self-loops of users and of items.
            (default: :obj:`None`)
        dtype (torch.dtype, optional): The type of the matrix if there is no
            :obj:`edge_weight`. (default: :obj:`torch.float`)
        layout (torch.layout, optional): :obj:`torch.strided`,
            :obj:`torch.sparse_coo` or :obj:`torch.sparse_csr`.
            (default: :obj:`torch.strided`)

    Shapes:
        - **edge_index:** :math:`(2, E)`
        - **edge_weight:** :math:`(E)`
        - **multiplier:** :math:`(2 E + U + I)`
        - **output:** :math:`(U + I, U + I)`
    """
    num_nodes = num_users + num_items
    user, item = edge_index[0], edge_index[1] + num_users
    node = torch.arange(num_nodes, device=edge_index.device)
    index = torch.stack([
        torch.cat([user, item, node]),
        torch.cat([item, user, node]),
    ])
    if edge_weight is None:
        edge_weight = torch.ones(user.numel(), dtype=dtype, device=user.device)
    value = torch.cat(
        [edge_weight, edge_weight,
         edge_weight.new_ones(num_nodes)])

    degree = value.new_zeros(num_nodes).index_add(0, index[0], value)
    value = value * degree[index[0]].rsqrt() * degree[index[1]].rsqrt()
    if multiplier is not None:
        value = value * multiplier
    if layout == torch.strided:
        adj = value.new_zeros(num_nodes, num_nodes)
        return adj.index_put((index[0], index[1]), value, accumulate=True)
    adj = torch.sparse_coo_tensor(index, value, (num_nodes, num_nodes),
                                  check_invariants=False).coalesce()
    return adj.to_sparse_csr() if layout == torch.sparse_csr else adj


def project(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    r"""Projects raw features: linearly if there is a bias, else through
    LeakyReLU with slope 0.2.

    Args:
        x (torch.Tensor): The raw features.
        weight (torch.Tensor): The weight.
        bias (torch.Tensor): The bias, or :obj:`None`.

    Shapes:
        - **x:** :math:`(I, f)`
        - **weight:** :math:`(d, f)`
        - **bias:** :math:`(d)`
        - **output:** :math:`(I, d)`
    """
    if bias is None:
        return F.leaky_relu(F.linear(x, weight), 0.2)
    return F.linear(x, weight, bias)


def diffmm_embeddings(
    adj: Tensor,
    adj_dict: Dict[str, Tensor],
    user: Tensor,
    item: Tensor,
    feature_dict: Dict[str, Tensor],
    fusion_logits: Tensor,
    *,
    num_layers: int,
    adj_weight: float,
    residual_weight: float,
    has_dict: Optional[Dict[str, Tensor]] = None,
) -> Tuple[Tensor, Tensor, Dict[str, Tuple[Tensor, Tensor]]]:
    r"""The final embeddings and the contrastive views of the `"DiffMM:
    Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper, modality by modality:

    .. math::
        S_1 &= \hat{A} [U; \bar{P}^m], \quad
        S_2 = \hat{A} [S_{1,users}; I], \quad
        Z^m = S_1 + S_2 + \lambda_{adj} \hat{A}^m [U; I]

        H &= \sum_m \mathrm{softmax}(w)_m Z^m, \quad
        \mathrm{final} = \sum_{l=0}^{L} \hat{A}^l H + \lambda_{res}
        \frac{H}{\|H\|}

        V^m &= \sum_{l=0}^{L} \hat{A}^l \hat{A}^m [U; P^m / \|P^m\|]

    Here :math:`\bar{P}^m` is :math:`P^m` with normalized rows. Where an item
    lacks a modality, that row is zero in both uses, and so is the item's row
    of :math:`\hat{A}^m [U; I]` in :math:`Z^m`. Both these rows of its other
    modalities are divided by the sum of their fusion weights, so that these
    are renormalized over what the item has.

    Args:
        adj (torch.Tensor): :math:`\hat{A}`, dense or sparse.
        adj_dict (Dict[str, torch.Tensor]): The generated graphs'
            :math:`\hat{A}^m`, dense or sparse.
        user (torch.Tensor): The user table :math:`U`.
        item (torch.Tensor): The item table :math:`I`.
        feature_dict (Dict[str, torch.Tensor]): The projected features
            :math:`P^m`; gives the order of the modalities.
        fusion_logits (torch.Tensor): The weights :math:`w`.
        num_layers (int): The number of layers :math:`L`.
        adj_weight (float): The weight :math:`\lambda_{adj}`.
        residual_weight (float): The weight :math:`\lambda_{res}`.
        has_dict (Dict[str, torch.Tensor], optional): :obj:`False` where an
            item lacks the modality. (default: :obj:`None`)

    Shapes:
        - **adj:** :math:`(U + I, U + I)`
        - **user**, **item:** :math:`(U, d)`, :math:`(I, d)`
        - **feature_dict**, **has_dict:** :math:`(I, d)` and :math:`(I)` per
          modality
        - **fusion_logits:** :math:`(M)`
        - **output:** users :math:`(U, d)`, items :math:`(I, d)` and, per
          modality, the views of both
    """
    sizes = [user.size(0), item.size(0)]
    weight = dict(zip(feature_dict, fusion_logits.softmax(dim=0)))
    normed = {m: F.normalize(x) for m, x in feature_dict.items()}
    share = {m: torch.ones_like(item[:, :1]) for m in feature_dict}
    if has_dict:
        has = {m: x * has_dict[m][:, None] if m in has_dict else x
               for m, x in share.items()}
        normed = {m: x * has[m] for m, x in normed.items()}
        total = sum(weight[m] * has[m] for m in has)
        # An item without any modality keeps its zero rows.
        total = total.masked_fill(total == 0, 1.0)
        share = {m: x / total for m, x in has.items()}

    hidden: Tensor = torch.zeros_like(torch.cat([user, item]))
    views = {}
    for m in feature_dict:
        first = adj @ torch.cat([user, share[m] * normed[m]])
        second = adj @ torch.cat([first[:sizes[0]], item])
        generated = adj_dict[m] @ torch.cat([user, item])
        generated = torch.cat([generated[:sizes[0]],
                               share[m] * generated[sizes[0]:]])
        z = first + second + adj_weight * generated
        hidden = hidden + weight[m] * z
        view = adj_dict[m] @ torch.cat([user, normed[m]])
        views[m] = _sum_layers(adj, view, num_layers).split(sizes)

    out = _sum_layers(adj, hidden, num_layers)
    out = out + residual_weight * F.normalize(hidden)
    return *out.split(sizes), views


def _sum_layers(adj: Tensor, x: Tensor, num_layers: int) -> Tensor:
    out = x
    for _ in range(num_layers):
        x = adj @ x
        out = out + x
    return out
