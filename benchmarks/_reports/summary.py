r"""What the finished cells of a plan say about a dataset."""
from functools import cached_property
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from _experiments.plan import BEST_BASELINE, Entry, Plan
from _experiments.ranks import user_metrics
from _experiments.significance import holm, paired_bootstrap
from _experiments.store import Row, Store, load_arrays

METRICS = {'recall': 'Recall', 'ndcg': 'NDCG'}
K = 20


class Result:
    r"""A model on a dataset, over its seeds.

    Args:
        entry (Entry): The model.
        rows ([Row]): Its finished cells.
        store (Store): The folder of results.
    """
    def __init__(self, entry: Entry, rows: List[Row], store: Store):
        self.entry = entry
        self.rows = rows
        self.store = store
        self.labels = [entry.label]  # And those of models that are the same.

    @property
    def label(self) -> str:
        return self.entry.label

    @property
    def is_ours(self) -> bool:
        return self.entry.description.get('role') == 'ours'

    def values(self, name: str, split: str = 'test') -> np.ndarray:
        r"""Returns a metric of every seed."""
        return np.array([row['metrics'][split][name] for row in self.rows])

    def mean(self, name: str, split: str = 'test') -> float:
        return float(self.values(name, split).mean())

    def deviation(self, name: str, split: str = 'test') -> float:
        r"""Returns the standard deviation over seeds, NaN for one seed."""
        values = self.values(name, split)
        return float(values.std(ddof=1)) if len(values) > 1 else float('nan')

    def field(self, name: str) -> float:
        r"""Returns the mean of another number of the rows."""
        return float(np.mean([row[name] for row in self.rows]))

    @cached_property
    def positives(self) -> Dict[str, np.ndarray]:
        r"""The positives of the test split."""
        path = self.store.positives_of(self.rows[0]['data_hash'])
        out = load_arrays(path)
        assert out is not None
        return out

    @cached_property
    def ranks(self) -> np.ndarray:
        r"""The ranks of the positives, of shape :obj:`[seeds, N]`."""
        paths = [self.store.ranks_of(row['key']) for row in self.rows]
        return np.stack([load_arrays(path)['rank'] for path in paths])

    @cached_property
    def users(self) -> Dict[str, np.ndarray]:
        r"""Recall and NDCG of every user, averaged over seeds."""
        seeds = [user_metrics(rank, self.positives['user'], K)
                 for rank in self.ranks]
        return {name: np.mean([x[name] for x in seeds], axis=0)
                for name in METRICS}

    @cached_property
    def found(self) -> np.ndarray:
        r"""How often every positive is among the best 20, over seeds."""
        return ((self.ranks > 0) & (self.ranks <= K)).mean(axis=0)

    def best_on_test(self, name: str) -> Optional[np.ndarray]:
        r"""Returns a metric of every seed at the epoch of the best test
        recall, or :obj:`None` where the epochs were not tested.
        """
        keys = [f'test/{x}@{K}' for x in METRICS]
        histories = [row['history'] for row in self.rows]
        if not all(key in row for h in histories for row in h for key in keys):
            return None
        return np.array([max(h, key=lambda row: row[keys[0]])[f'test/{name}']
                         for h in histories])

    @property
    def epochs(self) -> List[Tuple[int, int]]:
        r"""The epoch that is kept, from 1, and the number of epochs, of every
        seed.
        """
        histories = [[x['epoch'] for x in row['history']] for row in self.rows]
        return [(history.index(row['best_epoch']) + 1, len(history))
                for row, history in zip(self.rows, histories, strict=True)]

    def published(self, dataset: str, name: str) -> Optional[float]:
        values = self.entry.description.get('published', {})
        return values.get(dataset, {}).get(name)


class Comparison(NamedTuple):
    r"""All models, compared with one.

    Args:
        base (Result): The model that the others are compared with.
        values (Dict[str, Dict[str, Tuple]]): By metric and label, the
            difference to it, the ends of its interval, and the corrected
            p-value.
    """
    base: Result
    values: Dict[str, Dict[str, Tuple[float, ...]]]


class Summary(NamedTuple):
    r"""All models on a dataset.

    Args:
        dataset (str): The dataset.
        sizes (Dict[str, int]): Its sizes.
        results ([Result]): The models with a finished cell, by validation
            recall, the best first.
        comparisons ([Comparison]): How they compare.
        missing (Dict[str, List[int]]): The seeds that have not run, by label.
        failed ([Row]): The cells that failed.
    """
    dataset: str
    sizes: Dict[str, int]
    results: List[Result]
    comparisons: List[Comparison]
    missing: Dict[str, List[int]]
    failed: List[Row]

    @property
    def yardstick(self) -> Optional[Result]:
        r"""The first model that others are compared with, if there is one."""
        return self.comparisons[0].base if self.comparisons else None


def summarize(plan: Plan, keys: List[str], dataset: str,
              sizes: Dict[str, int], store: Store) -> Summary:
    r"""Collects what there is.

    Args:
        plan (Plan): The plan.
        keys ([str]): The keys of its cells.
        dataset (str): The dataset.
        sizes (Dict[str, int]): Its sizes.
        store (Store): The folder of results.
    """
    done, rows = store.finished(), store.rows()
    mine: Dict[str, List[Row]] = {}
    missing: Dict[str, List[int]] = {}
    failed = []
    for cell, key in zip(plan.cells, keys, strict=True):
        if cell.dataset != dataset:
            continue
        if key in done:
            mine.setdefault(cell.label, []).append(done[key])
        elif key in rows and 'error' in rows[key]:
            failed.append({**rows[key], 'label': cell.label})
        else:
            missing.setdefault(cell.label, []).append(cell.seed)
    results = _results(plan.entries, mine, store)
    bases = [_find(results, label) for label in plan.compare_with]
    comparisons = [Comparison(base, _compare(results, base))
                   for base in bases if base and len(results) > 1]
    return Summary(dataset, sizes, results, comparisons, missing, failed)


def _results(entries: List[Entry], rows: Dict[str, List[Row]],
             store: Store) -> List[Result]:
    out: Dict[Tuple[str, ...], Result] = {}
    for entry in entries:
        if entry.label in rows:
            cells = tuple(row['key'] for row in rows[entry.label])
            if cells in out:
                out[cells].labels.append(entry.label)
            else:
                out[cells] = Result(entry, rows[entry.label], store)
    return sorted(out.values(),
                  key=lambda result: -result.mean(f'recall@{K}', 'val'))


def _find(results: List[Result], label: str) -> Optional[Result]:
    if label != BEST_BASELINE:
        return next((x for x in results if label in x.labels), None)
    return next((x for x in results if not x.is_ours), None)


def _compare(results: List[Result],
             base: Result) -> Dict[str, Dict[str, Tuple[float, ...]]]:
    others = [x for x in results if x is not base]
    out: Dict[str, Dict[str, Tuple[float, ...]]] = {m: {} for m in METRICS}
    for name in METRICS:
        tested = paired_bootstrap(np.stack(
            [x.users[name] - base.users[name] for x in others], axis=1))
        columns = zip(tested.mean, tested.low, tested.high, holm(tested.p),
                      strict=True)
        out[name] = {x.label: tuple(map(float, column))
                     for x, column in zip(others, columns, strict=True)}
    return out
