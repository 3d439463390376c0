r"""Several processes make of a training what a single one does. They are
started once for all tests of this file, as each start takes seconds.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from fit_in_processes import MODELS, double_fit, facts, single_fits
from safetensors.torch import load_file
from small import files, small_data, small_fit

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints

TESTS = Path(__file__).parents[1]


def torchrun(*args, **kwargs):
    r"""Starts two processes, which must end within the time given."""
    path = [str(TESTS), str(TESTS.parent), os.environ.get('PYTHONPATH', '')]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(path),
           'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone',
         '--nproc-per-node', '2', *map(str, args)], env=env, text=True,
        capture_output=True, timeout=1200, **kwargs)


class Launch(NamedTuple):
    folder: Path
    result: subprocess.CompletedProcess
    facts: list
    ended: float

    def states(self, name):
        return [load_file(self.folder / f'{name}.{rank}.safetensors')
                for rank in range(2)]


@pytest.fixture(scope='module')
def launch(tmp_path_factory):
    folder = tmp_path_factory.mktemp('launch')
    torch.set_default_dtype(torch.double)
    double_fit(out=str(folder / 'one'), epochs=1)
    torch.set_default_dtype(torch.float)
    result = torchrun(TESTS / 'training' / 'fit_in_processes.py', folder)
    assert (folder / '1.json').exists(), result.stderr
    return Launch(folder, result, [
        json.loads((folder / f'{rank}.json').read_text())
        for rank in range(2)
    ], time.time())


def assert_close(states, expected):
    for state in states:
        assert state.keys() == expected.keys()
        for name, x in state.items():
            assert torch.allclose(x, expected[name], rtol=0, atol=1e-9), name


@pytest.mark.parametrize('name', MODELS)
def test_weights_of_a_single_process(launch, double, name):
    run = double_fit(name, epochs=1)
    expected = facts(run)
    for actual in launch.facts:
        assert actual[name]['metrics'] == expected['metrics']
        for row, values in zip(actual[name]['history'], expected['history'],
                               strict=True):
            assert row == pytest.approx(values, rel=1e-9)
    states = launch.states(name)
    assert_close(states, run.state)
    # Processes never drift apart:
    assert all(x.equal(states[1][key]) for key, x in states[0].items())


def test_metrics_in_single_precision(launch):
    for name, run in single_fits().items():
        for actual in launch.facts:
            assert actual[name]['metrics'] == facts(run)['metrics']


def test_only_the_first_one_writes(launch):
    assert launch.facts[1]['written'] == []
    assert len(files(launch.folder / 'one')) > 5
    assert launch.result.stdout == ''


def test_one_then_two(launch, double):
    assert_close(launch.states('resumed'), double_fit().state)
    assert len(load(str(launch.folder / 'one')).history) == 3


def test_two_stopped_by_a_signal_then_one(launch, double):
    out = str(launch.folder / 'two')
    # The step was finished, and not another one begun:
    position = Checkpoints(out).load().values['state']['position']
    assert position == [1, 1, 3]
    run = double_fit(out=out, resume=True)
    assert_close([run.state], double_fit().state)


def test_killed_process_ends_the_other_one(launch):
    assert launch.result.returncode != 0
    assert (f"Another process of this training has ended (its own message, "
            f"if any, tells why); go on by '--resume "
            f"{launch.folder / 'killed'}' from the last good checkpoint "
            f"(epoch 2, phase 1, batch 1)") in launch.result.stderr
    assert 'SIGKILL' in launch.result.stderr
    began = (launch.folder / '1.json').stat().st_mtime
    assert launch.ended - began < 60


def test_command_line(tmp_path):
    args = ['train', '--epochs', 1, '--hidden-channels', 4, '--top-k', 3,
            '--diffusion-hidden-channels', 8, '--device', 'cpu', '--out',
            'run']
    result = torchrun('-m', 'diffmm_pyg', *args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout)
    assert metrics['best_epoch'] == 1
    assert result.stderr.count('epoch 1: ') == 1
    assert result.stderr.endswith("The run is in 'run'\n")
    run = load(str(tmp_path / 'run'))
    assert run.config['training']['epochs'] == 1


def test_one_gpu_for_two(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    for name, value in [('LOCAL_RANK', 0), ('RANK', 0), ('WORLD_SIZE', 2),
                        ('LOCAL_WORLD_SIZE', 2)]:
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match="only 1 GPUs, on this machine; "
                       "lower '--nproc-per-node'"):
        small_fit(small_data(), device=None)
    with pytest.raises(ConfigError, match="takes a GPU of its own; give "
                       "'cuda' as 'device' .got 'cuda:1'"):
        small_fit(small_data(), device='cuda:1')
