r"""Features of items whose rows are in the order of a list of ids."""
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

import torch
from torch import Tensor

from diffmm_pyg.datasets.from_arrays import to_features
from diffmm_pyg.datasets.raw import check_features, read_features, read_npy
from diffmm_pyg.datasets.table import Table, quote
from diffmm_pyg.datasets.tables import frame_header, read_table
from diffmm_pyg.errors import DataError


@dataclass
class ItemFeatures:
    r"""The features of one modality.

    Args:
        ids (List[str]): The item of every row.
        x (torch.Tensor): The features, of shape :obj:`[len(ids), F]`.
        mask (torch.Tensor, optional): Which rows hold features, of shape
            :obj:`[len(ids)]`; all do if :obj:`None`.
    """
    ids: List[str]
    x: Tensor
    mask: Optional[Tensor]

    def align(self, item_ids: List[str]) -> Tuple[Tensor, Optional[Tensor]]:
        r"""Returns features and mask in the order of other ids; those that
        have no row here lack the modality.
        """
        if item_ids == self.ids:
            return self.x, self.mask
        position = {value: i for i, value in enumerate(item_ids)}
        index = torch.tensor([position[value] for value in self.ids])
        x = self.x.new_zeros(len(item_ids), self.x.size(1))
        x[index] = self.x
        mask = torch.zeros(len(item_ids), dtype=torch.bool)
        mask[index] = True if self.mask is None else self.mask
        return x, None if mask.all() else mask


def read_item_features(
    features: Mapping[str, Any],
    item_ids: Any = None,
    columns: Optional[Mapping[str, str]] = None,
) -> Dict[str, ItemFeatures]:
    r"""Reads the features of every modality (see
    :meth:`hetero_data_from_tables` for the arguments).

    Raises:
        DataError: If a file is missing or damaged, an item is listed twice,
            or there are not as many rows as ids.
    """
    if len(features) == 0:
        raise DataError("'features' is empty; give those of one or more "
                        "modalities")
    out = {}
    shared: Optional[Tuple[str, List[str]]] = None
    if item_ids is not None and not isinstance(item_ids, Mapping):
        shared = read_item_ids(item_ids, columns)
    for modality, source in features.items():
        if isinstance(source, (str, os.PathLike)):
            name = os.path.expanduser(os.fspath(source))
            x, mask = read_features(name)
        else:
            name = f'features of {modality}'
            x, mask = array_features(source, modality)
        if item_ids is None and shared is None:
            shared = name, [str(i) for i in range(x.size(0))]
        if shared is None and modality not in item_ids:
            raise DataError(f"'item_ids' lacks the modality '{modality}'; say "
                            f"which item every row of '{name}' belongs to")
        owner, ids = shared or read_item_ids(item_ids[modality], columns)
        if len(ids) != x.size(0):
            raise DataError(f"'{name}' has {x.size(0)} rows, but '{owner}' "
                            f"has {len(ids)} items; give it one row per item")
        out[modality] = ItemFeatures(ids, x, mask)
    return out


def array_features(value: Any,
                   modality: str) -> Tuple[Tensor, Optional[Tensor]]:
    r"""Returns the features that an array of any kind holds, and which rows
    are not missing, NaN throughout (see :meth:`check_features`).
    """
    return check_features(to_features(value, modality).numpy(),
                          f'features of {modality}')


def read_item_ids(
    source: Any,
    columns: Optional[Mapping[str, str]] = None,
) -> Tuple[str, List[str]]:
    r"""Returns the ids of a table, a :obj:`.npy` file or a sequence, and what
    messages call them.

    Raises:
        DataError: If an id is unusable or listed twice.
    """
    is_path = isinstance(source, (str, os.PathLike))
    if is_path and os.fspath(source).endswith('.npy'):
        path = os.path.expanduser(os.fspath(source))
        table = Table(path, {'item': read_npy(path, 'iuU').reshape(-1)})
    elif is_path or frame_header(source) is not None:
        names = {k: v for k, v in (columns or {}).items() if k == 'item'}
        table = read_table(source, ['item'], columns=names, name='item_ids')
    else:
        table = Table('item_ids', {'item': source})
    ids = table.ids('item')
    seen: Set[str] = set()
    for row, item in enumerate(ids):
        if item in seen:
            table.fail(row, 'item', f"the item {quote(item)} is listed a "
                       f"second time; remove it and its feature row")
        seen.add(item)
    return table.path, ids
