r"""The :class:`~torch_geometric.data.HeteroData` contract of this package:
what :obj:`data['user']`, :obj:`data['item']` and the edges between them hold.
"""
import hashlib
from typing import Dict, List

import torch
from torch import Tensor

from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from torch_geometric.data import HeteroData


def modalities(data: HeteroData) -> List[str]:
    r"""Returns the names of the item modalities of :obj:`data`, in order: one
    for every attribute :obj:`data['item'].x_<modality>`.
    """
    return [key[2:] for key in data[ITEM].keys() if key.startswith('x_')]


def modality_features(data: HeteroData) -> Dict[str, Tensor]:
    r"""Returns the features :math:`(|\mathcal{I}|, F_m)` of every modality."""
    return {m: data[ITEM][f'x_{m}'] for m in modalities(data)}


def modality_masks(data: HeteroData) -> Dict[str, Tensor]:
    r"""Returns the boolean masks :math:`(|\mathcal{I}|)` of the modalities
    that some items lack; a modality without a mask is complete.
    """
    keys = {m: f'has_{m}' for m in modalities(data)}
    return {m: data[ITEM][k] for m, k in keys.items() if k in data[ITEM]}


def check_data(data: HeteroData) -> None:
    r"""Checks :obj:`data` against the contract.

    Raises:
        DataError: If node counts, training edges or features are missing,
            out of range, of the wrong length, or not finite.
    """
    for node_type in [USER, ITEM]:
        if node_type not in data.node_types or not data[node_type].num_nodes:
            raise DataError(f"data['{node_type}'].num_nodes is missing or 0; "
                            f"set it to the number of {node_type}s")
    if INTERACTS not in data.edge_types or 'edge_index' not in data[INTERACTS]:
        raise DataError(f"data{list(INTERACTS)}.edge_index is missing; it "
                        f"holds the training interactions, of shape [2, E]")
    if data[INTERACTS].edge_index.size(1) == 0:
        raise DataError("The training split has no interaction; put at least "
                        "one user-item pair into it")

    sizes = data[USER].num_nodes, data[ITEM].num_nodes
    for name in ['edge_index', 'edge_label_index']:
        if name in data[INTERACTS]:
            check_edges(data[INTERACTS][name], *sizes, name=name)

    if len(modalities(data)) == 0:
        raise DataError("data['item'] has no modality; give at least one as "
                        "data['item'].x_<modality>, of shape [num_items, F]")
    for modality, mask in modality_masks(data).items():
        if mask.dtype != torch.bool or list(mask.shape) != [sizes[1]]:
            raise DataError(f"data['item'].has_{modality} must be boolean, of "
                            f"shape [{sizes[1]}] (got {mask.dtype}, "
                            f"{list(mask.shape)})")
    for modality, x in modality_features(data).items():
        if x.dim() != 2 or x.size(0) != sizes[1]:
            raise DataError(f"The features of modality '{modality}' have "
                            f"shape {list(x.shape)}; there are {sizes[1]} "
                            f"items, so it must be [{sizes[1]}, F]")
        finite = torch.isfinite(x).all(dim=1)
        if not finite.all():
            raise DataError(f"Row {int((~finite).nonzero()[0])} of the "
                            f"features of modality '{modality}' is NaN or "
                            f"infinite; mend it, or set it to 0 and "
                            f"data['item'].has_{modality} to False there")


def check_edges(edge_index: Tensor, num_users: int, num_items: int,
                name: str = 'edge_index') -> None:
    r"""Checks that user and item indices are within range.

    Raises:
        DataError: If they are not, naming the first bad column.
    """
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise DataError(f"'{name}' must have shape [2, E] "
                        f"(got {list(edge_index.shape)})")
    for row, kind, size in [(0, USER, num_users), (1, ITEM, num_items)]:
        bad = (edge_index[row] < 0) | (edge_index[row] >= size)
        if bad.any():
            pos = int(bad.nonzero()[0])
            raise DataError(f"Column {pos} of '{name}' names {kind} "
                            f"{int(edge_index[row, pos])}; {kind} indices "
                            f"must lie in 0..{size - 1}")


def data_hash(data: HeteroData) -> str:
    r"""Returns a SHA-256 over node counts, training edges, labels, features
    and masks, independent of the order of the edges and of the device.
    """
    sha = hashlib.sha256()
    sizes = data[USER].num_nodes, data[ITEM].num_nodes
    sha.update(repr(sizes).encode())
    for name in ['edge_index', 'edge_label_index']:
        if name in data[INTERACTS]:
            edge_index = data[INTERACTS][name].cpu()
            key = (edge_index[0] * sizes[1] + edge_index[1]).sort().values
            sha.update(name.encode() + key.numpy().tobytes())
    for modality, x in modality_features(data).items():
        sha.update(modality.encode() + x.float().cpu().numpy().tobytes())
    for modality, mask in modality_masks(data).items():
        sha.update(modality.encode() + mask.cpu().numpy().tobytes())
    return sha.hexdigest()
