r"""The command line ends with the code of the signal that stopped it, and goes
on with `train --resume`.
"""
import json
import os
import shutil
import signal

import pytest
from small import assert_same_run, files, printed

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints

TRAIN = ['--epochs', 3, '--batch-size', 40, '--lr', '0.05', '--no-normalize-'
         'msi', '--diffusion-dropout', '0.4', '--seed', 3]


@pytest.fixture(autouse=True)
def handler():
    r"""Ctrl-C is ignored where tests run in the background."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.fixture
def stopped(cli, folder, monkeypatch):
    r"""Starts a training that a signal stops within a step."""
    def fn(signum=signal.SIGTERM, call=4):
        loss, calls = DiffMM.loss, []

        def killed(self, *args, **kwargs):
            calls.append(0)
            if len(calls) == call:
                os.kill(os.getpid(), signum)
            return loss(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(DiffMM, 'loss', killed)
            result = cli('train', '--data', folder, '--out', 'run', *TRAIN)
        assert len(calls) == call
        return result

    return fn


@pytest.mark.parametrize('signum, code', [(signal.SIGTERM, 143),
                                          (signal.SIGINT, 130)])
def test_stop_and_resume(cli, folder, stopped, signum, code):
    result = stopped(signum)
    assert result.code == code and result.out == ''
    name = signal.Signals(signum).name
    assert result.err.splitlines()[-1] == (
        f"error: interrupted by {name}; go on by '--resume run' from the last "
        f"good checkpoint (epoch 2, phase 2, batch 3)")
    for args in [['evaluate', 'run'], ['recommend', 'run']]:
        result = cli(*args)
        assert result.code == 1 and 'train --resume run' in result.err

    result = cli('train', '--resume', 'run')
    assert result.code == 0, result.err
    assert json.loads(result.out) == printed(load('run').metrics)
    assert cli('train', '--data', folder, '--out', 'straight',
               *TRAIN).code == 0
    assert_same_run(load('run'), load('straight'))
    configs = [load(name).config for name in ['run', 'straight']]
    for config in configs:
        config['origin'].pop('command')
    assert configs[0] == configs[1]


def test_finished(cli, stopped, cwd):
    stopped()
    assert cli('train', '--resume', 'run').code == 0
    before = files(cwd)
    result = cli('train', '--resume', 'run')
    assert result.code == 0
    assert 'has finished, after 3 epochs; it only goes on with' in result.err
    assert json.loads(result.out) == printed(load('run').metrics)
    assert files(cwd) == before
    assert cli('train', '--resume', 'run', '--epochs', 4).code == 0
    assert len(load('run').history) == 4


@pytest.mark.parametrize('args, message', [
    (['--lr', '0.1'], "'lr' of 0.05; go on with the same (got 0.1)"),
    (['--hidden-channels', '8'], "'hidden_channels' of 4"),
    (['--diffusion-dropout', '0.5'], "'dropout' of 0.4"),
    (['--preset', 'reference'], "'--preset' of 'strict'"),
    (['--out', 'other'], "goes on in its folder 'run'"),
    (['--data', 'fake'], 'data has 1000 users, but the model was made for 20'),
    (['--modalities', 'image'], "data has {'image': 4} feature channels, but"),
])
def test_what_must_not_change(cli, stopped, cwd, args, message):
    stopped()
    before = files(cwd)
    result = cli('train', '--resume', 'run', *args)
    assert result.code == 1 and message in result.err
    assert len(result.err.splitlines()) == 1
    assert files(cwd) == before


def test_changed_interactions(cli, folder, stopped):
    stopped()
    path = folder / 'interactions.csv'
    path.write_text(path.read_text() + '\nu0,i-1')
    result = cli('train', '--resume', 'run')
    assert result.code == 1
    assert 'The data is not what the training began with' in result.err


def test_data_that_moved(cli, folder, stopped):
    stopped()
    shutil.move(folder, 'elsewhere')
    result = cli('train', '--resume', 'run')
    assert result.code == 1 and 'no dataset and no folder' in result.err
    assert cli('train', '--resume', 'run', '--data', 'elsewhere').code == 0


@pytest.mark.parametrize('name', ['nowhere', 'file', 'empty'])
def test_no_training(cli, cwd, name):
    (cwd / 'file').write_text('')
    (cwd / 'empty').mkdir()
    result = cli('train', '--resume', name)
    assert result.code == 1 and len(result.err.splitlines()) == 1
    assert (f"'{name}' holds no training to go on with; name a folder that "
            f"'train' wrote") in result.err


def test_unfinished_folder_is_not_taken(cli, folder, stopped, cwd):
    stopped()
    before = files(cwd)
    result = cli('train', '--data', folder, '--out', 'run')
    assert result.code == 1
    assert ("'run' holds a training that has not finished; go on with it "
            "('--resume run'), or pass '--overwrite'") in result.err
    assert files(cwd) == before
    assert cli('train', '--data', folder, '--out', 'run',
               '--overwrite').code == 0


def test_stored_root_and_address(cli, cwd, source, monkeypatch):
    # Those of a run folder may be those of a stranger.
    args = ['--data', 'tiktok', '--root', 'root', '--source', source]
    assert cli('train', *args, '--out', 'run').code == 0
    assert cli('train', '--resume', 'run', '--epochs', 2).code == 0
    shutil.move('root', 'elsewhere')
    before = files(cwd)
    result = cli('train', '--resume', 'run', '--epochs', 3)
    assert result.code == 1 and files(cwd) == before
    assert ("'run' began with '--root' of 'root', which does not hold "
            "'tiktok' now; give '--root' anew") in result.err
    assert cli('train', '--resume', 'run', '--epochs', 3, '--root',
               'elsewhere').code == 0

    sources, config = [], Checkpoints('run').config()
    config['origin'].update(root='elsewhere', source='https://example.org/x')

    def load_data(data, root, source, modalities):
        sources.append((root, source))
        raise ConfigError('seen')

    monkeypatch.setattr(Checkpoints, 'config', lambda self: config)
    monkeypatch.setattr('diffmm_pyg.cli.train.load_data', load_data)
    for args in [[], ['--source', 'https://example.org/y']]:
        assert 'seen' in cli('train', '--resume', 'run', *args).err
    assert sources == [('elsewhere', None),
                       ('elsewhere', 'https://example.org/y')]


@pytest.mark.parametrize('change', [
    {'origin': 5}, {'origin': None}, {'origin': {'root': 5}}, {'class': []},
    {'origin': {'data': ['a']}}, {'training': []}, {'diffusion': 'x'},
], ids=str)
def test_descriptions_of_something_else(cli, folder, stopped, monkeypatch,
                                        change):
    stopped()
    config = {**Checkpoints('run').config(), **change}
    monkeypatch.setattr(Checkpoints, 'config', lambda self: config)
    result = cli('train', '--resume', 'run')
    assert result.code == 1 and result.err.splitlines() == [
        "error: 'run' describes no training that can go on; train anew"]
