from typing import Dict, List, Tuple

import torch
from torch import Tensor

from diffmm_pyg.nn.bipartite_adj import BipartiteAdj
from torch_geometric.nn.conv import MessagePassing

Pair = Tuple[Tensor, Tensor]  # Of users and of items.


def fused_propagation(
    conv: MessagePassing,
    adj: BipartiteAdj,
    denoised_adj_dict: Dict[str, BipartiteAdj],
    user: Tensor,
    item: Tensor,
    feat_dict: Dict[str, Tensor],
    fused_feat: Tensor,
    user_weight_dict: Dict[str, Tensor],
    item_weight_dict: Dict[str, Tensor],
    num_layers: int,
    with_views: bool = True,
) -> Tuple[Pair, List[Pair]]:
    r"""Propagates embeddings and features over the observed and the generated
    graphs of :class:`~diffmm_pyg.nn.DiffMM`, by a convolution that is linear:
    inputs of the same matrix are stacked, and the modalities of the main
    branch are summed up before, not after, they pass over a graph.

    Args:
        conv (MessagePassing): A weighted sum over neighbors.
        adj (BipartiteAdj): The observed graph.
        denoised_adj_dict (Dict[str, BipartiteAdj]): The generated graphs.
        user (torch.Tensor): The embeddings :math:`(|\mathcal{U}|, F)`.
        item (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
        feat_dict (Dict[str, torch.Tensor]): The normalized features
            :math:`(|\mathcal{I}|, F)` of every modality.
        fused_feat (torch.Tensor): Their weighted sum.
        user_weight_dict (Dict[str, torch.Tensor]): The weight of every
            generated graph in the main branch of users.
        item_weight_dict (Dict[str, torch.Tensor]): The same of items, where
            it may have the shape :math:`(|\mathcal{I}|, 1)`.
        num_layers (int): The number of layers.
        with_views (bool, optional): If set to :obj:`False`, leaves the
            contrastive views out. (default: :obj:`True`)

    Returns:
        The embeddings of users and items before the layers, and the sums over
        layers of these and of the view of every modality.
    """
    h_user, h_item = _observed(conv, adj, user, item, fused_feat)
    views = []
    for m, feat in feat_dict.items():
        a = denoised_adj_dict[m]
        inputs = [item, feat] if with_views else [item]
        to_user = a.gather_users(conv, torch.cat(inputs, dim=-1))
        to_user = to_user.split(item.size(1), dim=-1)
        to_item = a.gather_items(conv, user)
        root = a.scale_users(user)
        h_user = h_user + user_weight_dict[m] * (root + to_user[0])
        h_item = h_item + item_weight_dict[m] * (a.scale_items(item) +
                                                 to_item)
        if with_views:
            views.append((root + to_user[1],
                          a.scale_items(feat) + to_item))
    hidden = (h_user, h_item)
    return hidden, _layers(conv, adj, [hidden, *views], num_layers)


def _observed(conv: MessagePassing, adj: BipartiteAdj, user: Tensor,
              item: Tensor, feat: Tensor) -> Pair:
    from_item, from_feat = adj.gather_users(
        conv, torch.cat([item, feat], dim=-1)).chunk(2, dim=-1)
    s1_user = adj.scale_users(user) + from_feat
    from_user, from_s1 = adj.gather_items(
        conv, torch.cat([user, s1_user], dim=-1)).chunk(2, dim=-1)
    s1_item = adj.scale_items(feat) + from_user
    s2_user = adj.scale_users(s1_user) + from_item
    s2_item = adj.scale_items(item) + from_s1
    return s1_user + s2_user, s1_item + s2_item


def _layers(conv: MessagePassing, adj: BipartiteAdj, xs: List[Pair],
            num_layers: int) -> List[Pair]:
    channels = xs[0][0].size(1)
    x_user = torch.cat([x for x, _ in xs], dim=-1)
    x_item = torch.cat([x for _, x in xs], dim=-1)
    out_user, out_item = x_user, x_item
    for _ in range(num_layers):
        to_user = adj.gather_users(conv, x_item)
        to_item = adj.gather_items(conv, x_user)
        x_user = adj.scale_users(x_user) + to_user
        x_item = adj.scale_items(x_item) + to_item
        out_user, out_item = out_user + x_user, out_item + x_item
    return list(zip(out_user.split(channels, dim=-1),
                    out_item.split(channels, dim=-1), strict=True))
