import copy
import warnings
from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from diffmm_pyg.data import check_data, check_edges
from diffmm_pyg.datasets.ids import encode_ids
from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

Edges = Union[Tensor, np.ndarray, sp.spmatrix, sp.sparray]
Splits = Tuple[HeteroData, HeteroData, HeteroData]


def hetero_data_from_arrays(
    num_users: int,
    num_items: int,
    train: Edges,
    val: Optional[Edges] = None,
    test: Optional[Edges] = None,
    *,
    features: Mapping[str, Any],
    masks: Optional[Mapping[str, Any]] = None,
    user_ids: Optional[ArrayLike] = None,
    item_ids: Optional[ArrayLike] = None,
) -> Splits:
    r"""Builds the :class:`~torch_geometric.data.HeteroData` objects of the
    training, validation and test split from one's own arrays.

    All three hold the training edges as :obj:`edge_index` of
    :obj:`('user', 'interacts', 'item')`, and the interactions of their split
    as :obj:`edge_label_index`, sorted and without duplicates. A pair counts
    for the first of the splits that holds it, since what was trained on is
    not ranked again; how many were dropped is told by a warning.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        train (torch.Tensor, np.ndarray or scipy.sparse.sparray): The training
            interactions, as pairs of a user and an item index
            :math:`(2, E)` or as a sparse matrix
            :math:`(|\mathcal{U}|, |\mathcal{I}|)`.
        val (torch.Tensor, np.ndarray or scipy.sparse.sparray, optional): The
            validation interactions. (default: :obj:`None`)
        test (torch.Tensor, np.ndarray or scipy.sparse.sparray, optional): The
            test interactions. (default: :obj:`None`)
        features (Dict[str, torch.Tensor or np.ndarray]): The features of
            every modality :math:`(|\mathcal{I}|, F_m)`, which may also be
            matrices of :obj:`scipy.sparse`.
        masks (Dict[str, torch.Tensor or np.ndarray], optional): Which items
            have a modality :math:`(|\mathcal{I}|)`, for modalities that some
            items lack; the features of those are set to zero.
            (default: :obj:`None`)
        user_ids (Sequence, optional): The original ids of the users,
            integers or strings, kept in :obj:`data['user'].ids` and given
            back by :meth:`~diffmm_pyg.datasets.node_ids`.
            (default: :obj:`None`)
        item_ids (Sequence, optional): The same for the items.
            (default: :obj:`None`)

    Raises:
        DataError: If indices are out of range, shapes do not agree, features
            are not finite, or there is nothing to train on.
    """
    sizes = (num_users, num_items)
    splits = [
        to_edge_index(edges, sizes, name)
        for edges, name in zip([train, val, test], ['train', 'val', 'test'])
    ]
    splits = drop_repeated(splits, num_items)
    warn_cold_users(splits)

    data = HeteroData()
    data[USER].num_nodes = int(num_users)
    data[ITEM].num_nodes = int(num_items)
    for node_type, ids in [(USER, user_ids), (ITEM, item_ids)]:
        if ids is not None:
            data[node_type].ids = encode_ids(ids, data[node_type].num_nodes,
                                             node_type)
    masks = dict(masks or {})
    for modality, value in features.items():
        x = to_features(value, modality)
        if modality in masks:
            mask = to_mask(masks.pop(modality), x.size(0), modality)
            # Not by a product, as a missing row may be NaN:
            x = x.masked_fill(~mask.view(-1, 1), 0.)
            data[ITEM][f'has_{modality}'] = mask
        data[ITEM][f'x_{modality}'] = x
    if masks:
        raise DataError(f"'masks' names the modality '{next(iter(masks))}', "
                        f"which 'features' lacks; add or remove it")
    data[INTERACTS].edge_index = splits[0]
    check_data(data)

    out = copy.copy(data), copy.copy(data), copy.copy(data)
    for split, edge_index in zip(out, splits):
        split[INTERACTS].edge_label_index = edge_index
    return out


def to_edge_index(edges: Optional[Edges], sizes: Tuple[int, int],
                  name: str) -> Tensor:
    r"""Returns the interactions as a sorted :obj:`edge_index`.

    Raises:
        DataError: If they are not indices of this shape and range.
    """
    if edges is None:
        return torch.empty(2, 0, dtype=torch.long)
    value: Any = edges
    if sp.issparse(value):
        if tuple(value.shape) != tuple(sizes):
            raise DataError(f"'{name}' is a matrix of shape "
                            f"{list(value.shape)}; it must be [num_users, "
                            f"num_items] = {list(sizes)}")
        value = np.stack(value.nonzero())
    edge_index = to_tensor(value, name)
    if edge_index.numel() == 0:
        return torch.empty(2, 0, dtype=torch.long)
    if edge_index.is_floating_point() or edge_index.dtype == torch.bool:
        raise DataError(f"'{name}' holds values of type {edge_index.dtype}; "
                        f"give integer user and item indices of shape [2, E]")
    edge_index = edge_index.long()
    check_edges(edge_index, *sizes, name=name)
    return coalesce(edge_index, num_nodes=max(sizes))


def drop_repeated(splits: Sequence[Tensor], num_items: int) -> List[Tensor]:
    r"""Drops the pairs that an earlier split holds as well."""
    out: List[Tensor] = []
    seen = torch.empty(0, dtype=torch.long)
    for edge_index, name in zip(splits, ['train', 'val', 'test']):
        key = edge_index[0] * num_items + edge_index[1]
        repeated = torch.isin(key, seen)
        if repeated.any():
            warnings.warn(
                f"Dropped {int(repeated.sum())} of the {key.numel()} pairs of "
                f"'{name}', since an earlier split holds them as well",
                stacklevel=3)
        out.append(edge_index[:, ~repeated])
        seen = torch.cat([seen, key])
    return out


def warn_cold_users(splits: Sequence[Tensor]) -> None:
    r"""Warns about users to evaluate that there is nothing to learn from."""
    train, *others = [edge_index[0].unique() for edge_index in splits]
    for user, name in zip(others, ['val', 'test']):
        num_cold = int((~torch.isin(user, train)).sum())
        if num_cold > 0:
            warnings.warn(
                f"{num_cold} of the {user.numel()} users of '{name}' have no "
                f"training edge; they are kept, and evaluated like the others",
                stacklevel=3)


def to_features(value: Any, modality: str) -> Tensor:
    r"""Returns features in single precision: sums of half-precision ones
    overflow.
    """
    x = to_tensor(value.toarray() if sp.issparse(value) else value,
                  f'features of modality {modality}').to_dense()
    if x.is_complex() or x.dim() != 2:
        raise DataError(f"The features of modality '{modality}' have type "
                        f"{x.dtype} and shape {list(x.shape)}; they must be "
                        f"real numbers of shape [num_items, F]")
    return x.float()


def to_mask(value: Any, num_items: int, modality: str) -> Tensor:
    mask = to_tensor(value, f'mask of modality {modality}')
    if mask.dtype != torch.bool or mask.size() != (num_items, ):
        raise DataError(f"The mask of modality '{modality}' has type "
                        f"{mask.dtype} and shape {list(mask.shape)}; it must "
                        f"be boolean of shape [{num_items}]")
    return mask


def to_tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        # `np.array` copies, as a read-only array makes no safe tensor:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as e:
        raise DataError(f"'{name}' is no array of numbers ({e}); give a "
                        f"PyTorch tensor or a NumPy array") from e
