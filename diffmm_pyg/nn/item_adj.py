from typing import Dict, Optional

import torch
from torch import Tensor

from diffmm_pyg.nn.weighted_adj import WeightedAdj, weighted_adj
from diffmm_pyg.transforms.item_knn_graph import item_knn_graph
from torch_geometric.utils import coalesce


def fused_item_adj(
    x_dict: Dict[str, Tensor],
    k: int,
    mask_dict: Optional[Dict[str, Tensor]] = None,
    weighted: bool = False,
    first_weight: Optional[float] = None,
) -> WeightedAdj:
    r"""Returns the weighted sum of the item-item graphs of all modalities
    (Eq. 4 of `"A Tale of Two Graphs" <https://arxiv.org/abs/2211.06924>`_).
    Where an item lacks a modality, the weights of its row are renormalized
    over those that it has.

    Args:
        x_dict (Dict[str, torch.Tensor]): The features
            :math:`(|\mathcal{I}|, F_m)` of every modality.
        k (int): The number of nearest items, itself included.
        mask_dict (Dict[str, torch.Tensor], optional): The items
            :math:`(|\mathcal{I}|)` that have a modality.
            (default: :obj:`None`)
        weighted (bool, optional): See
            :meth:`~diffmm_pyg.transforms.item_knn_graph`.
            (default: :obj:`False`)
        first_weight (float, optional): The weight of the first modality,
            where the others share the rest; equal weights if not given.
            (default: :obj:`None`)
    """
    masks = {m: (mask_dict or {}).get(m) for m in x_dict}
    weights = _modality_weights(x_dict, masks, first_weight)
    indices, values = [], []
    for (m, x), weight in zip(x_dict.items(), weights.t(), strict=True):
        edge_index, edge_weight = item_knn_graph(x, k, masks[m], loop=True,
                                                 weighted=weighted)
        indices.append(edge_index)
        values.append(edge_weight * weight[edge_index[1]])
    num_items = weights.size(0)
    edge_index, edge_weight = coalesce(torch.cat(indices, dim=1),
                                       torch.cat(values), num_items)
    return weighted_adj(edge_index, edge_weight, num_items)


def _modality_weights(x_dict: Dict[str, Tensor],
                      masks: Dict[str, Optional[Tensor]],
                      first_weight: Optional[float]) -> Tensor:
    # One row per item.
    num = len(x_dict)
    x = next(iter(x_dict.values()))
    weight = x.new_full((x.size(0), num), 1 / num)
    if first_weight is not None and num > 1:
        weight[:, 0] = first_weight
        weight[:, 1:] = (1 - first_weight) / (num - 1)
    for i, mask in enumerate(masks.values()):
        if mask is not None:
            weight[~mask, i] = 0
    # An item without any modality keeps zeros.
    return weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-12)
