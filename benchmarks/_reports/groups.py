r"""Users with little and much history, and rare and popular items."""
from typing import Dict, List, NamedTuple

import numpy as np

from _reports.document import Table
from _reports.summary import Summary
from _reports.tables import model_table

NUM_GROUPS = 5
COLD = 'none (cold)'


class Groups(NamedTuple):
    r"""Groups by a number of training interactions.

    Args:
        index (np.ndarray): The group of every element.
        names ([str]): The names of the groups.
    """
    index: np.ndarray
    names: List[str]


class Grouped(NamedTuple):
    r"""The results of models by group.

    Args:
        names ([str]): The names of the groups :math:`G`.
        sizes (np.ndarray): How many there are in each, :obj:`[G]`.
        counted (str): Of what.
        means (Dict[str, np.ndarray]): The mean of every model in each.
    """
    names: List[str]
    sizes: np.ndarray
    counted: str
    means: Dict[str, np.ndarray]


def group_by(degree: np.ndarray, num_groups: int = NUM_GROUPS) -> Groups:
    r"""Returns groups of about the same size, of which those without any
    training interaction are the first, if there are some.
    """
    positive = degree[degree > 0]
    cuts = np.quantile(positive, np.linspace(0, 1, num_groups + 1)[1:-1],
                       method='lower') if len(positive) > 0 else []
    edges = sorted({0, *map(int, cuts)})  # Groups end with these.
    index = np.searchsorted(edges, degree)
    _, index = np.unique(index, return_inverse=True)
    names = []
    for i in range(index.max() + 1):
        low, high = degree[index == i].min(), degree[index == i].max()
        names.append(COLD if high == 0 else str(low) if low == high else
                     f'{low} to {high}')
    return Groups(index, names)


def by_users(summary: Summary) -> Grouped:
    r"""Returns the recall of users by the length of their history."""
    positives = summary.results[0].positives
    _, first = np.unique(positives['user'], return_index=True)
    return _grouped(group_by(positives['user_degree'][first]), 'users',
                    {x.label: x.users['recall'] for x in summary.results})


def by_items(summary: Summary) -> Grouped:
    r"""Returns the share of the test items that are found by popularity."""
    positives = summary.results[0].positives
    return _grouped(group_by(positives['item_degree']), 'pairs',
                    {x.label: x.found for x in summary.results})


def _grouped(groups: Groups, counted: str,
             values: Dict[str, np.ndarray]) -> Grouped:
    sizes = np.bincount(groups.index)
    means = {label: np.bincount(groups.index, x) / sizes
             for label, x in values.items()}
    return Grouped(groups.names, sizes, counted, means)


def group_table(summary: Summary, grouped: Grouped) -> Table:
    r"""The same in figures."""
    header = ['Model', *[f'{name} ({size:,} {grouped.counted})' for name, size
                         in zip(grouped.names, grouped.sizes, strict=True)]]
    rows = [[label, *[f'{x:.3f}' for x in means]]
            for label, means in grouped.means.items()]
    return model_table(header, rows, summary.results)
