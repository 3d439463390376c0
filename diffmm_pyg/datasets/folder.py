import os
import os.path as osp
import re
from typing import Dict, Iterable, List, Optional, Sequence, Set

import numpy as np
import torch
from torch import Tensor

from diffmm_pyg.datasets.from_arrays import Splits, hetero_data_from_arrays
from diffmm_pyg.datasets.published import find_names
from diffmm_pyg.datasets.raw import read_features
from diffmm_pyg.datasets.split import split_edges
from diffmm_pyg.datasets.tables import Table, read_table
from diffmm_pyg.errors import DataError

SPLITS = {'train': 0, 'val': 1, 'valid': 1, 'validation': 1, 'test': 2}
FEATURES = re.compile(r'features_(\w+)\.npy')
# Integers as Python writes them: '007' is a text, and stays one.
INTEGER = re.compile(r'0|-?[1-9][0-9]{0,17}')


def hetero_data_from_folder(
    folder: str,
    modalities: Optional[Sequence[str]] = None,
    val_ratio: float = 0.1,
    test_ratio: float = 0.1,
    seed: int = 0,
) -> Splits:
    r"""Reads a dataset of one's own from a folder with

    * :obj:`interactions.csv` or :obj:`interactions.parquet` with the columns
      :obj:`user` and :obj:`item`, and, if there is a split already,
      :obj:`split` (:obj:`train`, :obj:`val`, :obj:`test`). Otherwise, the
      interactions of every user are split, the latest into the test split
      if there is a column :obj:`timestamp`, at random if not
      (:meth:`split_edges`). Other columns are not read;
    * :obj:`items.csv` or :obj:`items.parquet` with the column :obj:`item`:
      the items in the order of the feature rows. Without this file, items
      are named by the number of their row, from 0;
    * :obj:`features_<modality>.npy` for one or more modalities, with one row
      per item. A row that is NaN throughout says that the item lacks this
      modality.

    Ids are integers or any text; :meth:`node_ids` gives them back, as
    integers if all users (or items) have such, otherwise as text. Users are
    in the order of their ids.

    Args:
        folder (str): The folder.
        modalities (List[str], optional): The modalities to use, in this
            order. If set to :obj:`None`, will use all, by name.
            (default: :obj:`None`)
        val_ratio (float, optional): The share of interactions for
            validation, if there is no split. (default: :obj:`0.1`)
        test_ratio (float, optional): The share of interactions for testing,
            if there is no split. (default: :obj:`0.1`)
        seed (int, optional): The seed of a random split.
            (default: :obj:`0`)

    Raises:
        DataError: If a file is missing, damaged, or does not fit the others;
            the message names the file, and the line or row.
    """
    folder = osp.expanduser(folder)
    paths = feature_paths(folder, modalities)
    features, masks = {}, {}
    for modality, path in paths.items():
        features[modality], mask = read_features(path)
        if mask is not None:
            masks[modality] = mask
    table = read_table(folder, 'interactions', ['user', 'item'],
                       ['split', 'timestamp'])
    if table is None:
        raise DataError(f"The folder '{folder}' holds no 'interactions.csv' "
                        f"or 'interactions.parquet'; put one there")
    item_ids = read_items(folder, {
        path: features[modality].size(0)
        for modality, path in paths.items()
    })
    user_ids = sorted_ids(set(table.ids('user')))
    edge_index = torch.stack([
        to_index(table, 'user', user_ids),
        to_index(table, 'item', item_ids),
    ])
    if edge_index.numel() == 0:
        raise DataError(f"'{table.path}' holds no interaction; add some")

    if 'split' in table.columns:
        split = read_split(table)
        splits = [edge_index[:, split == i] for i in range(3)]
    else:
        splits = list(_split(table, edge_index, val_ratio, test_ratio, seed))
    return hetero_data_from_arrays(len(user_ids), len(item_ids), *splits,
                                   features=features, masks=masks,
                                   user_ids=to_numbers(user_ids),
                                   item_ids=to_numbers(item_ids))


