import csv
import errno
import json
import logging
import os
import shutil
import sys

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import assert_same_run, files, small_data, small_fit, small_model

from diffmm_pyg.data import data_hash
from diffmm_pyg.errors import MissingExtraError, RunError
from diffmm_pyg.runs import check_out, load, save_run

NAMES = [
    'config.json', 'curves.png', 'embeddings.safetensors',
    'graphs.safetensors', 'history.csv', 'ids.json', 'metrics.json',
    'model.safetensors'
]
NEEDED = [name for name in NAMES if name != 'curves.png']


@pytest.fixture(scope='module')
def run():
    return small_fit(small_data(), epochs=2)


@pytest.fixture(scope='module')
def saved(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp('saved') / 'run'
    save_run(run, str(folder))
    return folder


def test_contents(run, saved):
    assert sorted(os.listdir(saved)) == NAMES
    config = json.loads((saved / 'config.json').read_text())
    assert config['class'] == 'DiffMM'
    assert config['data'] == {
        'num_users': 60, 'num_items': 40,
        'channels': {'image': 6, 'text': 4},
        'hash': data_hash(small_data()[0], {
            name: run.graphs[name] for name in ['val', 'test']})
    }
    assert config['versions']['torch'] == torch.__version__
    metrics = json.loads((saved / 'metrics.json').read_text())
    assert metrics == run.metrics
    assert metrics.keys() >= {'val', 'test', 'best_epoch', 'protocol'}
    assert list(metrics['test']) == ['recall@5', 'ndcg@5', 'precision@5']
    with open(saved / 'history.csv', newline='') as f:
        rows = list(csv.DictReader(f))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == (
        run.history)
    assert (saved / 'curves.png').read_bytes().startswith(b'\x89PNG')
    graphs = safetensors.torch.load_file(saved / 'graphs.safetensors')
    assert sorted(graphs) == [
        'denoised_image.edge_index', 'denoised_image.edge_weight',
        'denoised_text.edge_index', 'denoised_text.edge_weight',
        'edge_dropout_key', 'observed', 'test', 'val'
    ]


def test_model_can_be_built_again(run, saved):
    state = safetensors.torch.load_file(saved / 'model.safetensors')
    model = small_model(small_data(), seed=5)
    model.load_state_dict(state)
    for name, value in model.state_dict().items():
        assert value.equal(run.state[name])


def test_without_matplotlib(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with caplog.at_level(logging.WARNING, 'diffmm_pyg'):
        save_run(run, str(tmp_path / 'run'))
    assert 'curves.png was not drawn' in caplog.text
    assert "diffmm_pyg[plots]" in caplog.text
    assert sorted(os.listdir(tmp_path / 'run')) == NEEDED
    assert_same_run(load(str(tmp_path / 'run')), run)


def test_without_safetensors(tmp_path, saved, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    for call in [lambda: check_out(str(tmp_path / 'x')),
                 lambda: load(str(saved))]:
        with pytest.raises(MissingExtraError, match=r'diffmm_pyg\[train\]'):
            call()


def test_overwrite(run, tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()  # An empty folder may be used.
    save_run(run, str(folder))
    (folder / 'left.txt').write_text('')
    before = files(tmp_path)
    with pytest.raises(RunError, match="already holds a run; .*'--overwrite'"):
        save_run(run, str(folder))
    assert files(tmp_path) == before
    other = small_fit(small_data(), epochs=1)
    save_run(other, str(folder), overwrite=True)
    assert_same_run(load(str(folder)), other)
    # What else is there stays.
    assert sorted(files(tmp_path)) == sorted(
        f'run/{name}' for name in [*NAMES, 'left.txt'])


@pytest.mark.parametrize('overwrite', [False, True])
def test_what_is_no_run_is_never_replaced(run, tmp_path, overwrite):
    (tmp_path / 'file').write_text('1')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'thesis.tex').write_text('2')
    before = files(tmp_path)
    for name, message in [('file', 'is a file; name a folder'),
                          ('folder', 'is not empty and holds no run'),
                          ('file/run', "file' is no folder that can")]:
        with pytest.raises(RunError, match=message):
            save_run(run, str(tmp_path / name), overwrite)
    assert files(tmp_path) == before


@pytest.mark.parametrize('call', [1, 2, 3])
@pytest.mark.parametrize('error, expected', [
    (OSError(errno.ENOSPC, 'No space left on device'), RunError),
    (KeyboardInterrupt(), KeyboardInterrupt),
])
def test_interrupted_save(run, saved, tmp_path, monkeypatch, call, error,
                          expected):
    shutil.copytree(saved, tmp_path / 'run')
    before = files(tmp_path)
    save_file, calls = safetensors.torch.save_file, []

    def failing(tensors, path):
        calls.append(path)
        if len(calls) == call:
            with open(path, 'wb') as f:
                f.write(b'half')
            raise error
        save_file(tensors, path)

    monkeypatch.setattr(safetensors.torch, 'save_file', failing)
    for name in ['run', 'new']:
        calls.clear()
        with pytest.raises(expected) as info:
            save_run(run, str(tmp_path / name), overwrite=True)
        if expected is RunError:
            assert 'No space left on device' in str(info.value)
            assert len(str(info.value).splitlines()) == 1
        # No half-written folder, and the old run is as it was:
        assert os.listdir(tmp_path) == ['run']
        assert files(tmp_path) == before


def test_no_run(tmp_path):
    for name in ['nowhere', '.']:
        with pytest.raises(RunError, match="is not a run: 'config.json' is "
                           "missing; name a folder that 'train' wrote"):
            load(str(tmp_path / name))


@pytest.fixture
def damaged(saved, tmp_path):
    r"""Loads the run after one of its files got another content."""
    def fn(name, content):
        folder = tmp_path / 'run'
        folder.mkdir(exist_ok=True)
        for needed in NEEDED:
            (folder / needed).write_bytes((saved / needed).read_bytes())
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        return load(str(folder))

    return fn


@pytest.mark.parametrize('name', NEEDED)
def test_missing_and_empty_files(damaged, name):
    with pytest.raises(RunError, match=f"'{name}' is missing"):
        damaged(name, None)
    if name != 'history.csv':  # Nothing depends on it.
        with pytest.raises(RunError, match=f"{name}' is damaged .*; train"):
            damaged(name, b'')


@pytest.mark.parametrize('name', NEEDED)
@given(data=st.data())
def test_damaged_files(saved, damaged, name, data):
    content = bytearray((saved / name).read_bytes())
    pos = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[pos:]
    else:
        # In a file of tensors, the first bytes are what matters:
        pos = pos % data.draw(st.sampled_from([16, 1024, len(content)]))
        content[pos % len(content)] = data.draw(st.integers(0, 255))
    try:
        damaged(name, bytes(content))
    except RunError as e:
        assert name in str(e) or 'holds' in str(e) or 'format' in str(e)
        assert len(str(e).splitlines()) == 1
        assert 'train' in str(e) or 'reads format 1' in str(e)


@pytest.mark.parametrize('name', ['config.json', 'metrics.json', 'ids.json'])
@pytest.mark.parametrize('content', [
    b'[]', b'1', b'nul', b'\xff\xfe{}', b'[' * 100_000, b'{"a": ' * 100_000
])
def test_json_that_is_no_object(damaged, name, content):
    with pytest.raises(RunError, match=f"{name}' is damaged"):
        damaged(name, content)


def test_other_format(damaged):
    with pytest.raises(RunError, match='is not of format 1, which this '
                       'version of diffmm_pyg reads'):
        damaged('config.json', b'{"format": 2}')


@pytest.mark.parametrize('change, message', [
    (dict(observed=None), "no valid edges 'observed'"),
    (dict(observed=torch.tensor([[0], [40]])), "no valid edges 'observed'"),
    (dict(val=torch.tensor([[-1], [0]])), "no valid edges 'val'"),
    (dict(test=torch.tensor([[60], [0]])), "no valid edges 'test'"),
    (dict(test=torch.tensor([1])), "no valid edges 'test'"),
])
def test_edges_out_of_range(run, damaged, change, message):
    graphs = {k: v for k, v in {**run.graphs, **change}.items()
              if v is not None}
    with pytest.raises(RunError, match=message):
        damaged('graphs.safetensors', safetensors.torch.save(graphs))


def test_ids_that_do_not_fit(damaged):
    for ids in [{}, {'user': [1], 'item': list(range(40))}]:
        with pytest.raises(RunError, match='not one id for each of 60 users'):
            damaged('ids.json', json.dumps(ids).encode())
