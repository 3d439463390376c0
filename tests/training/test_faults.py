r"""Whatever happens to a training, what it had done is not lost, and the error
says how it goes on.
"""
import errno
import json
import os
import resource
import subprocess
from signal import SIGTERM

import pytest
import safetensors.torch
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

from diffmm_pyg.diffusion import row_scores
from diffmm_pyg.errors import RunError
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints
from diffmm_pyg.training.splits import Splits
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import SparseRows, topk
from diffmm_pyg.utils.interrupt import Interrupted
from diffmm_pyg.utils.topk import map_blocks

# Disk full ###################################################################


def test_disk_full(data, straight, tmp_path):
    # The limit of a process stands for that of the disk.
    small_fit(data, out=str(tmp_path), **{**SHORT, 'epochs': 1})
    before = files(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(RunError, match=r"A checkpoint could not be "
                           r"written to '.*checkpoints' \(.*\); free some "
                           r"space, then go on by '--resume .*' from the last "
                           r"good checkpoint \(epoch 2, phase 1, batch 1\)"):
            go_on(data, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == before
    assert_same_run(go_on(data, tmp_path), straight)


def test_disk_is_full_from_the_start(data, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(safetensors.torch, 'save_file', fail)
    with pytest.raises(RunError, match='No space left on device.*train again'):
        small_fit(data, out=str(tmp_path / 'a' / 'run'), **SHORT)
    assert files(tmp_path) == {}


def test_real_full_disk(data, straight, tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=2m',
                              'tmpfs', str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip('this process may not mount a disk')
    try:
        run = disk / 'run'
        small_fit(data, out=str(run), **{**SHORT, 'epochs': 1})
        filling = disk / 'filling'
        with pytest.raises(OSError), open(filling, 'wb') as f:
            while True:
                f.write(bytes(4096))
                f.flush()
        with pytest.raises(RunError, match='could not be written to .*No '
                           'space left on device.*; free some space'):
            go_on(data, run)
        filling.unlink()
        assert_same_run(go_on(data, run), straight)
    finally:
        subprocess.run(['umount', str(disk)], check=True)


# Damage ######################################################################


@pytest.mark.parametrize('ending', ['json', 'safetensors'])
def test_damaged_checkpoint(data, straight, tmp_path, caplog, ending):
    with pytest.raises(Interrupted):
        small_fit(data, interrupt(small_model(data), (2, 1, 0), SIGTERM),
                  out=str(tmp_path), **SHORT)
    names = sorted(os.listdir(tmp_path / 'checkpoints'))
    assert names == ['3.json', '3.safetensors', '4.json', '4.safetensors']
    path = tmp_path / 'checkpoints' / f'4.{ending}'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_same_run(go_on(data, tmp_path), straight)
    assert f"Checkpoint 4 of '{tmp_path}' is damaged" in caplog.text


def test_no_whole_checkpoint(data, tmp_path):
    small_fit(data, out=str(tmp_path), **SHORT)
    for path in (tmp_path / 'checkpoints').glob('*.json'):
        path.write_text(json.dumps([]))
    before = files(tmp_path)
    with pytest.raises(RunError, match="No checkpoint in '.*' is whole; train "
                       "anew, with '--overwrite'"):
        go_on(data, tmp_path)
    assert files(tmp_path) == before


def test_checkpoint_stays_whole_while_its_successor_trains(data, tmp_path):
    # What is read must not be the memory that the training then changes.
    small_fit(data, out=str(tmp_path), **{**SHORT, 'epochs': 1})
    name = max(os.listdir(tmp_path / 'checkpoints'))
    before = (tmp_path / 'checkpoints' / name).read_bytes()
    with pytest.raises(Interrupted):
        small_fit(data, interrupt(small_model(data), (1, 1, 4), SIGTERM),
                  out=str(tmp_path), resume=True, **SHORT)
    assert (tmp_path / 'checkpoints' / name).read_bytes() == before


def test_two_processes(data, tmp_path):
    with Checkpoints(str(tmp_path / 'run')):
        for kwargs in [{'resume': True}, {'overwrite': True}]:
            with pytest.raises(RunError, match='Another process trains in'):
                small_fit(data, out=str(tmp_path / 'run'), **kwargs)


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


# Out of memory ###############################################################


@pytest.fixture
def little_memory(monkeypatch):
    r"""Lets every block of more than some rows run out of memory."""
    def fn(module, max_rows):
        def patched(block, num_rows, block_size):
            def limited(start, end):
                if end - start > max_rows:
                    raise torch.OutOfMemoryError('CUDA out of memory')
                return block(start, end)

            return map_blocks(limited, num_rows, block_size)

        monkeypatch.setattr(module, 'map_blocks', patched)

    return fn


@pytest.mark.parametrize('noise_step', [None, 2])
def test_generation_halves_the_block(data, little_memory, noise_step):
    model = small_model(data)
    rows = SparseRows.from_edge_index(data[0][INTERACTS].edge_index, 60, 40)
    expected = model.diffusion.generate(rows, 3, noise_step=noise_step)
    little_memory(row_scores, 10)
    with pytest.warns(UserWarning, match='2048 rows; went on with 7'):
        edges = model.diffusion.generate(rows, 3, noise_step=noise_step)
    for m, (edge_index, weight) in expected.items():
        assert edges[m][0].equal(edge_index)
        assert torch.allclose(edges[m][1], weight, rtol=1e-5)


def test_evaluation_halves_the_block(straight, little_memory):
    expected = straight.evaluate([3])
    little_memory(topk, 8)
    with pytest.warns(UserWarning, match='rows; went on with 7'):
        assert straight.evaluate([3]) == expected


def test_recommendation_halves_the_block(straight, little_memory):
    expected = straight.recommend(k=4)
    little_memory(topk, 8)
    with pytest.warns(UserWarning, match='rows; went on with 7'):
        actual = straight.recommend(k=4)
    assert actual.item == expected.item
    assert actual.score.equal(expected.score)


def test_training_batch_is_never_changed(data, straight, tmp_path):
    def fail(losses, key):
        if key[1:] == (1, 1, 3):
            raise torch.OutOfMemoryError('CUDA out of memory')
        return losses

    with pytest.raises(RunError, match=r"Out of memory in batch 4 of phase "
                       r"'ranking', epoch 2; lower 'batch_size' \(40\) and "
                       r"train again, or go on by '--resume"):
        small_fit(data, with_losses(small_model(data), fail),
                  out=str(tmp_path), **SHORT)
    assert_same_run(go_on(data, tmp_path), straight)


# The same bits ###############################################################


def test_deterministic_algorithms(data, straight, monkeypatch):
    modes, evaluate = [], Splits.evaluate

    def evaluated(*args):
        modes.append(torch.are_deterministic_algorithms_enabled())
        return evaluate(*args)

    def watch(losses, key):
        modes.append(torch.are_deterministic_algorithms_enabled())
        return losses

    monkeypatch.setattr(Splits, 'evaluate', evaluated)
    runs = [small_fit(data, with_losses(small_model(data), watch),
                      deterministic=True, **SHORT) for _ in range(2)]
    assert all(modes) and len(modes) > 0
    assert not torch.are_deterministic_algorithms_enabled()
    assert_same_run(*runs)
    assert_same_run(runs[0], straight)
