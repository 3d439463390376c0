r"""A training that was interrupted and goes on leaves, bit for bit, what one
leaves that was not.
"""
import random
import signal

import numpy as np
import pytest
import torch
from small import (
    assert_same_run,
    assert_same_tensors,
    interrupt,
    small_data,
    small_fit,
    small_model,
)

import diffmm_pyg
from diffmm_pyg.errors import ConfigError, RunError
from diffmm_pyg.nn.models import BM3, BPRMF, FREEDOM, DiffRec, MultDAE
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints
from diffmm_pyg.utils.interrupt import Interrupted

KWARGS = dict(epochs=4, batch_size=40, lr=0.1, patience=100)


@pytest.fixture(scope='module', autouse=True)
def handler():
    r"""Ctrl-C is ignored where tests run in the background."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.fixture(scope='module')
def data():
    return small_data()


@pytest.fixture(scope='module')
def straight(data):
    r"""The run of a preset that nothing interrupts."""
    runs = {}

    def fn(preset):
        if preset not in runs:
            runs[preset] = small_fit(data, preset=preset, **KWARGS)
        return runs[preset]

    return fn


def stop(data, out, position, preset='strict', signum=signal.SIGINT,
         model=None, **kwargs):
    r"""Interrupts a training."""
    model = small_model(data, preset) if model is None else model
    with pytest.raises(Interrupted) as info:
        small_fit(data, interrupt(model, position, signum), out=out,
                  **{**KWARGS, **kwargs})
    assert info.value.signum == signum
    return model


def go_on(data, out, preset='strict', **kwargs):
    r"""Goes on as another process would: nothing is left in memory."""
    random.seed(9), np.random.seed(9)
    return small_fit(small_data(), small_model(data, preset, seed=9), out=out,
                     resume=True, **{**KWARGS, **kwargs})


@pytest.mark.parametrize('preset, position', [
    ('strict', (0, 0, 0)),
    ('strict', (1, 0, 1)),  # The last batch of its phase.
    ('strict', (2, 1, 3)),
    ('reference', (0, 1, 2)),
    ('reference', (3, 1, 0)),
])
def test_resumed_equals_straight(data, straight, tmp_path, preset, position):
    out = str(tmp_path / 'run')
    stop(data, out, position, preset)
    epoch, phase, step = position
    values = Checkpoints(out).load().values['state']
    # The step was finished, and not another one begun:
    assert values['position'] == [epoch, phase, step + 1]
    with pytest.raises(RunError, match='has not finished; go on with it'):
        load(out)
    assert_same_run(go_on(data, out, preset), straight(preset))
    assert_same_run(load(out), straight(preset))


def test_interrupted_again_and_again(data, straight, tmp_path):
    out = str(tmp_path / 'run')
    stop(data, out, (0, 1, 1))
    for position in [(0, 1, 2), (0, 1, 4), (2, 0, 0)]:
        stop(data, out, position, model=small_model(data, seed=9),
             resume=True)
    assert_same_run(go_on(data, out), straight('strict'))


def test_more_epochs(data, straight, tmp_path):
    out = str(tmp_path / 'run')
    first = small_fit(data, out=out, **{**KWARGS, 'epochs': 2})
    assert len(first.history) == 2
    assert_same_run(go_on(data, out), straight('strict'))
    assert len(load(out).history) == 4


def test_finished(data, straight, tmp_path, caplog):
    out = str(tmp_path / 'run')
    small_fit(data, out=out, **KWARGS)
    before = {path: path.stat().st_mtime_ns
              for path in tmp_path.rglob('*') if path.is_file()}
    run = go_on(data, out)
    assert 'has finished, after 4 epochs; it only goes on' in caplog.text
    assert_same_run(run, straight('strict'))
    assert run.folder == out
    assert before == {path: path.stat().st_mtime_ns
                      for path in tmp_path.rglob('*') if path.is_file()}


def test_early_stopping_goes_on_counting(data, tmp_path):
    kwargs = {**KWARGS, 'lr': 0., 'epochs': 9, 'patience': 4}
    out = str(tmp_path / 'run')
    stop(data, out, (3, 0, 0), **kwargs)
    run = go_on(data, out, **kwargs)
    assert len(run.history) == 5 and run.metrics['best_epoch'] == 1
    run = go_on(data, out, **{**kwargs, 'patience': 6})
    assert len(run.history) == 7
    assert_same_tensors(run, load(out))


@pytest.mark.parametrize('make', [
    lambda data: BPRMF(60, 40, 8),
    lambda data: FREEDOM(60, 40, {'image': 6, 'text': 4}, 8, k=3),
    lambda data: BM3(60, 40, {'image': 6, 'text': 4}, 8),
    lambda data: MultDAE(60, 40),
    lambda data: DiffRec.from_sizes(60, 40, {}, diffusion={}),
    lambda data: small_model(data, denoiser_weight=0.5,
                             drift_weight=0.5),
], ids=['BPRMF', 'FREEDOM', 'BM3', 'MultDAE', 'DiffRec', 'scores'])
def test_every_kind_of_model(data, tmp_path, make):
    def model():
        torch.manual_seed(0)
        return make(data)

    kwargs = {**KWARGS, 'epochs': 3, 'batch_size': 20}
    phase = len(model().phases(small_data()[0])) - 1
    stop(data, str(tmp_path), (1, phase, 1), model=model(), **kwargs)
    run = small_fit(data, make(data), out=str(tmp_path), resume=True, **kwargs)
    assert_same_run(run, small_fit(data, model(), **kwargs))


class GlobalNoise(BPRMF):
    r"""Draws from the global generators, which no model of ours does."""
    def phases(self, data):
        phase, = super().phases(data)

        def loss(index, batch_size, key):
            out = phase.loss(index, batch_size, key)
            draws = torch.rand(1) + random.random() + np.random.rand()
            return {'loss': out['loss'] * draws.float().item()}

        return [phase._replace(loss=loss)]


def test_global_generators(data, tmp_path):
    def fit(**kwargs):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        np.random.randn()  # The other of a pair is kept for the next call.
        model = GlobalNoise(60, 40, 8)
        if 'resume' not in kwargs:
            return model, small_fit(data, model, **KWARGS)
        return small_fit(data, model, **KWARGS, **kwargs)

    model, run = fit()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    np.random.randn()
    stop(data, str(tmp_path), (1, 0, 2), model=GlobalNoise(60, 40, 8))
    assert_same_run(fit(out=str(tmp_path), resume=True), run)


def test_checkpoints_within_an_epoch(data, straight, tmp_path, monkeypatch):
    save, positions = Checkpoints.save, []

    def patched(self, checkpoint):
        positions.append(checkpoint.values['state']['position'])
        save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, 'save', patched)
    small_fit(data, out=str(tmp_path / 'a'), **KWARGS)
    assert positions == [[epoch, 0, 0] for epoch in range(5)]
    positions.clear()
    run = small_fit(data, out=str(tmp_path / 'b'), checkpoint_minutes=0.,
                    **{**KWARGS, 'epochs': 1})
    # Three batches of users, and those of interactions:
    num = -(-run.graphs['observed'].size(1) // 40)
    assert positions == [
        [0, 0, 0], [0, 0, 1], [0, 0, 2],
        *([0, 1, step] for step in range(1, num + 1)), [1, 0, 0]
    ]


def test_seconds_are_without_checkpoints(data, tmp_path, monkeypatch):
    save, seconds = Checkpoints.save, [0.]

    def patched(self, checkpoint):
        seconds[0] += 100.
        save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, 'save', patched)
    monkeypatch.setattr('diffmm_pyg.training.trainer.time.perf_counter',
                        lambda: seconds[0])
    run = small_fit(data, out=str(tmp_path), checkpoint_minutes=0., **KWARGS)
    assert seconds[0] > 1000.
    assert [row['seconds'] for row in run.history] == [0., 0., 0., 0.]


def test_checkpoints_not_after_every_epoch(data, straight, tmp_path,
                                           monkeypatch):
    save, positions = Checkpoints.save, []

    def patched(self, checkpoint):
        positions.append(checkpoint.values['state']['position'])
        save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, 'save', patched)
    kwargs = dict(KWARGS, out=str(tmp_path), checkpoint_epochs=False)
    stop(data, position=(2, 0, 1), **{**kwargs, 'epochs': 3})
    assert positions[0] == [0, 0, 0] and positions[1][0] == 2
    assert len(positions) == 2  # The second one is that of Ctrl-C.
    small_fit(data, resume=True, **{**kwargs, 'epochs': 3})
    assert positions[2:] == [[3, 0, 0]]  # A finished run goes on from its end.
    run = small_fit(data, resume=True, **kwargs)
    assert_same_run(run, straight('strict'))
    assert_same_run(load(str(tmp_path)), run)
    assert positions[3:] == [[4, 0, 0]]
    assert_same_run(small_fit(data, resume=True, **kwargs), run)


@pytest.mark.parametrize('change, message', [
    (dict(lr=0.2), "began with 'lr' of 0.1; go on with the same .got 0.2"),
    (dict(seed=1), "began with 'seed' of 0"),
    (dict(batch_size=41), "began with 'batch_size' of 40"),
    (dict(watch_test=True), "began with 'watch_test' of False"),
    (dict(precision='bf16'), "began with 'precision' of 'fp32'"),
])
def test_changed_option(data, tmp_path, change, message):
    stop(data, str(tmp_path), (0, 0, 0))
    with pytest.raises(ConfigError, match=message):
        go_on(data, str(tmp_path), **change)


def test_changed_model_and_data(data, tmp_path):
    stop(data, str(tmp_path), (0, 0, 0))
    kwargs = dict(out=str(tmp_path), resume=True, **KWARGS)
    with pytest.raises(ConfigError, match="began with 'num_layers' of 1"):
        small_fit(data, small_model(data, num_layers=2), **kwargs)
    with pytest.raises(ConfigError, match="began with 'class' of 'DiffMM'"):
        small_fit(data, BPRMF(60, 40), **kwargs)
    other = small_data(seed=1)
    with pytest.raises(ConfigError, match='The data is not what the training '
                       'began with'):
        small_fit(other, small_model(other), **kwargs)


def test_other_versions_are_told(data, tmp_path, caplog, monkeypatch):
    stop(data, str(tmp_path), (0, 0, 0))
    monkeypatch.setattr(diffmm_pyg, '__version__', '9.9')
    go_on(data, str(tmp_path), epochs=1)
    assert "which is '9.9' now: numbers may differ" in caplog.text


def test_nothing_to_resume(data, straight, tmp_path):
    # So that one command serves for the first and for every later start:
    assert_same_run(small_fit(data, out=str(tmp_path / 'run'), resume=True,
                              **KWARGS), straight('strict'))
    with pytest.raises(ConfigError, match="'out' must name its folder"):
        small_fit(data, resume=True)


def test_without_out_the_model_is_kept(data):
    model = stop(data, None, (2, 1, 1))
    run = small_fit(data, epochs=2, batch_size=40, lr=0.1)
    with torch.no_grad():
        user, item = model.eval().embed(model.data)
    assert user.equal(run.user_emb) and item.equal(run.item_emb)
    assert model.recommend([3]).item == run.recommend([3]).item
