r"""The campaign against trainings in short, and that it would find faults. It
forks, which only works where PyTorch has no threads yet:
`test_campaigns.py` runs these tests in a process of their own.
"""
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

import diffmm_pyg  # noqa: E402
import faults  # noqa: E402
from _damage.victim import Victim  # noqa: E402
from diffmm_pyg.training import keeper  # noqa: E402
from diffmm_pyg.utils import interrupt  # noqa: E402


@pytest.fixture(autouse=True)
def single_thread(monkeypatch):
    monkeypatch.setattr('diffmm_pyg.runs.save.plot_curves', lambda *_: None)
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def test_nothing_is_lost(tmp_path, capsys):
    path = tmp_path / 'faults.json'
    code = faults.main(['--kills', '3', '--every', '29', '--epochs', '2',
                        '--json', str(path)])
    assert code == 0
    rows = json.loads(path.read_text())['faults']
    assert [row['finished'] for row in rows][:2] == [3, 3]
    assert rows[0]['times'] >= 3 and rows[1]['times'] >= 3
    assert rows[2]['times'] >= 1
    for row in rows:
        assert row['lost_epochs'] == 0 and row['stray_files'] == []
        assert row['identical'] == row['finished'] >= 1
        assert row['disorderly'] == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '| fault | times tried | result |' and len(lines) == 5


def test_lost_epochs_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper.Keeper, 'keep', lambda self: None)
    victim = Victim(tmp_path / 'victim', 3)
    # Fails in the end, where there is no checkpoint to finish with.
    with pytest.raises(RuntimeError, match='A training failed'):
        victim.wait(victim.start())
    assert victim.lost_epochs() == 2


def sigterm(victim):
    r"""Returns what is said of a training that sent itself SIGTERM."""
    attempt = faults.look_at(victim, victim.start(), None)
    assert attempt.killed
    row = faults.summarize('SIGTERM', [attempt])
    return row['disorderly'], row['passed']


def before(place, name):
    r"""Returns how to let SIGTERM arrive before a call."""
    old = getattr(place, name)

    def call(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return old(*args, **kwargs)

    return place, name, call


def test_sigterm_that_is_not_handled_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(*before(keeper.Keeper, 'keep_if_due'))
    assert sigterm(Victim(tmp_path / 'handled', 2)) == (0, True)
    with monkeypatch.context() as patch:
        patch.setattr(keeper.Keeper, 'keep', lambda self: None)
        assert sigterm(Victim(tmp_path / 'unsaved', 2)) == (1, False)
    monkeypatch.setattr(interrupt, '_set_handlers', lambda handler: {})
    assert sigterm(Victim(tmp_path / 'ignored', 2)) == (1, False)


@pytest.mark.parametrize('place', [(diffmm_pyg, 'build_model'),
                                   (os, '_exit')])
def test_sigterm_before_and_after_the_training(tmp_path, monkeypatch, place):
    victim = Victim(tmp_path / 'victim', 2)
    monkeypatch.setattr(*before(*place))
    assert sigterm(victim) == (0, True)


def test_temporary_files_are_found(tmp_path, monkeypatch):
    tempfile.gettempdir()  # Is looked up once.
    fit = diffmm_pyg.fit

    def careless(*args, **kwargs):
        tempfile.mkstemp(prefix='left')
        return fit(*args, **kwargs)

    monkeypatch.setattr(diffmm_pyg, 'fit', careless)
    victim = Victim(tmp_path / 'victim', 1)
    assert victim.wait(victim.start()) == 0
    name, = victim.stray_files()
    assert name.startswith('left')


def test_differences_are_found(tmp_path, monkeypatch):
    def killed_within(epoch):
        victim = Victim(tmp_path / f'victim-{epoch}', 2)
        assert victim.wait(victim.start(operation=epoch)) == -signal.SIGKILL
        assert victim.wait(victim.start()) == 0
        return victim

    expected = killed_within(1).result()
    restore = keeper.TrainingState.restore

    def forgetful(self, values, tensors):
        restore(self, values, {k: v for k, v in tensors.items()
                               if not k.startswith('optimizer')})

    monkeypatch.setattr(keeper.TrainingState, 'restore', forgetful)
    victim = killed_within(16)
    assert victim.result() != expected
    (victim.folder / 'left.tmp').write_text('')
    assert victim.stray_files() == ['left.tmp']
