r"""The datasets of plans, by name."""
import os
import tempfile
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from _experiments.folds import split_at_random
from diffmm_pyg.data import data_hash
from diffmm_pyg.datasets import FakeMultiModalRec, MultiModalRec
from diffmm_pyg.datasets.published import PUBLISHED
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.training.splits import positives
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from torch_geometric.data import HeteroData

# With a long tail, and items that nobody is known to have chosen:
FAKE: Dict[str, Any] = {
    'num_users': 400,
    'num_items': 300,
    'num_blocks': 8,
    'avg_degree': 7.,
    'popularity_skew': 1.,
    'interaction_noise': 0.2,
    'feature_channels': {'image': 32, 'audio': 16},
}
# What their users can get hold of, for lack of text features:
MODALITIES: Dict[str, Optional[List[str]]] = {'tiktok': ['image', 'audio']}
NAMES = ['fake', *PUBLISHED]
RANDOM = '-random'  # Follows the name where training edges are split anew.
TITLES = {'fake': 'Generated data', 'tiktok': 'TikTok', 'baby': 'Amazon Baby',
          'sports': 'Amazon Sports'}

# By dataset and modalities: its hash, and its sizes.
Facts = Dict[Tuple[str, Any], Tuple[str, Dict[str, int]]]


def base_of(name: str) -> str:
    r"""Returns the name of the dataset that another is made from, or its own.
    """
    return name.removesuffix(RANDOM)


def title_of(name: str) -> str:
    r"""Returns what reports call a dataset."""
    base = base_of(name)
    return TITLES[base] + ('' if name == base else ', split at random')


def check_dataset(name: str, folder: Optional[str]) -> None:
    r"""Checks, before any work is done, that a dataset can be read.

    Raises:
        ConfigError: If there is none of that name, or no folder is given.
    """
    name = base_of(name)
    if name not in NAMES:
        raise ConfigError(f"There is no dataset '{name}'; choose among "
                          f"{', '.join(NAMES)}, all with or without "
                          f"'{RANDOM}'")
    if name in PUBLISHED and folder is None:
        raise ConfigError(f"'{name}' is read from a folder; name the one that "
                          f"holds '{name}' by '--data FOLDER' or in "
                          f"$DIFFMM_DATA, or run '--quick', which needs none")
    if name in PUBLISHED and not os.path.isdir(str(folder)):
        raise ConfigError(f"'{folder}' is no folder; name the one that holds "
                          f"'{name}' by '--data FOLDER'")


def load_dataset(name: str, folder: Optional[str],
                 modalities: Optional[Sequence[str]]) -> List[HeteroData]:
    r"""Returns the training, validation and test graph."""
    base = base_of(name)
    if base != name:
        return split_at_random(load_dataset(base, folder, modalities))
    if name == 'fake':
        return list(FakeMultiModalRec(modalities=modalities, **FAKE))
    with tempfile.TemporaryDirectory() as root:
        return list(MultiModalRec(root, name, source=folder,
                                  modalities=modalities or
                                  MODALITIES.get(name)))


def load_own_fold(name: str, folder: Optional[str],
                  modalities: Optional[Sequence[str]]) -> List[HeteroData]:
    r"""Returns the training and validation graph, which is all that a search
    may see of a dataset.
    """
    train, val, _ = load_dataset(name, folder, modalities)
    return [train, val]


def hash_of_fold(data: Sequence[HeteroData]) -> str:
    r"""Returns a hash of all that a search sees of a dataset."""
    train, val = data
    return data_hash(train, {'val': positives(val)})


def hash_of(data: Sequence[HeteroData]) -> str:
    r"""Returns the hash that a run on :obj:`data` records."""
    return data_hash(data[0], _labels(data))


def describe_test(data: Sequence[HeteroData]) -> Dict[str, Tensor]:
    r"""Returns what the report needs to know of every positive of the test
    split, in the order of :meth:`~_experiments.ranks.rank_positives`: its
    :obj:`user`, and the number of training interactions of its user and of its
    item.
    """
    user, item = _labels(data)['test']
    known = data[0][INTERACTS].edge_index
    degrees = [torch.bincount(index, minlength=data[0][kind].num_nodes)
               for index, kind in zip(known, [USER, ITEM], strict=True)]
    return {
        'user': user,
        'user_degree': degrees[0][user],
        'item_degree': degrees[1][item],
    }


def count(data: Sequence[HeteroData]) -> Dict[str, int]:
    r"""Returns the sizes of a dataset."""
    labels = _labels(data)
    return {
        'users': data[0][USER].num_nodes,
        'items': data[0][ITEM].num_nodes,
        'train': data[0][INTERACTS].edge_index.size(1),
        **{name: label.size(1) for name, label in labels.items()},
        **{f'{name}_users': label[0].unique().numel()
           for name, label in labels.items()},
    }


def _labels(data: Sequence[HeteroData]) -> Dict[str, Tensor]:
    names: Tuple[str, str] = ('val', 'test')
    return {name: positives(split)
            for name, split in zip(names, data[1:], strict=True)}
