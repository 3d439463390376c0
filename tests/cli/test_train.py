import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import assert_same_run, files, printed, small_fit

import diffmm_pyg
from diffmm_pyg.cli import train as cli_train
from diffmm_pyg.cli.data import default_root, load_data
from diffmm_pyg.datasets import FakeMultiModalRec, hetero_data_from_folder
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.errors import RunError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.presets import load_preset
from diffmm_pyg.runs import describe_model, load
from diffmm_pyg.training import fit
from diffmm_pyg.utils.hyper_parameters import hyper_parameters
from diffmm_pyg.utils.processes import Processes
from torch_geometric import seed_everything


def start(*args, cwd, before='pass'):
    path = str(Path(diffmm_pyg.__file__).parents[1])
    code = f'{before}; from diffmm_pyg.cli import main; exit(main())'
    return subprocess.run([sys.executable, '-c', code, *args],
                          capture_output=True, text=True, cwd=cwd,
                          env={**os.environ, 'PYTHONPATH': path})


def test_default_job(cwd):
    # As a user starts it, but smaller.
    child = start('train', '--epochs', '2', '--diffusion-hidden-channels',
                  '32', cwd=cwd)
    assert child.returncode == 0, child.stderr
    (folder, ) = (cwd / 'runs').iterdir()
    assert folder.name.startswith('fake-strict-20')
    assert f"The run is in '{Path('runs') / folder.name}'" in child.stderr
    # Where there is no terminal for a progress bar, there are lines:
    for text in ['epoch 1: diffusion/loss ', 'epoch 2: ', 'val/recall@20 ']:
        assert text in child.stderr
    assert 'Traceback' not in child.stderr and 'arning' not in child.stderr
    assert (folder / 'curves.png').exists()
    metrics = json.loads(child.stdout)
    kept = json.loads((folder / 'metrics.json').read_text())
    assert metrics == printed(kept) != kept
    # 20 of 1000 items at random would give 0.02:
    assert metrics['test']['recall@20'] > 0.1
    assert list(load(str(folder)).config['data']['channels']) == [
        'image', 'text', 'audio'
    ]


def test_processes_share_a_default_folder(cli, cwd, monkeypatch):
    class Second(Processes):
        @classmethod
        def launched(cls):
            return cls(1, 2)

        def wait(self):
            pass

        def from_first(self, value):
            assert value.startswith('runs/fake-strict-')
            return 'that of the first'

    def fit(*args, out, **kwargs):
        raise RunError(f"'{out}' it is")

    monkeypatch.setattr(cli_train, 'Processes', Second)
    monkeypatch.setattr(cli_train, 'fit', functools.wraps(
        cli_train.fit)(fit))
    result = cli('train')
    assert "'that of the first' it is" in result.err


def test_error_in_a_process(cwd):
    child = start('evaluate', 'nowhere', cwd=cwd)
    assert child.returncode == 1 and child.stdout == ''
    assert child.stderr == ("error: 'nowhere' is not a run: 'config.json' is "
                            "missing; name a folder that 'train' wrote\n")


def test_train_is_fit(cli, folder):
    result = cli('train', '--data', folder, '--out', 'run', '--epochs', 3,
                 '--seed', 4, '--diffusion-hidden-channels', 16,
                 '--hidden-channels', 16)
    assert result.code == 0
    run = load('run')
    assert json.loads(result.out) == printed(run.metrics)
    data = hetero_data_from_folder(str(folder))
    seed_everything(4)
    config = load_preset('strict')
    diffusion = GraphDiffusion(10, ['image', 'text'],
                               **{**config['diffusion'],
                                  'hidden_channels': 16})
    model = DiffMM(20, 10, {'image': 4, 'text': 4}, diffusion,
                   **{**config['model'], 'hidden_channels': 16})
    expected = small_fit(data, model, batch_size=1024, top_k=3, seed=4)
    assert_same_run(run, expected)


def test_same_command_same_run(cli, folder):
    for name in ['a', 'b']:
        assert cli('train', '--data', folder, '--out', name).code == 0
    assert_same_run(load('a'), load('b'))
    assert cli('train', '--data', folder, '--out', 'c', '--seed', 1).code == 0
    assert not load('c').user_emb.equal(load('a').user_emb)


def test_only_out_and_root_are_written_to(cli, cwd, source, tmp_path,
                                          monkeypatch):
    before = files(tmp_path)
    result = cli('train', '--data', 'tiktok', '--source', source, '--root',
                 'root', '--out', Path('deep') / 'run')
    assert result.code == 0
    after = files(tmp_path)
    assert {k: after[k] for k in before} == before
    new = {Path(k).relative_to('cwd').parts[0] for k in after.keys() - before}
    assert new == {'root', 'deep'}
    assert sorted(os.listdir('deep')) == ['run']
    assert list(load('deep/run').config['data']['channels']) == [
        'image', 'text', 'audio'
    ]

    # The same by the environment, and with some of the modalities:
    monkeypatch.setenv('DIFFMM_DATA', str(source / 'tiktok'))
    assert cli('train', '--data', 'tiktok', '--root', 'root', '--out', 'other',
               '--modalities', 'audio', 'image').code == 0
    assert list(load('other').config['data']['channels']) == [
        'audio', 'image'
    ]


def test_default_root(tmp_path, monkeypatch):
    root = Path(default_root())
    assert root.name == 'datasets' and root.is_dir()
    # Where the package is installed, and not in its checkout:
    module = tmp_path / 'site' / 'diffmm_pyg' / 'cli' / 'data.py'
    monkeypatch.setattr('diffmm_pyg.cli.data.__file__', str(module))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    assert default_root() == str(tmp_path / 'cache' / 'diffmm_pyg')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert default_root() == str(tmp_path / '.cache' / 'diffmm_pyg')


