import warnings
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from diffmm_pyg.datasets.from_arrays import Splits, hetero_data_from_arrays
from diffmm_pyg.datasets.ids import sorted_ids, to_numbers
from diffmm_pyg.datasets.item_features import read_item_features
from diffmm_pyg.datasets.split import split_edges
from diffmm_pyg.datasets.table import NAMES, Table, quote
from diffmm_pyg.datasets.tables import read_table
from diffmm_pyg.errors import ConfigError, DataError
from torch_geometric.utils import coalesce

# What a split is called; MMRec's `x_label` holds numbers.
SPLITS = {
    'train': 'train', '0': 'train',
    'val': 'val', 'valid': 'val', 'validation': 'val', '1': 'val',
    'test': 'test', '2': 'test',
}
# The column that every way to split needs, besides users and items:
WAYS = {'column': ['split'], 'time': ['timestamp'], 'random': []}


def hetero_data_from_tables(
    interactions: Any,
    features: Mapping[str, Any],
    item_ids: Any = None,
    columns: Optional[Mapping[str, str]] = None,
    split: Optional[str] = None,
    val_ratio: float = 0.1,
    test_ratio: float = 0.1,
    seed: int = 0,
) -> Splits:
    r"""Builds the :class:`~torch_geometric.data.HeteroData` objects of the
    training, validation and test split from a table of interactions and the
    feature matrices of the items.

    A table is a text file with a header (CSV, TSV or another separator; the
    :obj:`.inter` files of RecBole and MMRec), a Parquet file, or a data frame
    of pandas or polars. Ids are integers or any text; :meth:`node_ids` gives
    them back, as integers if all users (or items) have such. Users are in the
    order of their ids, items in that of their feature rows.

    What is repeated counts once, at its earliest time, and an item without
    feature rows lacks all modalities; warnings say how often.

    Args:
        interactions (str, object or dict): The table of interactions, or
            one table for each of :obj:`"train"`, :obj:`"val"` and
            :obj:`"test"`.
        features (Dict[str, str or np.ndarray or torch.Tensor]): The features
            of every modality, as a :obj:`.npy` file or an array of shape
            :obj:`[num_rows, F]`. A row that is NaN throughout says that its
            item lacks this modality.
        item_ids (str, object, list or dict, optional): The items that
            the feature rows belong to, in their order: a table with a column
            of items, a :obj:`.npy` file of ids, the ids themselves, or a
            dictionary with one of these for every modality. If set to
            :obj:`None`, items are the numbers of the rows, from 0.
            (default: :obj:`None`)
        columns (Dict[str, str], optional): The names of the columns
            :obj:`"user"`, :obj:`"item"`, :obj:`"timestamp"` and
            :obj:`"split"`, where they are not these, or those of RecBole and
            MMRec (:obj:`user_id`, :obj:`userID`, :obj:`x_label`), in all
            tables, that of :obj:`item_ids` included. (default: :obj:`None`)
        split (str, optional): The split: by the :obj:`"column"` that says
            train, val or test (or 0, 1 or 2), by :obj:`"time"`, the latest
            interactions of every user being tested, or at :obj:`"random"`.
            If set to :obj:`None`, the first of these that there is a column
            for. (default: :obj:`None`)
        val_ratio (float, optional): The share of interactions for
            validation, if split by time or at random. (default: :obj:`0.1`)
        test_ratio (float, optional): The share of interactions for testing,
            if split by time or at random. (default: :obj:`0.1`)
        seed (int, optional): The seed of a random split, and of the order of
            equal times. (default: :obj:`0`)

    Raises:
        DataError: If a table or a feature file is missing, damaged, or does
            not fit the others; the message names the file, line and column.
        ConfigError: If :obj:`columns`, :obj:`split` or a ratio is unusable.
    """
    for name in columns or {}:
        if name not in NAMES:
            raise ConfigError(f"'columns' names '{name}'; it may name "
                              f"{', '.join(NAMES)}")
    if split is not None and (split not in WAYS
                              or isinstance(interactions, Mapping)):
        raise ConfigError(f"'split' must be one of {', '.join(WAYS)}, and is "
                          f"not given with tables that are split already "
                          f"(got '{split}')")
    rows = read_item_features(features, item_ids, columns)
    tables = read_interactions(interactions, columns, split)
    user_ids = sorted_ids({u for t in tables.values() for u in t.ids('user')})
    if len(user_ids) == 0:
        raise DataError(f"'{next(iter(tables.values())).path}' holds no "
                        f"interaction; add some")
    listed = dict.fromkeys(i for value in rows.values() for i in value.ids)
    all_items = find_items(list(tables.values()), list(listed),
                           may_grow=item_ids is not None)
    edges = {
        name: torch.stack([to_index(table.ids('user'), user_ids),
                           to_index(table.ids('item'), all_items)])
        for name, table in tables.items()
    }
    if 'all' in edges:
        splits = split_table(tables['all'], edges['all'], val_ratio,
                             test_ratio, seed)
    else:
        empty = torch.empty(2, 0, dtype=torch.long)
        splits = [edges.get(name, empty) for name in ['train', 'val', 'test']]
    splits = [coalesce(edge_index) for edge_index in splits]
    warn_repeated(edges.values(), splits)

    aligned = {m: value.align(all_items) for m, value in rows.items()}
    return hetero_data_from_arrays(
        len(user_ids), len(all_items), *splits,
        features={m: x for m, (x, _) in aligned.items()},
        masks={m: mask for m, (_, mask) in aligned.items()
               if mask is not None},
        user_ids=to_numbers(user_ids), item_ids=to_numbers(all_items))


