import json
import sys
from pathlib import Path

import pytest
import stub_cell

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / 'benchmarks'))

import run_all  # noqa: E402
from _reports import report  # noqa: E402

LABELS = ['A <1>', 'B', 'C']
SMALL = {'model.hidden_channels': 8, 'diffusion.hidden_channels': 8,
         'training.epochs': 2}


@pytest.fixture
def plan(tmp_path):
    r"""The file of a plan, and how it is run."""
    path = tmp_path / 'plan.json'
    path.write_text(json.dumps({
        'title': 'Three & more', 'datasets': ['fake'], 'seeds': 2,
        'compare_with': ['B', 'C'], 'notes': ['Know this.'], 'models': [
            {'base': 'strict', 'label': label, 'set': {**SMALL, 'model.k': k}}
            for k, label in enumerate(LABELS, start=1)
        ]}))
    out = tmp_path / 'out'

    def run(*options):
        return run_all.main(['--plan', str(path), '--out', str(out),
                             *options])

    run.file, run.out = path, out
    run.calls = lambda: (out / 'calls').read_text().split('\n')[:-1]
    return run


@pytest.fixture
def no_pictures(monkeypatch):
    r"""They take most of the time."""
    names = ['overview', 'cutoffs', 'cost', 'users', 'items',
             *(f'differences to {label}' for label in LABELS)]
    monkeypatch.setattr(report, 'draw_all',
                        lambda _: dict.fromkeys(names, (b'', '')))


@pytest.fixture
def stub(monkeypatch):
    r"""Replaces the processes of cells, and tells them what to do."""
    monkeypatch.setattr(run_all, 'run_cell', stub_cell.run_cell)
    return lambda **actions: monkeypatch.setenv('STUB', json.dumps(actions))
