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


@pytest.mark.parametrize('preset, noise_step', [
    ('strict', None), ('reference', None), ('reference', 2)])
def test_generation_halves_the_block(data, little_memory, preset, noise_step):
    model = small_model(data, preset)
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
