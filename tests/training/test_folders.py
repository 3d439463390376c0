r"""Folders that hold more than one training writes: a run that is replaced,
checkpoints that stay, and files of others.
"""
import errno
import os
from signal import SIGTERM

import pytest
import torch
from small import (
    SHORT,
    assert_same_run,
    files,
    go_on,
    interrupt,
    small_fit,
    small_model,
    with_losses,
)

from diffmm_pyg.errors import RunError
from diffmm_pyg.runs import load
from diffmm_pyg.utils.interrupt import Interrupted

# A run that is replaced ######################################################


@pytest.mark.parametrize('position', [(0, 0, 0), (1, 0, 0)])
def test_old_run_is_told_from_its_successor(data, tmp_path, caplog, position):
    old = small_fit(data, out=str(tmp_path), **{**SHORT, 'epochs': 1})
    assert_same_run(load(str(tmp_path)), old)
    assert 'also holds' not in caplog.text
    with pytest.raises(Interrupted):
        small_fit(data, interrupt(small_model(data), position, SIGTERM),
                  seed=5, out=str(tmp_path), overwrite=True, **SHORT)
    assert_same_run(load(str(tmp_path)), old)
    assert (f"'{tmp_path}' also holds a training that has not finished; this "
            f"is the last run that was written there") in caplog.text
    caplog.clear()
    go_on(data, tmp_path, seed=5)
    assert load(str(tmp_path)).config['training']['seed'] == 5
    assert 'also holds' not in caplog.text


def test_old_run_is_told_from_the_first_step_on(data, tmp_path, caplog):
    def look(losses, key):
        load(str(tmp_path))
        said.append('also holds' in caplog.text)
        return losses

    small_fit(data, out=str(tmp_path), epochs=1)
    said = []
    small_fit(data, with_losses(small_model(data), look), epochs=1,
              out=str(tmp_path), overwrite=True)
    assert said[0] and len(said) > 1


@pytest.mark.parametrize('epochs', [1, 3])
def test_old_checkpoints_that_cannot_be_removed(data, tmp_path, caplog,
                                                monkeypatch, epochs):
    def remove(path):
        raise PermissionError(errno.EPERM, 'Operation not permitted', path)

    with monkeypatch.context() as patch:
        patch.setattr('os.remove', remove)
        run = small_fit(data, out=str(tmp_path), epochs=epochs)
    assert "cannot be removed (Operation not permitted)" in caplog.text
    assert len(list((tmp_path / 'checkpoints').glob('*.json'))) == epochs + 1
    caplog.clear()
    assert_same_run(load(str(tmp_path)), run)
    assert 'also holds' not in caplog.text  # It has finished.
    small_fit(data, out=str(tmp_path), epochs=epochs + 1, resume=True)
    assert len(list((tmp_path / 'checkpoints').glob('*.json'))) == 1


def test_run_outlives_a_successor_that_never_began(data, tmp_path):
    def fail(losses, key):
        raise torch.OutOfMemoryError('CUDA out of memory')

    run = small_fit(data, out=str(tmp_path), **{**SHORT, 'epochs': 1})
    with pytest.raises(RunError, match='Out of memory in batch 1'):
        small_fit(data, with_losses(small_model(data), fail), seed=5,
                  out=str(tmp_path), overwrite=True, **SHORT)
    assert_same_run(load(str(tmp_path)), run)


# Files of others ############################################################


@pytest.mark.parametrize('kwargs', [{'resume': True}, {'overwrite': True}],
                         ids=lambda kwargs: next(iter(kwargs)))
@pytest.mark.parametrize('names', [
    ['checkpoints/my_other_model.pt'],
    ['config.json', 'checkpoints/my_other_model.pt'],
    ['config.json', 'checkpoints/.ipynb_checkpoints/1.json'],
    ['config.json', 'checkpoints/checkpoint-1.json'],
    ['config.json', 'checkpoints/1000.json', 'checkpoints/best_model.pt'],
    ['config.json', 'checkpoints'],
    ['config.json', 'model.safetensors'],
], ids=str)
def test_folder_of_somebody_else(data, tmp_path, kwargs, names):
    for path in map(tmp_path.joinpath, names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('weeks of work')
    before = files(tmp_path)
    with pytest.raises(RunError, match='is not empty and holds no run'):
        small_fit(data, epochs=1, out=str(tmp_path), **kwargs)
    assert files(tmp_path) == before


def test_empty_folder_of_somebody_else(data, tmp_path):
    (tmp_path / 'train.py').write_text('')
    (tmp_path / 'checkpoints').mkdir()
    with pytest.raises(RunError, match='is not empty and holds no run'):
        small_fit(data, epochs=1, out=str(tmp_path), overwrite=True)
    (tmp_path / 'train.py').unlink()  # As a training that was killed early.
    small_fit(data, epochs=1, out=str(tmp_path), resume=True)


def test_what_comes_while_a_training_runs_stays(data, tmp_path):
    def come(losses, key):
        (tmp_path / 'checkpoints' / 'note.txt').write_text('mine')
        (tmp_path / 'checkpoints' / '.3.json.a_b1.tmp').write_text('half')
        return losses

    small_fit(data, with_losses(small_model(data), come), epochs=1,
              out=str(tmp_path))
    assert load(str(tmp_path)).history[0]['epoch'] == 1
    assert sorted(os.listdir(tmp_path / 'checkpoints')) == [
        '2.json', '2.safetensors', 'note.txt']
    small_fit(data, epochs=2, out=str(tmp_path), resume=True)
    small_fit(data, epochs=1, out=str(tmp_path), overwrite=True)
    assert (tmp_path / 'checkpoints' / 'note.txt').read_text() == 'mine'
