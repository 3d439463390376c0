r"""The :class:`~torch_geometric.data.HeteroData` contract of this package:
what :obj:`data['user']`, :obj:`data['item']` and the edges between them hold.
"""
import hashlib
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn import ModuleDict

from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.typing import (
    INTERACTS,
    ITEM,
    USER,
    EdgeType,
    denoised_edge_type,
)
from diffmm_pyg.utils.normalize import row_normalize
from diffmm_pyg.utils.sparse_rows import SparseRows
from torch_geometric.data import HeteroData

__all__ = [
    'check_data',
    'check_edges',
    'check_sizes',
    'data_hash',
    'modalities',
    'modality_features',
    'modality_masks',
    'observed_rows',
    'unit_features',
]


def observed_rows(data: HeteroData) -> SparseRows:
    r"""Returns the training interactions of every user, each pair once.

    Args:
        data (HeteroData): The graph.
    """
    return SparseRows.from_edge_index(data[INTERACTS].edge_index,
                                      data[USER].num_nodes,
                                      data[ITEM].num_nodes)


def modalities(data: HeteroData) -> List[str]:
    r"""Returns the names of the item modalities of :obj:`data`, in order: one
    for every attribute :obj:`data['item'].x_<modality>`.

    Args:
        data (HeteroData): The graph.
    """
    check_hetero(data)
    return [key[2:] for key in data[ITEM].keys() if key.startswith('x_')]


def modality_features(data: HeteroData) -> Dict[str, Tensor]:
    r"""Returns the features :math:`(|\mathcal{I}|, F_m)` of every modality, in
    the default type of :obj:`torch`.

    Args:
        data (HeteroData): The graph.
    """
    dtype = torch.get_default_dtype()
    return {m: data[ITEM][f'x_{m}'].to(dtype) for m in modalities(data)}


def modality_masks(data: HeteroData) -> Dict[str, Tensor]:
    r"""Returns the boolean masks :math:`(|\mathcal{I}|)` of the modalities
    that some items lack; a modality without a mask is complete.

    Args:
        data (HeteroData): The graph.
    """
    keys = {m: f'has_{m}' for m in modalities(data)}
    return {m: data[ITEM][k] for m, k in keys.items() if k in data[ITEM]}


def unit_features(data: HeteroData) -> Dict[str, Tensor]:
    r"""Returns the features :math:`(|\mathcal{I}|, F_m)` of every modality,
    with rows of norm 1, and of zeros where an item lacks it.

    Args:
        data (HeteroData): The graph.
    """
    out = {m: row_normalize(x) for m, x in modality_features(data).items()}
    for m, mask in modality_masks(data).items():
        out[m] = out[m] * mask.view(-1, 1)
    return out


def denoised_edges(data: HeteroData, modality: str) -> Tuple[Tensor, Tensor]:
    r"""Returns the edges :math:`(2, |\mathcal{E}|)` that the diffusion model
    of :obj:`modality` generated, and their weights :math:`(|\mathcal{E}|)`.

    Raises:
        DataError: If :obj:`data` holds none.
    """
    edge_type = denoised_edge_type(modality)
    if edge_type not in data.edge_types:
        raise DataError(f"data holds no generated edges of modality "
                        f"'{modality}'; train first, or write some with "
                        f"'add_denoised_edges'")
    check_relation(data, edge_type, ['edge_index', 'edge_weight'])
    return data[edge_type].edge_index, data[edge_type].edge_weight


def check_data(data: HeteroData) -> None:
    r"""Checks :obj:`data` against the contract.

    Args:
        data (HeteroData): The graph.

    Raises:
        DataError: If node counts, training edges or features are missing,
            out of range, of the wrong length, or not finite, or a modality
            has a name that cannot be used.
    """
    check_hetero(data)
    for node_type in [USER, ITEM]:
        if node_type not in data.node_types:
            raise DataError(f"The graph has no '{node_type}' nodes, but "
                            f"{data.node_types}; rename yours")
        if not data[node_type].num_nodes:
            raise DataError(f"data['{node_type}'].num_nodes is missing or 0; "
                            f"set it to the number of {node_type}s")
    if INTERACTS not in data.edge_types or 'edge_index' not in data[INTERACTS]:
        raise DataError(f"data{list(INTERACTS)}.edge_index is missing; it "
                        f"holds the training interactions, of shape [2, E]")

    sizes = data[USER].num_nodes, data[ITEM].num_nodes
    for name in ['edge_index', 'edge_label_index']:
        if name in data[INTERACTS]:
            check_edges(data[INTERACTS][name], *sizes, name=name)
    if data[INTERACTS].edge_index.size(1) == 0:
        raise DataError("The training split has no interaction; put at least "
                        "one user-item pair into it")

    if len(modalities(data)) == 0:
        raise DataError("data['item'] has no modality; give at least one as "
                        "data['item'].x_<modality>, of shape [num_items, F]")
    check_modalities(modalities(data))
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


