r"""Stands for the process of a trial in the tests of the search: its value
only depends on what is tried, and it does what the variable `STUB` says.
"""
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path


def run_trial(job):
    record, out = job['record'], Path(job['out'])
    name = f"{record['model']}-{record['trial']}"
    if 'final' in record:
        name += f"-{job['seed']}"
    with open(out / 'calls', 'a') as f:
        f.write(f'{name}\n')
    action = json.loads(os.environ.get('STUB', '{}')).get(name)
    if action == 'fail':
        sys.exit('Traceback\nRuntimeError: the reason')
    if action == 'sleep':
        (out / 'trainings' / job['key']).mkdir(parents=True)
        time.sleep(60)
    if action == 'interrupt':
        os.kill(multiprocessing.parent_process().pid, signal.SIGTERM)
        time.sleep(60)

    reg = job['config']['model'].get('reg', job['config']['training']['lr'])
    if 'final' in record:  # What was best with another seed is not with these.
        reg = (job['seed'] - 1000) / 1000 / reg
    values = [0.1 / (1 + reg) + 0.01 * i for i in range(job['folds'])]
    row = {
        **record,
        **{k: job[k] for k in ['key', 'label', 'dataset', 'seed', 'config']},
        'versions': {'diffmm_pyg': '0'},
        'seconds': 1.,
        'folds': [{'recall@20': value} for value in values],
        'metrics': {'val': {'recall@20': values[0]}},
        'value': sum(values) / len(values),
    }
    with open(out / 'trials.jsonl', 'a') as f:
        f.write(json.dumps(row) + '\n')
