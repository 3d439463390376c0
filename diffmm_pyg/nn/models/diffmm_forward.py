from typing import TYPE_CHECKING, Dict, Optional

import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.nn.models.diffmm_output import DiffMMOutput
from diffmm_pyg.nn.propagation import propagate
from diffmm_pyg.nn.stacked_adj import StackedAdj
from diffmm_pyg.typing import ITEM, USER
from diffmm_pyg.utils.normalize import row_normalize

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM

Masks = Optional[Dict[str, Tensor]]


def diffmm_features(model: 'DiffMM', x_dict: Dict[str, Tensor],
                    mask_dict: Masks = None) -> Dict[str, Tensor]:
    r"""Projects and normalizes the raw features of the items, to
    :math:`(|\mathcal{I}|, F)`; zero where an item lacks a modality.
    """
    out = {}
    for m, encoder in model.encoders.items():
        out[m] = row_normalize(encoder(x_dict[m]))
        if mask_dict is not None and m in mask_dict:
            out[m] = out[m] * mask_dict[m].view(-1, 1)
    return out


def diffmm_forward(
    model: 'DiffMM',
    x_dict: Dict[str, Tensor],
    adj: StackedAdj,
    denoised_adj_dict: Dict[str, StackedAdj],
    mask_dict: Masks = None,
    with_views: bool = True,
    n_id_dict: Optional[Dict[str, Tensor]] = None,
) -> DiffMMOutput:
    r"""Computes the embeddings of :class:`~diffmm_pyg.nn.DiffMM` from the raw
    features of the items; those of a subgraph if :obj:`n_id_dict` names its
    users and items.
    """
    return diffmm_propagate(model, diffmm_features(model, x_dict, mask_dict),
                            adj, denoised_adj_dict, mask_dict, with_views,
                            n_id_dict)


def diffmm_propagate(
    model: 'DiffMM',
    feat_dict: Dict[str, Tensor],
    adj: StackedAdj,
    denoised_adj_dict: Dict[str, StackedAdj],
    mask_dict: Masks = None,
    with_views: bool = True,
    n_id_dict: Optional[Dict[str, Tensor]] = None,
) -> DiffMMOutput:
    r"""The same from the projected and normalized features."""
    user, item = model.user_embedding.weight, model.item_embedding.weight
    if n_id_dict is not None:
        user = F.embedding(n_id_dict[USER], user)
        item = F.embedding(n_id_dict[ITEM], item)
    hidden, outs = propagate(
        model.observed_conv, model.denoised_convs, adj, denoised_adj_dict,
        user, item, feat_dict, model.fusion, model.adj_weight,
        model.num_layers, with_views, mask_dict)
    out = outs[0] + model.residual_weight * row_normalize(hidden)
    sizes = [user.size(0), item.size(0)]
    (x_user, x_item), *views = [x.split(sizes) for x in (out, *outs[1:])]
    return DiffMMOutput(x_user, x_item, dict(zip(model.modalities, views,
                                             strict=False)))