def check_modalities(names: Sequence[str]) -> None:
    r"""Checks that modules of torch, too, can hold modalities by their names.

    Raises:
        DataError: If they cannot.
    """
    for name in names:
        if not re.fullmatch(r'\w+', name) or hasattr(ModuleDict(), name):
            raise DataError(f"The modality name '{name}' is unusable; use "
                            f"letters, digits and underscores, but no name "
                            f"that modules of torch need, such as 'type'")


def check_hetero(data: Any) -> None:
    r"""Checks that :obj:`data` has types of nodes.

    Raises:
        DataError: If it has not.
    """
    if not isinstance(data, HeteroData):
        raise DataError(f"The graph is a '{type(data).__name__}'; give a "
                        f"'HeteroData', with nodes of two types and edges "
                        f"from one to the other")


def check_relation(data: HeteroData, edge_type: EdgeType,
                   names: Sequence[str] = ('edge_index', )) -> None:
    r"""Checks that :obj:`data` holds the edges of a relation.

    Raises:
        DataError: If it does not.
    """
    check_hetero(data)
    if edge_type not in data.edge_types:
        raise DataError(f"There is no relation {edge_type}; data has "
                        f"{data.edge_types}")
    for name in names:
        if name not in data[edge_type]:
            raise DataError(f"data{list(edge_type)}.{name} is missing; "
                            f"'ToSparseTensor', which removes it, comes last")


def check_edges(edge_index: Tensor, num_users: int, num_items: int,
                name: str = 'edge_index',
                kinds: Tuple[str, str] = (USER, ITEM)) -> None:
    r"""Checks that user and item indices, or those of other :obj:`kinds` of
    nodes, are within range.

    Args:
        edge_index (torch.Tensor): The edges :math:`(2, |\mathcal{E}|)`.
        num_users (int): The number of users.
        num_items (int): The number of items.
        name (str, optional): What errors call them.
            (default: :obj:`"edge_index"`)
        kinds (Tuple[str, str], optional): What errors call the nodes.
            (default: :obj:`('user', 'item')`)

    Raises:
        DataError: If they are not, naming the first bad column, or if their
            shape or type is wrong.
    """
    if edge_index.dtype != torch.long:
        raise DataError(f"'{name}' must be of type torch.int64 (got "
                        f"{edge_index.dtype}); convert it with '.long()'")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise DataError(f"'{name}' must have shape [2, E] "
                        f"(got {list(edge_index.shape)})")
    for row, size in enumerate([num_users, num_items]):
        bad = (edge_index[row] < 0) | (edge_index[row] >= size)
        if bad.any():
            pos, kind = int(bad.nonzero()[0]), kinds[row]
            raise DataError(f"Column {pos} of '{name}' names {kind} "
                            f"{int(edge_index[row, pos])}; {kind} indices "
                            f"must lie in 0..{size - 1}")


def check_sizes(data: HeteroData, num_users: int, num_items: int,
                in_channels: Optional[Dict[str, int]] = None) -> None:
    r"""Checks that :obj:`data` has the sizes that a model was made for, those
    of features included if the model takes any.

    Args:
        data (HeteroData): The graph.
        num_users (int): The number of users of the model.
        num_items (int): The number of its items.
        in_channels (Dict[str, int], optional): The size of the features of
            every modality it takes. (default: :obj:`None`)

    Raises:
        ConfigError: If it has not.
    """
    channels = {m: data[ITEM][f'x_{m}'].size(1) for m in modalities(data)}
    for name, size, expected in [
        ('users', data[USER].num_nodes, num_users),
        ('items', data[ITEM].num_nodes, num_items),
        ('feature channels', channels, in_channels),
    ]:
        if expected is not None and size != expected:
            raise ConfigError(f"The data has {size} {name}, but the model was "
                              f"made for {expected}")


def data_hash(data: HeteroData,
              labels: Optional[Dict[str, Tensor]] = None) -> str:
    r"""Returns a SHA-256 over node counts, training edges, features, masks
    and ids of a graph, and over positives. It depends neither on the order of
    edges nor on the device.

    Args:
        data (HeteroData): The graph.
        labels (Dict[str, torch.Tensor], optional): The positives
            :obj:`[2, N]` of every split; those of the graph itself if not
            given. (default: :obj:`None`)
    """
    if labels is None:
        names = {'edge_label_index'} & set(data[INTERACTS].keys())
        labels = {name: data[INTERACTS][name] for name in names}
    sizes = data[USER].num_nodes, data[ITEM].num_nodes
    parts = {'size': torch.tensor(sizes)}
    for name, edges in [('train', data[INTERACTS].edge_index),
                        *sorted(labels.items())]:
        parts[name] = (edges[0] * sizes[1] + edges[1]).sort().values
    for kind in [USER, ITEM]:
        if 'ids' in data[kind]:
            parts[f'{kind} ids'] = data[kind].ids
    for modality, x in modality_features(data).items():
        parts[f'x {modality}'] = x.float()
    for modality, mask in modality_masks(data).items():
        parts[f'has {modality}'] = mask

    sha = hashlib.sha256()
    for name, value in parts.items():
        value = value.cpu().contiguous()
        sha.update(f'{name} {value.dtype} {list(value.shape)}'.encode())
        sha.update(value.numpy().tobytes())
    return sha.hexdigest()
