r"""Searches: which trials there are, and what came of them."""
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

import diffmm_pyg
from _experiments.datasets import hash_of_fold, load_own_fold
from _experiments.models import (
    Description,
    load_description,
    override,
    resolve,
)
from _experiments.processes import Job
from _experiments.runner import run_jobs
from _experiments.significance import standard_error
from _experiments.store import Row, Trials, read_rows
from _tuning.finals import final_jobs, judge_finals
from _tuning.propose import propose
from _tuning.spaces import Space, check_space, load_space, values_of
from _tuning.trial import run_trial

DURATION = ['training.epochs', 'training.patience']
BEFORE = -1  # The number of what comes before the trials of a search.


class Search(NamedTuple):
    r"""The search for the hyper-parameters of a model.

    Args:
        name (str): The name of its description.
        description (Description): The description.
        space (Space): What may be tuned.
        dataset (str): The dataset.
        data_hash (str): The hash of its training and validation split.
        folds (int): The number of folds.
        seed (int): The seed of proposals and trainings.
        earlier ([Row]): Trials of other searches, to learn from.
    """
    name: str
    description: Description
    space: Space
    dataset: str
    data_hash: str
    folds: int
    seed: int
    earlier: List[Row]

    @property
    def key(self) -> str:
        r"""What tells the search from all others with different trials."""
        text = json.dumps([
            resolve(self.description, self.dataset), self.space,
            self.data_hash, self.folds, self.seed, self.earlier,
            diffmm_pyg.__version__
        ], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def jobs(self, num_trials: int) -> List[Job]:
        r"""Returns all trials, as yet without what they try."""
        key = self.key
        return [{
            'key': f'{key}-{number}',
            'label': self.description['title'],
            'dataset': self.dataset,
            'seed': self.seed,
            'turn': self.name,
            'trial': number,
        } for number in range(num_trials)]

    def trials(self, store: Trials, num_trials: int) -> List[Row]:
        r"""Returns the rows of the trials that have run."""
        found = store.rows()
        return [found[job['key']] for job in self.jobs(num_trials)
                if job['key'] in found]

    def comparable(self, rows: List[Row]) -> List[Row]:
        r"""Returns what trials of this model on the same folds had for all
        that is tuned now, and their value. In all else, the model has to be
        the same, but for how long it was trained.
        """
        rest = dict.fromkeys([*self.space, *DURATION])
        model = override(resolve(self.description, self.dataset), rest)
        out = []
        for row in rows:
            if ('error' in row or 'final' in row
                    or row.get('model') != self.name
                    or row['data_hash'] != self.data_hash
                    or len(row['folds']) != self.folds):
                continue
            try:
                values = values_of(row['config'], self.space)
            except LookupError:
                continue  # There was less to tune.
            if override(row['config'], rest) == model:
                out.append({'trial': BEFORE, 'set': values,
                            'value': row['value']})
        return out

    def complete(self, job: Job, store: Trials) -> Job:
        r"""Returns the job with what is tried, judging by all trials before
        it.
        """
        rows = self.trials(store, job['trial'])
        current = values_of(resolve(self.description, self.dataset),
                            self.space)
        # Another search of the same model is to try other values:
        changes = propose(self.space, current, [*self.earlier, *rows],
                          job['trial'], int(self.key, 16))
        config = resolve(override(self.description, changes), self.dataset)
        record = {**job['record'], 'search': self.key, 'model': self.name,
                  'trial': job['trial'], 'set': changes,
                  'data_hash': self.data_hash}
        return {**job, 'config': config, 'folds': self.folds,
                'record': record}


def make_searches(names: List[str], dataset: str, folder: Optional[str],
                  changes: Dict[str, Any], folds: int, seed: int,
                  log: Optional[Path] = None) -> List[Search]:
    r"""Returns the searches of models by name, where :obj:`changes` are made
    to all descriptions, and trials of :obj:`log` are learned from.

    Raises:
        ConfigError: If there is no such model, or nothing to tune in it.
        RunError: If :obj:`log` is no log of trials.
    """
    logged = [] if log is None else list(read_rows(log).values())
    out: List[Search] = []
    hashes: Dict[Any, str] = {}
    for name in names:
        space = load_space(name)
        description = override(load_description(name), changes)
        check_space(space, description, dataset)
        modalities = description.get('modalities')
        data = tuple(modalities or [])
        if data not in hashes:
            hashes[data] = hash_of_fold(
                load_own_fold(dataset, folder, modalities))
        search = Search(name, description, space, dataset, hashes[data],
                        folds, seed, [])
        out.append(search._replace(earlier=search.comparable(logged)))
    return out


def run_searches(searches: List[Search], store: Trials, num_trials: int,
                 num_jobs: int, common: Job) -> None:
    r"""Runs the trials that are missing, in turns, so that all models have
    had about the same number whenever it ends. No model has two at a time:
    what is tried does not depend on :obj:`num_jobs`.

    Args:
        searches ([Search]): The searches.
        store (Trials): The log.
        num_trials (int): The number of trials per model.
        num_jobs (int): The number of processes.
        common (Dict): What all processes are told.
    """
    by_name = {search.name: search for search in searches}
    done = store.finished()
    jobs = [{**common, **job} for turn in zip(
        *[search.jobs(num_trials) for search in searches], strict=True)
        for job in turn]
    missing = [job for job in jobs if job['key'] not in done]
    run_jobs(run_trial, missing, store, min(num_jobs, len(searches)),
             len(jobs) - len(missing),
             lambda job: by_name[job['turn']].complete(job, store))


def run_finals(searches: List[Search], store: Trials, num_trials: int,
               num_finalists: int, num_jobs: int, common: Job) -> List[Row]:
    r"""Trains the best trials, and the descriptions as they stand, with more
    seeds, and returns the rows of the trainings that failed.

    Args:
        searches ([Search]): The searches, which have run.
        store (Trials): The log.
        num_trials (int): The number of trials per model.
        num_finalists (int): The number of the best ones per model.
        num_jobs (int): The number of processes.
        common (Dict): What all processes are told.
    """
    jobs = [job for search in searches
            if not search.description.get('deterministic') for job in
            final_jobs(search.trials(store, num_trials), num_finalists,
                       common)]
    done = store.finished()
    missing = [job for job in jobs if job['key'] not in done]
    run_jobs(run_trial, missing, store, num_jobs, len(jobs) - len(missing))
    rows = store.rows()
    return [rows[job['key']] for job in jobs if 'error' in rows[job['key']]]


def summarize(search: Search, store: Trials, num_trials: int,
              num_finalists: int) -> Optional[Dict[str, Any]]:
    r"""Returns the best trial of a search, that of the finals if there are
    any, and what it took to find it; :obj:`None` if no trial succeeded.
    """
    rows = search.trials(store, num_trials)
    finished = [row for row in rows if 'error' not in row]
    if len(finished) == 0:
        return None
    finals = judge_finals(rows, num_finalists, store)
    best = max(finished, key=lambda row: row['value'])
    if len(finals) > 0:
        best = next(x for x in rows if x['trial'] == finals[0]['trial'])
    values = np.array([fold['recall@20'] for fold in best['folds']])
    return {
        'model': search.name,
        'title': search.description['title'],
        'dataset': search.dataset,
        'set': best['set'],
        'tuned': {
            'trials': len(rows),
            'value': round(best['value'], 4),
            'set': values_of(best['config'], search.space),
        },
        'value': best['value'],
        'standard_error': (standard_error(values) if values.size > 1 else
                           None),
        'folds': best['folds'],
        'trial': best['trial'],
        'finals': finals,
        'as_described': next((row['value'] for row in finished
                              if row['trial'] == 0), None),
        'budget': {
            'trials': len(rows),
            'failed': len(rows) - len(finished),
            'folds': search.folds,
            'timeouts': sorted({row['timeout'] for row in rows
                                if row['timeout'] is not None}),
            'seconds': sum(row['seconds'] for row in rows),
            'seconds_of_finals': sum(x['seconds'] for x in finals),
        },
        'seed': search.seed,
        'search': search.key,
        **{key: best[key] for key in ['data_hash', 'versions', 'optuna',
                                      'git', 'command']},
    }
