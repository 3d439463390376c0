r"""Splits that are cut from the training edges of a dataset."""
import copy
from typing import List, Sequence

import torch
from torch import Tensor

from diffmm_pyg.errors import DataError
from diffmm_pyg.training.splits import positives
from diffmm_pyg.typing import INTERACTS, USER
from diffmm_pyg.utils.random import keyed_generator, random_ranks
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

MAX_FOLDS = 5
STREAM = 20_021  # Tells these draws from those of trainings.
RANDOM_SPLIT = {'test': 1001, 'val': 1002}  # Folds that no search has.


def cut_fold(data: Sequence[HeteroData], fold: int) -> List[HeteroData]:
    r"""Returns the training and validation graph of a fold, where fold 0 is
    what is given.

    The positives of any other are training edges: as many users as have
    positives in the validation split are drawn among those with two edges or
    more, and have as many edges drawn as there, the most for those with the
    most edges. They keep at least one. The draws depend on the number of the
    fold alone; the given validation split is not used.

    Raises:
        DataError: If no user has two training edges.
    """
    if fold == 0:
        return list(data)
    train, val = data
    # Labels of the training graph are training edges, too:
    edge_index = coalesce(torch.cat([train[INTERACTS].edge_index,
                                     positives(train)], dim=1))
    held_out = _draw(edge_index, positives(val), train[USER].num_nodes, fold)
    if not held_out.any():
        raise DataError("Only users with two training edges or more can have "
                        "edges held out, and there is none; take the splits "
                        "that the dataset has")
    kept = edge_index[:, ~held_out]
    return [_with_edges(train, kept, kept),
            _with_edges(val, kept, edge_index[:, held_out])]


def split_at_random(data: Sequence[HeteroData]) -> List[HeteroData]:
    r"""Returns a training, validation and test graph that are cut from the
    given training graph. The given validation and test split tell how many
    users and edges there are in the new ones, as far as there are users with
    two edges or more, and nothing else.
    """
    train, val, test = data
    train, test = cut_fold([train, test], RANDOM_SPLIT['test'])
    train, val = cut_fold([train, val], RANDOM_SPLIT['val'])
    return [train, val,
            _with_edges(test, train[INTERACTS].edge_index, positives(test))]


def _draw(edge_index: Tensor, label: Tensor, num_users: int,
          fold: int) -> Tensor:
    generator = keyed_generator(STREAM, fold)
    degree = torch.bincount(edge_index[0], minlength=num_users)
    counts = torch.bincount(label[0], minlength=num_users)
    counts = counts[counts > 0].sort().values

    users = (degree > 1).nonzero().view(-1)
    perm = torch.randperm(users.numel(), generator=generator)
    users = users[perm[:counts.numel()]]
    users = users[degree[users].argsort(stable=True)]
    counts = counts[counts.numel() - users.numel():]
    quota = torch.zeros_like(degree)
    quota[users] = torch.minimum(counts, degree[users] - 1)

    ranks = random_ranks(edge_index[0], degree.cumsum(0) - degree, generator)
    return ranks < quota[edge_index[0]]


def _with_edges(data: HeteroData, edge_index: Tensor,
                edge_label_index: Tensor) -> HeteroData:
    out = copy.copy(data)
    out[INTERACTS].edge_index = edge_index
    out[INTERACTS].edge_label_index = edge_label_index
    if 'edge_label' in out[INTERACTS]:
        del out[INTERACTS].edge_label
    return out
