from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import ModuleDict

from diffmm_pyg.nn.conv import ModalityConv
from diffmm_pyg.nn.fusion import ModalityFusion
from diffmm_pyg.nn.stacked_adj import StackedAdj
from diffmm_pyg.nn.stacked_conv import StackedConv
from diffmm_pyg.nn.weighted_adj import WeightedAdj
from torch_geometric.nn.conv import MessagePassing

# The embeddings of all nodes, users first, before the layers, and the sums
# over layers of these and of the view of every modality:
Propagated = Tuple[Tensor, List[Tensor]]


def propagate(
    conv: StackedConv,
    denoised_convs: ModuleDict,
    adj: StackedAdj,
    denoised_adj_dict: Dict[str, StackedAdj],
    user: Tensor,
    item: Tensor,
    feat_dict: Dict[str, Tensor],
    fusion: ModalityFusion,
    adj_weight: float,
    num_layers: int,
    with_views: bool = True,
    mask_dict: Optional[Dict[str, Tensor]] = None,
) -> Propagated:
    r"""Propagates embeddings and features over the observed and the generated
    graphs of :class:`~diffmm_pyg.nn.DiffMM`, by any convolutions. Where that
    of the observed graph is known to be linear, modalities are summed up
    before, not after, they pass over it.

    Args:
        conv (StackedConv): The convolution of the observed graph.
        denoised_convs (torch.nn.ModuleDict): Those of the generated graphs.
        adj (StackedAdj): The observed graph.
        denoised_adj_dict (Dict[str, StackedAdj]): The generated graphs.
        user (torch.Tensor): The embeddings :math:`(|\mathcal{U}|, F)`.
        item (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
        feat_dict (Dict[str, torch.Tensor]): The normalized features
            :math:`(|\mathcal{I}|, F)` of every modality.
        fusion (ModalityFusion): What weighs the modalities.
        adj_weight (float): The weight of the generated graphs.
        num_layers (int): The number of layers.
        with_views (bool, optional): If set to :obj:`False`, leaves the
            contrastive views out. (default: :obj:`True`)
        mask_dict (Dict[str, torch.Tensor], optional): The items
            :math:`(|\mathcal{I}|)` that have a modality.
            (default: :obj:`None`)
    """
    observed = _fused_observed if is_linear(conv) else _observed
    out = observed(conv, adj, user, item, feat_dict, fusion, mask_dict)
    x, views = torch.cat([user, item]), []
    node_weight_dict = fusion.node_weights(user.size(0), mask_dict)
    for m, feat in feat_dict.items():
        denoised = denoised_convs[m](x, denoised_adj_dict[m])
        out = out + adj_weight * node_weight_dict[m] * denoised
        if with_views:
            h = torch.cat([user, feat])
            views.append(denoised_convs[m](h, denoised_adj_dict[m]))
    return out, [_sum_layers(conv, adj, h, num_layers) for h in [out, *views]]


def is_linear(conv: StackedConv) -> bool:
    r"""Whether a convolution is known to be linear in its input: a
    :class:`~diffmm_pyg.nn.ModalityConv`, not of a class derived from it, that
    adds up or averages.
    """
    return (type(conv.conv) is ModalityConv
            and conv.conv.aggr in ['sum', 'add', 'mean'])


def _observed(conv: StackedConv, adj: StackedAdj, user: Tensor,
              item: Tensor, feat_dict: Dict[str, Tensor],
              fusion: ModalityFusion,
              mask_dict: Optional[Dict[str, Tensor]]) -> Tensor:
    weight_dict, share_dict = fusion.weights(), fusion.shares(mask_dict)
    outs = []
    for m, feat in feat_dict.items():
        # What the other modalities of an item leave to this one:
        share = share_dict.get(m, 1.)
        h = _two_steps(conv, adj, user, item, share * feat)
        outs.append(weight_dict[m] * h)
    return sum(outs[1:], outs[0])


def _fused_observed(conv: StackedConv, adj: StackedAdj, user: Tensor,
                    item: Tensor, feat_dict: Dict[str, Tensor],
                    fusion: ModalityFusion,
                    mask_dict: Optional[Dict[str, Tensor]]) -> Tensor:
    return _two_steps(conv, adj, user, item, fusion(feat_dict, mask_dict))


def _two_steps(conv: StackedConv, adj: StackedAdj, user: Tensor,
               item: Tensor, feat: Tensor) -> Tensor:
    h = conv(torch.cat([user, feat]), adj)
    return h + conv(torch.cat([h[:user.size(0)], item]), adj)


def _sum_layers(conv: StackedConv, adj: StackedAdj, x: Tensor,
                num_layers: int) -> Tensor:
    out = x
    for _ in range(num_layers):
        x = conv(x, adj)
        out = out + x
    return out


def mean_of_layers(conv: MessagePassing, adj: WeightedAdj, x: Tensor,
                   num_layers: int) -> Tensor:
    r"""Returns :math:`\frac{1}{L+1} \sum_{l=0}^L \mathbf{\hat{A}}^l
    \mathbf{X}`, where :obj:`conv` is a weighted sum over neighbors.
    """
    out = x
    for _ in range(num_layers):  # Horner's rule.
        out = x + conv(out, *adj)
    return out / (num_layers + 1)