def feature_paths(folder: str, modalities: Optional[Sequence[str]] = None,
                  ) -> Dict[str, str]:
    r"""Returns the feature file of every modality.

    Raises:
        DataError: If the folder or a file is missing.
    """
    if not osp.isdir(folder):
        raise DataError(f"The folder '{folder}' does not exist; check its "
                        f"name")
    found = [FEATURES.fullmatch(name) for name in sorted(os.listdir(folder))]
    names = [match.group(1) for match in found if match is not None]
    published = find_names(folder)
    if len(names) == 0 and len(published) > 0:
        raise DataError(f"The folder '{folder}' holds no feature file "
                        f"'features_<modality>.npy', but the files of a "
                        f"published dataset; use --data "
                        f"{'|'.join(published)} --source {folder} "
                        f"(MultiModalRec(..., source='{folder}'))")
    if len(names) == 0:
        raise DataError(f"The folder '{folder}' holds no feature file; put "
                        f"one there as 'features_<modality>.npy'")
    for modality in modalities or []:
        if modality not in names:
            raise DataError(f"The file 'features_{modality}.npy' is missing "
                            f"in '{folder}'; put it there, or go without it "
                            f"by modalities={names} (--modalities "
                            f"{' '.join(names)})")
    return {
        modality: osp.join(folder, f'features_{modality}.npy')
        for modality in modalities or names
    }


def read_items(folder: str, num_rows: Dict[str, int]) -> List[str]:
    r"""Returns the ids of the items in the order of the feature rows.

    Raises:
        DataError: If an item is listed twice, or a feature file has another
            number of rows than there are items.
    """
    table = read_table(folder, 'items', ['item'])
    if table is not None:
        source, ids = f"'{table.path}'", table.ids('item')
        seen: Dict[str, int] = {}
        for row, item in enumerate(ids):
            if item in seen:
                table.fail(row, 'item', f"the item '{item}' is listed a "
                           f"second time; remove it and its feature row")
            seen[item] = row
    else:
        source, size = next(iter(num_rows.items()))
        source, ids = f"'{source}'", [str(i) for i in range(size)]
    for path, size in num_rows.items():
        if size != len(ids):
            raise DataError(f"'{path}' has {size} rows, but {source} has "
                            f"{len(ids)} items; give it one row per item")
    return ids


def sorted_ids(ids: Set[str]) -> List[str]:
    r"""Returns ids, sorted as integers if they all are some."""
    return sorted(ids, key=int if are_integers(ids) else None)


def to_numbers(ids: Sequence[str]) -> np.ndarray:
    r"""Returns ids as integers if they all are some, otherwise as text."""
    return np.array(ids, dtype=np.int64 if are_integers(ids) else np.str_)


def are_integers(ids: Iterable[str]) -> bool:
    return all(INTEGER.fullmatch(value) for value in ids)


def to_index(table: Table, column: str, ids: Sequence[str]) -> Tensor:
    r"""Returns the positions in :obj:`ids` of a column.

    Raises:
        DataError: If an id is not among them.
    """
    position = {value: i for i, value in enumerate(ids)}
    values = table.ids(column)
    index = [position.get(value, -1) for value in values]
    if -1 in index:
        row = index.index(-1)
        table.fail(row, column, f"the {column} '{values[row]}' is unknown; "
                   f"list it in 'items.csv', or, without that file, use the "
                   f"numbers 0..{len(ids) - 1} of the feature rows")
    return torch.tensor(index, dtype=torch.long)


def read_split(table: Table) -> Tensor:
    r"""Returns 0, 1 or 2 for interactions to train on, validate and test.

    Raises:
        DataError: If a value names no split.
    """
    values = [str(value).lower() for value in table.columns['split']]
    for row, value in enumerate(values):
        if value not in SPLITS:
            table.fail(row, 'split', f"'{value}' is no split; use train, val "
                       f"or test")
    return torch.tensor([SPLITS[value] for value in values])


def _split(table: Table, edge_index: Tensor, val_ratio: float,
           test_ratio: float, seed: int) -> Sequence[Tensor]:
    has_time = 'timestamp' in table.columns
    time = np.zeros(edge_index.size(1))
    if has_time:
        time = table.times('timestamp')
    # Of a pair that is there repeatedly, the earliest one counts:
    order = np.lexsort([time, *edge_index.flip(0).numpy()])
    edge_index = edge_index[:, torch.from_numpy(order)]
    first = torch.ones(order.size, dtype=torch.bool)
    first[1:] = (edge_index[:, 1:] != edge_index[:, :-1]).any(dim=0)
    rank = np.unique(time[order], return_inverse=True)[1]
    return split_edges(edge_index[:, first], val_ratio, test_ratio, seed,
                       time=torch.from_numpy(rank)[first] if has_time else
                       None)
