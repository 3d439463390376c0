r"""The best trials of a search once more, with other seeds: the best of many
is the luckiest, too.
"""
from typing import Any, Dict, List

import numpy as np

from _experiments.processes import Job
from _experiments.store import Row, Trials

SEEDS = range(1001, 1006)  # Those of no search and no plan.
OF_JOB = ['label', 'dataset', 'config', 'trial']
OF_TRIAL = ['search', 'model', 'trial', 'set', 'data_hash']


def finalists(rows: List[Row], number: int) -> List[Row]:
    r"""Returns the best trials, and that of the description as it stands.

    Args:
        rows ([Row]): All trials of a search.
        number (int): The number of the best ones.
    """
    finished = [row for row in rows if 'error' not in row]
    best = sorted(finished, key=lambda row: -row['value'])[:number]
    out = best + [row for row in finished
                  if row['trial'] == 0 and row not in best]
    return out if len(out) > 1 else []  # One has nothing to compete with.


def final_jobs(rows: List[Row], number: int, common: Job) -> List[Job]:
    r"""Returns the trainings of the finalists, one seed after the other.

    Args:
        rows ([Row]): All trials of a search.
        number (int): The number of the best ones.
        common (Dict): What all processes are told.
    """
    return [{
        **common,
        **{name: row[name] for name in OF_JOB},
        'key': _key(row, seed),
        'turn': f"{row['search']}-{seed}",  # They may share parts.
        'seed': seed,
        'folds': len(row['folds']),
        'record': {**common['record'], 'final': True,
                   **{name: row[name] for name in OF_TRIAL}},
    } for seed in SEEDS for row in finalists(rows, number)]


def judge_finals(rows: List[Row], number: int,
                 store: Trials) -> List[Dict[str, Any]]:
    r"""Returns what the finalists reached with all seeds, the best on average
    first, if none of them failed.

    Args:
        rows ([Row]): All trials of a search.
        number (int): The number of the best ones.
        store (Trials): The log.
    """
    found, out = store.rows(), []
    for row in finalists(rows, number) if number > 0 else []:
        rows_of = [found.get(_key(row, seed), {}) for seed in SEEDS]
        values = [x.get('value') for x in rows_of]
        if None in values:
            return []
        out.append({
            'trial': row['trial'],
            'value': float(np.mean(values)),
            'standard_deviation': float(np.std(values, ddof=1)),
            'values': values,
            'seconds': sum(x['seconds'] for x in rows_of),
        })
    return sorted(out, key=lambda final: -final['value'])


def _key(row: Row, seed: int) -> str:
    return f"{row['key']}-{seed}"
