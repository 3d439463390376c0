from typing import Dict, List, Tuple

import torch
from torch import Tensor

from diffmm_pyg.nn.stacked_adj import StackedAdj
from torch_geometric.nn.conv import MessagePassing


def fused_propagation(
    conv: MessagePassing,
    adj: StackedAdj,
    denoised_adj_dict: Dict[str, StackedAdj],
    user: Tensor,
    item: Tensor,
    feat_dict: Dict[str, Tensor],
    fused_feat: Tensor,
    weight_dict: Dict[str, Tensor],
    num_layers: int,
    with_views: bool = True,
) -> Tuple[Tensor, List[Tensor]]:
    r"""Propagates embeddings and features over the observed and the generated
    graphs of :class:`~diffmm_pyg.nn.DiffMM`, by a convolution that is linear:
    the modalities of the main branch are summed up before, not after, they
    pass over a graph.

    Args:
        conv (MessagePassing): A weighted sum over neighbors.
        adj (StackedAdj): The observed graph.
        denoised_adj_dict (Dict[str, StackedAdj]): The generated graphs.
        user (torch.Tensor): The embeddings :math:`(|\mathcal{U}|, F)`.
        item (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
        feat_dict (Dict[str, torch.Tensor]): The normalized features
            :math:`(|\mathcal{I}|, F)` of every modality.
        fused_feat (torch.Tensor): Their weighted sum.
        weight_dict (Dict[str, torch.Tensor]): The weight of every generated
            graph in the main branch, a scalar or one per node, of shape
            :math:`(|\mathcal{U}| + |\mathcal{I}|, 1)`.
        num_layers (int): The number of layers.
        with_views (bool, optional): If set to :obj:`False`, leaves the
            contrastive views out. (default: :obj:`True`)

    Returns:
        The embeddings of all nodes, users first, before the layers, and the
        sums over layers of these and of the view of every modality.
    """
    out = conv(torch.cat([user, fused_feat]), *adj)
    out = out + conv(torch.cat([out[:user.size(0)], item]), *adj)
    x, views = torch.cat([user, item]), []
    for m, feat in feat_dict.items():
        out = out + weight_dict[m] * conv(x, *denoised_adj_dict[m])
        if with_views:
            view = torch.cat([user, feat])
            views.append(conv(view, *denoised_adj_dict[m]))
    return out, [_sum_layers(conv, adj, h, num_layers) for h in [out, *views]]


def _sum_layers(conv: MessagePassing, adj: StackedAdj, x: Tensor,
                num_layers: int) -> Tensor:
    out = x
    for _ in range(num_layers):
        x = conv(x, *adj)
        out = out + x
    return out
