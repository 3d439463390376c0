r"""Stands for the process of a cell in the tests of the runner: takes no time,
and does what the variable `STUB` says.
"""
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file


def run_cell(job):
    out = Path(job['out'])
    name = f"{job['label']}-{job['seed']}"
    with open(out / 'calls', 'a') as f:
        f.write(f'{name}\n')
    behavior = json.loads(os.environ.get('STUB', '{}')).get(name)
    if behavior == 'fail':
        sys.exit('Traceback\nRuntimeError: the reason')
    if behavior == 'crash':
        os.kill(os.getpid(), signal.SIGKILL)
    if behavior == 'interrupt':
        os.kill(multiprocessing.parent_process().pid, signal.SIGTERM)
        time.sleep(60)
    if behavior == 'meet':  # Ends when another one has begun.
        while len((out / 'calls').read_text().splitlines()) < 2:
            time.sleep(0.01)

    positives = min((out / 'data').iterdir())  # Equal for all modalities
    rng = np.random.default_rng([job['seed'], *map(ord, job['label'])])
    rank = rng.integers(60, size=load_file(positives)['user'].size)
    rank = np.where(rank > 50, 0, rank).astype(np.uint8)
    save_file({'rank': rank}, out / 'cells' / f"{job['key']}.safetensors")
    metrics = {f'{m}@{k}': float((rank <= k).mean()) / 3
               for m in ['recall', 'ndcg', 'precision']
               for k in [5, 10, 20, 50]}
    row = {
        **job['record'],
        **{k: job[k] for k in ['key', 'label', 'dataset', 'seed', 'config']},
        'data_hash': positives.stem,
        'versions': {'diffmm_pyg': '0'},
        'machine': {'cpu': 'a CPU', 'cores': 2, 'memory_bytes': 2**30,
                    'threads': torch.get_num_threads()},
        'seconds': 1.,
        'training_seconds': 0.5 + len(name),
        'peak_bytes': 2**20,
        'parameters': 7,
        'best_epoch': 2,
        # The order on validation is not that on test:
        'metrics': {'val': {k: 1 - x for k, x in metrics.items()},
                    'test': metrics},
        'graphs': {},
        'history': [{'epoch': i + 1, 'seconds': 0.2, 'val/recall@20': 0.1 * i,
                     'test/recall@20': 0.2 * i, 'test/ndcg@20': 0.1 * i}
                    for i in range(2)],
    }
    with open(out / 'results.jsonl', 'a') as f:
        f.write(json.dumps(row) + '\n')
    if behavior == 'die':
        os.kill(os.getpid(), signal.SIGKILL)
