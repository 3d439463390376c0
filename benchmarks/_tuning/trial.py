r"""Runs one trial of a search, in a process of its own, and adds a line to the
log.
"""
import shutil
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from _checkout import git_revision
from _experiments.datasets import load_own_fold
from _experiments.folds import cut_fold
from _experiments.processes import Job
from _experiments.store import Row, Trials
from _experiments.training import train
from _measure import describe_environment, peak_memory
from diffmm_pyg.runs import Run
from torch_geometric.data import HeteroData

METRICS = ['recall@20', 'ndcg@20']
REVISION = git_revision()  # That of what is imported here.


def run_trial(job: Job) -> None:
    r"""Trains a model with the hyper-parameters that are tried, on every
    fold.
    """
    data = load_own_fold(job['dataset'], job['folder'],
                         job['config']['modalities'])
    store = Trials(Path(job['out']))
    folder = store.training_of(job['key'])
    parts = (store.folder / 'parts' / job['record']['search'] /
             str(job['seed']))
    store.append({
        **job['record'],
        **measure(job, data, folder / str(REVISION), parts),
        'git': REVISION,
    })
    shutil.rmtree(folder)


def measure(job: Job, data: List[HeteroData], folder: Path,
            parts: Path) -> Row:
    r"""Trains on every fold, and returns what is to be known of the trial.
    Trainings go on from what :obj:`folder` holds of them, and those of models
    that are fused are kept in :obj:`parts`.
    """
    folds, versions = [], {}
    for fold in range(job['folds']):
        run, _ = train(job, cut_fold(data, fold), folder / str(fold),
                       parts / str(fold))
        folds.append(_describe(run))
        versions = run.config['versions']
    metrics = {name: float(np.mean([fold[name] for fold in folds]))
               for name in METRICS}
    return {
        **{k: job[k] for k in ['key', 'label', 'dataset', 'seed', 'config']},
        'versions': versions,
        'threads': job['threads'],
        'environment': describe_environment(),
        'seconds': time.time() - job['start'],
        'cpu_seconds': time.process_time(),
        'peak_bytes': peak_memory(),
        'folds': folds,
        'metrics': {'val': metrics},
        'value': metrics[METRICS[0]],
    }


def _describe(run: Run) -> Dict[str, Any]:
    return {
        **{name: run.metrics['val'][name] for name in METRICS},
        'best_epoch': run.metrics['best_epoch'],
        'epochs': len(run.history),
    }
