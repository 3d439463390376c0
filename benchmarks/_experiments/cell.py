r"""Runs one cell, in a process of its own, and adds a line to the results."""
import os
import shutil
import time
from pathlib import Path

from _checkout import git_revision
from _experiments.datasets import load_dataset
from _experiments.graphs import describe_graphs
from _experiments.processes import Job
from _experiments.ranks import KS, rank_positives
from _experiments.store import Row, Store, save_tensors
from _experiments.training import train
from _measure import describe_machine, peak_memory
from diffmm_pyg.runs import Run

REVISION = git_revision()  # That of what is imported here.


def run_cell(job: Job) -> None:
    r"""Trains a model on a dataset with a seed."""
    store = Store(Path(job['out']))
    data = load_dataset(job['dataset'], job['folder'],
                        job['config']['modalities'])
    folder = store.training_of(job['key'])
    run, seconds = train(job, data, folder / str(REVISION))
    save_tensors(store.ranks_of(job['key']), {'rank': rank_positives(run)})
    store.append({**job['record'], **describe(job, run), 'git': REVISION,
                  'training_seconds': seconds})
    shutil.rmtree(folder)


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
                                       'threads', 'load_average',
                                       'environment']
               if k in machine},
            'memory_bytes': memory,
            'sparse_backend': origin['sparse_backend'],
        },
        'seconds': time.time() - job['start'],
        'cpu_seconds': time.process_time(),
        'peak_bytes': peak_memory(),
        'parameters': sum(x.numel() for x in run.state.values()),
        'best_epoch': run.metrics['best_epoch'],
        'metrics': run.evaluate([k for k in KS if k <= run.num_items]),
        'cold_users': run.metrics['cold_users'],
        'graphs': describe_graphs(run),
        'history': run.history,
    }
