import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

import scale  # noqa: E402
from _timing import scale_runs  # noqa: E402
from _timing.fast_loop import PHASES  # noqa: E402
from _timing.scale_report import fit_exponents, print_row  # noqa: E402

TINY = ['--hidden-channels', '6', '--batch-size', '32', '--threads', '1']


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))  # Of child processes.
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def test_sizes_are_measured_once(tmp_path, monkeypatch, capsys):
    out, plot = tmp_path / 'scale.jsonl', tmp_path / 'scale.png'
    argv = [*TINY, '--items', '40', '--steps', '1', '--out', str(out)]
    row, = scale.main([*argv, '--users', '60'])
    assert [json.loads(line) for line in out.read_text().splitlines()] == [row]
    assert row['command'].startswith('python benchmarks/scale.py --')
    assert row['command'].endswith('--out scale.jsonl --users 60')
    assert row['items'] == 40 and row['hidden_channels'] == 6
    assert list(row['phases']) == PHASES
    assert all(p['seconds'] > 0 for p in row['phases'].values())
    assert row['peak_bytes'] > row['interpreter_bytes'] > 0
    assert row['phases']['ranking']['extrapolated']

    measured = []

    def run_size(argv, users, items):
        measured.append(users)
        return {'failed': 9} if users == 90 else {**row, 'users': users}

    monkeypatch.setattr(scale, 'run_size', run_size)
    argv += ['--users', '80', '60', '90', '--plot', str(plot)]
    assert [r['users'] for r in scale.main(argv)] == [60, 80, 90]
    assert [r['users'] for r in scale.main(argv)] == [60, 80, 90]
    assert measured == [80, 90, 90]  # What failed is tried again.
    assert len(out.read_text().splitlines()) == 2
    assert plot.stat().st_size > 0
    printed = capsys.readouterr().out
    assert 'failed with status 9' in printed and 'ranking ~' in printed
    assert 'grows as users^' in printed
    scale.main([*argv, '--hidden-channels', '7'])  # Another width is new.
    assert measured == [80, 90, 90, 60, 80, 90]


@pytest.mark.parametrize('options', [['--steps', '2'], ['--full-epoch']])
def test_what_is_extrapolated(options, monkeypatch):
    monkeypatch.setattr(scale_runs, 'ROW_BLOCK_SIZE', 16)
    monkeypatch.setattr(scale_runs, 'EVALUATION_BLOCK_SIZE', 16)
    args = scale.parse_args([*TINY, *options])
    row = scale_runs.measure_size(args, 120, 40)
    edges = row['edges']
    full = options == ['--full-epoch']
    assert row['extrapolated'] == (not full)
    expected = {
        'diffusion': (2 + 1, 4),  # The last, short batch is timed, too.
        'generation': (2, 8),
        'ranking': (2 + (edges % 32 > 0), -(-edges // 32)),
    }
    for phase, (timed, of) in expected.items():
        part = row['phases'][phase]
        assert (part['timed'], part['of']) == (of if full else timed, of)
        assert part['extrapolated'] == (not full)
        assert part['seconds'] > 0


def test_full_epoch_on_subgraphs(capsys):
    pytest.importorskip('torch_sparse')
    args = scale.parse_args([*TINY, '--full-epoch', '--num-neighbors', '3',
                             '2', '2', '--embedding-channels', '8'])
    row = scale_runs.measure_size(args, 200, 100)
    assert not row['extrapolated'] and row['set_up_bytes'] > 0
    found = row['phases']['evaluation']
    assert found['recall'] > 1.2 * found['popularity_recall'] > 0
    print_row({**row, 'users': 200, 'items': 100, 'hidden_channels': 6})
    assert f"Recall@20 {found['recall']:.4f} (most" in capsys.readouterr().out
    assert scale.settings(args)['num_neighbors'] == [3, 2, 2]


def test_missing_rows_of_a_linear_cost():
    first, several = 5 + 1 * 0.5, 5 + 8 * 0.5
    total = several + scale_runs._missing(first, several, 8, 100)
    assert total == pytest.approx(5 + 100 * 0.5)


def make_row(users, items):
    seconds = 1e-6 * users**1.5 * items**0.25
    part = {'seconds': seconds, 'extrapolated': False}
    return {
        'users': users, 'items': items, 'seconds': 4 * seconds,
        'phases': dict.fromkeys(PHASES, part),
        'interpreter_bytes': 300, 'peak_bytes': 300 + 8 * users,
    }


def test_exponents():
    rows = [make_row(u, i) for u in [10, 100, 1000] for i in [10, 50]]
    out = fit_exponents(rows)
    assert list(out) == [*PHASES, 'epoch', 'memory']
    assert out['ranking'] == pytest.approx({'users': 1.5, 'items': 0.25})
    assert out['epoch'] == pytest.approx({'users': 1.5, 'items': 0.25})
    assert out['memory'] == pytest.approx({'users': 1., 'items': 0.})

    out = fit_exponents([make_row(10, 50), make_row(40, 50)])
    assert out['ranking'] == pytest.approx({'users': 1.5})
    assert fit_exponents([make_row(10, 10), make_row(100, 100)]) == {}