def test_lines_come_once(cwd):
    # Whatever other packages set up, as PyG's loaders do.
    result = start('train', '--epochs', '1', '--hidden-channels', '4',
                   '--diffusion-hidden-channels', '8', '--out', 'run',
                   cwd=cwd, before='import logging; logging.debug("PyG")')
    assert result.returncode == 0, result.stderr
    assert result.stderr.count('epoch 1: ') == 1


def test_modalities_of_the_embedded_data(cli):
    result = cli('train', '--modalities', 'audio', '--out', 'run')
    assert result.code == 0
    assert load('run').config['data']['channels'] == {'audio': 32}


NO_OPTIONS = ['progress', 'resume', 'origin']  # Those that only Python sets.
VALUES = {  # Where any other value would not do.
    'training': {'device': 'cpu', 'out': 'run', 'top_k': 9},
    'model': {'edge_dropout': 0.25, 'conv': 'SAGEConv',
              'conv_kwargs': {'aggr': 'max'}, 'denoised_conv': 'GATConv',
              'denoised_conv_kwargs': {'heads': 2},
              'num_neighbors': [-1, *range(1, 9)]},  # As 'num_layers' is 7.
    'diffusion': {'time_channels': 6, 'sampler': 'softmax',
                  'corruption': 'noise',  # The preset's is another.
                  'likelihood': 'multinomial', 'first_beta': 1e-3},
}


def other_values(fn, group):
    r"""A value that is not the default one, for every hyper-parameter."""
    out = {}
    for name, option in hyper_parameters(fn).items():
        if option.type is bool:
            value = not option.default
        elif option.choices:
            value = next(v for v in option.choices if v != option.default)
        else:
            value = (option.default or 1) / 2 if option.type is float else 7
        out[name] = VALUES[group].get(name, value)
        assert out[name] != option.default or name == 'corruption'
    return out


def to_args(values, prefix=''):
    for name, value in values.items():
        flag = f'{prefix}{name}'.replace('_', '-')
        if isinstance(value, bool):
            yield f'--{flag}' if value else f'--no-{flag}'
        else:
            if isinstance(value, dict):
                value = json.dumps(value)
            elif isinstance(value, list):
                value = ','.join(map(str, value))
            yield f'--{flag}={value}'


@pytest.fixture
def fitted(monkeypatch):
    r"""What the command line passes to :meth:`fit`."""
    calls = []

    @functools.wraps(fit)  # Options are made from its signature.
    def patched(model, data, **kwargs):
        assert kwargs['origin'].keys() == {
            'data', 'root', 'source', 'modalities', 'preset', 'command'}
        calls.append((model, {k: v for k, v in kwargs.items()
                              if k != 'origin'}))
        raise ValueError('stop')

    monkeypatch.setattr('diffmm_pyg.cli.train.fit', patched)
    return calls


def test_every_hyper_parameter_arrives(cli, fitted):
    training = other_values(fit, 'training')
    for name in NO_OPTIONS:
        training.pop(name)
    model = other_values(DiffMM, 'model')
    diffusion = other_values(GraphDiffusion, 'diffusion')
    cli('train', *to_args(training), *to_args(model),
        *to_args(diffusion, 'diffusion_'))
    (built, kwargs), = fitted
    assert kwargs == training
    config = describe_model(built)
    assert config['model'] == model
    assert config['diffusion'] == diffusion


@pytest.mark.parametrize('preset', ['strict', 'reference'])
def test_presets_arrive(cli, fitted, preset):
    cli('train', '--preset', preset, '--lr', '0.5', '--no-dropout-at-test')
    (built, kwargs), = fitted
    expected = load_preset(preset)
    assert kwargs == {
        **expected['training'], 'epochs': 1, 'top_k': 3, 'device': 'cpu',
        'lr': 0.5, 'out': kwargs['out']
    }
    assert f'fake-{preset}-' in kwargs['out']
    config = describe_model(built)
    assert config['model'].items() >= {
        **expected['model'], 'hidden_channels': 4, 'dropout_at_test': False
    }.items()
    assert config['diffusion'].items() >= {
        **expected['diffusion'], 'hidden_channels': 8
    }.items()


def test_hyper_parameters_are_in_the_run(cli, folder):
    result = cli('train', '--data', folder, '--out', 'run', '--preset',
                 'reference', '--no-dropout-at-test', '--normalize-msi',
                 '--diffusion-first-beta', 'none', '--reg-weight', '1e-3',
                 '--batch-size', '17', '--diffusion-normalize', '--protocol',
                 'paper')
    assert result.code == 0
    config = load('run').config
    assert config['training']['batch_size'] == 17
    assert config['training']['protocol'] == 'paper'
    assert config['model']['dropout_at_test'] is False
    assert config['model']['normalize_msi'] is True
    assert config['model']['reg_weight'] == 1e-3
    assert config['diffusion']['first_beta'] is None
    assert config['diffusion']['normalize'] is True
    assert config['model']['edge_dropout'] == 0.5  # Of the preset


def test_help_names_every_option(cli):
    result = cli('train', '--help')
    assert result.code == 0
    names = [*hyper_parameters(fit), *hyper_parameters(DiffMM),
             *(f'diffusion_{n}' for n in hyper_parameters(GraphDiffusion))]
    for name in NO_OPTIONS:
        names.remove(name)
    for name in [*names, 'data', 'root', 'source', 'modalities', 'preset']:
        assert f"--{name.replace('_', '-')}" in result.out
    assert ':obj:' not in result.out and ':class:' not in result.out


def test_the_embedded_data_is_that_of_python():
    for a, b in zip(load_data('fake'), FakeMultiModalRec(), strict=True):
        assert a['item'].x_image.equal(b['item'].x_image)
