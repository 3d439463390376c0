r"""Cells that really train, which takes most of the time of these tests."""
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

import run_all  # noqa: E402
from _experiments.store import Store, load_arrays  # noqa: E402
from _experiments.training import train  # noqa: E402


def test_a_real_cell(plan, no_pictures, tmp_path):
    assert plan('--only', 'C', '--seeds', '1') == 0
    row, = Store(plan.out).rows().values()
    assert list((plan.out / 'trainings').iterdir()) == []
    config = row['config']
    assert config['training']['epochs'] == 2 == len(row['history'])
    assert config['model']['k'] == 3 and config['model']['num_layers'] == 1
    assert list(row['metrics']) == ['val', 'test']
    assert 0 < row['metrics']['test']['recall@50'] <= 1
    assert row['peak_bytes'] > 2**20 and row['parameters'] > 700 * 8
    assert row['seconds'] > row['training_seconds'] > 0
    for graph in row['graphs'].values():
        assert graph['edges'] == 3 * 400 and graph['known'] == 0
        assert 3 <= graph['items'] <= 300 and 0 <= graph['overlap'] <= 1

    # The same training here gives the same numbers:
    data = run_all.load_dataset('fake', None, None)
    run, _ = train({'seed': 11, 'config': config}, data, tmp_path / 'again')
    assert run.metrics['test']['recall@20'] == pytest.approx(
        row['metrics']['test']['recall@20'])
    store = Store(plan.out)
    positives = load_arrays(store.positives_of(row['data_hash']))
    assert (positives['user'] == run.graphs['test'][0].numpy()).all()
    rank = load_arrays(store.ranks_of(row['key']))['rank']
    assert ((0 < rank) & (rank <= 20)).mean() == pytest.approx(
        row['metrics']['test']['recall@20'])  # One positive per user


def test_an_interrupted_cell_goes_on(plan, no_pictures):
    source = json.loads(plan.file.read_text())
    source['set'] = {'training.epochs': 150, 'training.patience': 150}
    for model in source['models']:
        del model['set']['training.epochs']
    plan.file.write_text(json.dumps(source))
    options = ['--plan', str(plan.file), '--only', 'A <1>', '--seeds', '1']

    assert run_all.main([*options, '--out', str(plan.out / 'whole')]) == 0
    whole, = Store(plan.out / 'whole').rows().values()
    runner = subprocess.Popen(
        [sys.executable, str(BENCHMARKS / 'run_all.py'), *options, '--out',
         str(plan.out / 'parts')])
    log = Store(plan.out / 'parts').log_of(whole['key'])
    while not (log.exists() and 'epoch 20: ' in log.read_text()):
        assert runner.poll() is None
        time.sleep(0.05)
    runner.send_signal(signal.SIGTERM)
    assert runner.wait() == 130
    assert Store(plan.out / 'parts').rows() == {}

    assert run_all.main([*options, '--out', str(plan.out / 'parts')]) == 0
    epochs = [int(line.split()[1][:-1]) for line in log.read_text(
    ).splitlines() if line.startswith('epoch ')]
    assert 20 < epochs[0] < 150 == epochs[-1]
    row, = Store(plan.out / 'parts').rows().values()
    assert row['metrics'] == whole['metrics']
    assert [x['val/recall@20'] for x in row['history']] == [
        x['val/recall@20'] for x in whole['history']]