def read_interactions(
    interactions: Any,
    columns: Optional[Mapping[str, str]],
    split: Optional[str],
) -> Dict[str, Table]:
    r"""Returns the table of :obj:`"all"` interactions, or those of
    :obj:`"train"`, :obj:`"val"` and :obj:`"test"`.

    Raises:
        DataError: If a table is missing, damaged, or names no split.
    """
    columns = columns or {}
    if isinstance(interactions, Mapping) and len(interactions) == 0:
        raise DataError("'interactions' is empty; give the table of 'train'")
    if isinstance(interactions, Mapping):
        for name in interactions:
            if name not in SPLITS:
                raise DataError(f"The interactions of '{name}' belong to no "
                                f"split; use train, val or test")
        return {
            SPLITS[name]: read_table(source, ['user', 'item'], columns=columns,
                                     name=f'interactions of {name}')
            for name, source in interactions.items()
        }
    required = ['user', 'item', *([] if split is None else WAYS[split])]
    optional = ['split', 'timestamp'] if split is None else []
    # A column with a name of its own is not looked for in vain:
    required += [name for name in optional if name in columns]
    return {'all': read_table(interactions, required, optional, columns,
                              name='interactions')}


def find_items(tables: Sequence[Table], listed: List[str],
               may_grow: bool) -> List[str]:
    r"""Returns the ids of all items: those with feature rows, followed by
    those that only tables know, if there may be such.

    Raises:
        DataError: If an item is unknown that must not be, or all are.
    """
    known, found = set(listed), set()
    unknown: Dict[str, str] = {}
    for table in tables:
        items = table.ids('item')
        found.update(items)
        for row, item in enumerate(items):
            if item in known or item in unknown:
                continue
            if not may_grow:
                table.fail(row, 'item', f"the item {quote(item)} is unknown; "
                           f"use the numbers 0..{len(listed) - 1} of the "
                           f"feature rows, or say which item each belongs to "
                           f"by item_ids=... (in a folder, by 'items.csv')")
            unknown[item] = f"'{table.path}', {table.place(row, 'item')}"
    if len(unknown) == 0:
        return listed
    item, place = next(iter(unknown.items()))
    if len(unknown) == len(found):
        raise DataError(f"{place}: no item has a feature row; items are "
                        f"called {quote(item)} here, and "
                        f"{quote(listed[0])} in the list of feature rows; use "
                        f"the same ids")
    warnings.warn(
        f"{len(unknown)} of {len(found)} items have no feature row (the first "
        f"is {quote(item)} in {place}); they are kept, and lack all "
        f"modalities", stacklevel=3)
    return listed + sorted_ids(unknown)


def to_index(values: Sequence[str], ids: Sequence[str]) -> Tensor:
    r"""Returns the positions of values among ids."""
    position = {value: i for i, value in enumerate(ids)}
    return torch.tensor([position[value] for value in values],
                        dtype=torch.long)


def split_table(table: Table, edge_index: Tensor, val_ratio: float,
                test_ratio: float, seed: int) -> Sequence[Tensor]:
    r"""Splits interactions by the column that was read for it."""
    if 'split' in table.columns:
        names = read_split(table)
        return [
            edge_index[:, torch.tensor([name == split for name in names])]
            for split in ['train', 'val', 'test']
        ]
    time = None
    if 'timestamp' in table.columns:
        rank = np.unique(table.times('timestamp'), return_inverse=True)[1]
        time = torch.from_numpy(rank)
    return split_edges(edge_index, val_ratio, test_ratio, seed, time)


def read_split(table: Table) -> List[str]:
    r"""Returns the split of every interaction.

    Raises:
        DataError: If a value names none.
    """
    values = [str(value).lower() for value in table.columns['split']]
    for row, value in enumerate(values):
        if value not in SPLITS:
            table.fail(row, 'split', f"{quote(value)} is no split; use train, "
                       f"val or test")
    return [SPLITS[value] for value in values]


def warn_repeated(before: Iterable[Tensor], after: Iterable[Tensor]) -> None:
    r"""Warns about interactions that were merged."""
    num_rows, num_left = [
        sum(edge_index.size(1) for edge_index in edges)
        for edges in [before, after]
    ]
    if num_left < num_rows:
        warnings.warn(
            f"Merged {num_rows - num_left} of {num_rows} interactions, since "
            f"the same user has the same item in another one", stacklevel=3)
