r"""Runs one cell, in a process of its own: reads what to do from standard
input, and adds a line to the results.
"""
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import torch

from _experiments.datasets import load_dataset
from _experiments.graphs import describe_graphs
from _experiments.models import build
from _experiments.ranks import DEPTH, rank_positives
from _experiments.store import Row, Store, save_tensors
from _measure import describe_machine, peak_memory
from diffmm_pyg.runs import Run
from diffmm_pyg.training import fit
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

KS = [5, 10, 20, DEPTH]
Job = Dict[str, Any]


def main() -> None:
    job = read_job()
    store = Store(Path(job['out']))
    data = load_dataset(job['dataset'], job['folder'],
                        job['config']['modalities'])
    run = train(job, data)
    save_tensors(store.ranks_of(job['key']), {'rank': rank_positives(run)})
    store.append({**job['record'], **describe(job, run)})


def read_job() -> Job:
    r"""Reads what to do, and makes this process end with the runner."""
    job = json.loads(sys.stdin.readline())
    # Nobody is to read the results if there is no runner any more:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    torch.set_num_threads(job['threads'])
    return job


def _end_with_parent() -> None:
    sys.stdin.read()  # Returns when the other end is closed.
    os._exit(1)


def train(job: Job, data: List[HeteroData]) -> Run:
    r"""Trains a model by the protocol that never looks at the test split to
    choose anything; it is watched if it is among :obj:`data`.
    """
    seed_everything(job['seed'])
    model = build(job['config'], data[0])
    return fit(model, data, seed=job['seed'], protocol='strict',
               watch_test=True, progress=False, **job['config']['training'])


def describe(job: Job, run: Run) -> Row:
    r"""Returns what is to be known of a finished cell."""
    origin = run.config['origin']
    machine = describe_machine(origin['device'])
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return {
        'key': job['key'],
        'label': job['label'],
        'dataset': job['dataset'],
        'seed': job['seed'],
        'config': job['config'],
        'data_hash': run.config['data']['hash'],
        'versions': run.config['versions'],
        'machine': {
            **{k: machine[k] for k in ['cpu', 'cores', 'gpu', 'device',
                                       'threads', 'load_average']
               if k in machine},
            'memory_bytes': memory,
            'sparse_backend': origin['sparse_backend'],
        },
        'seconds': time.time() - job['start'],
        'cpu_seconds': time.process_time(),
        'training_seconds': sum(row['seconds'] for row in run.history),
        'peak_bytes': peak_memory(),
        'parameters': sum(x.numel() for x in run.state.values()),
        'best_epoch': run.metrics['best_epoch'],
        'metrics': run.evaluate([k for k in KS if k <= run.num_items]),
        'cold_users': run.metrics['cold_users'],
        'graphs': describe_graphs(run),
        'history': run.history,
    }


if __name__ == '__main__':
    main()
