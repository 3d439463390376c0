import copy
import sys

import pytest
import torch
from small import (
    assert_same_run,
    assert_same_tensors,
    files,
    small_data,
    small_fit,
    small_model,
    textbook_metrics,
)

from diffmm_pyg.errors import MissingExtraError, RunError
from diffmm_pyg.evaluation import evaluate
from diffmm_pyg.typing import denoised_edge_type
from diffmm_pyg.utils import SparseRows


@pytest.fixture(scope='module')
def data():
    return small_data()


@pytest.mark.parametrize('preset', ['strict', 'reference'])
def test_same_seed_same_numbers(data, preset):
    run = small_fit(data, preset=preset)
    assert_same_run(run, small_fit(data, preset=preset))
    other = small_fit(data, preset=preset, seed=1)
    assert other.history[0]['ranking/loss'] != run.history[0]['ranking/loss']
    assert not other.user_emb.equal(run.user_emb)


def test_state_of_the_caller_does_not_matter(data):
    # Whatever was drawn before, `seed` alone decides.
    model = small_model(data)
    run = small_fit(data, copy.deepcopy(model))
    torch.rand(10)
    assert_same_run(run, small_fit(data, model))


@pytest.mark.parametrize('preset', ['strict', 'reference'])
def test_data_is_not_changed(data, preset):
    splits = list(data)
    before = copy.deepcopy([split.to_dict() for split in splits])
    small_fit(splits, preset=preset, epochs=1)
    for split, expected in zip(splits, before, strict=True):
        actual = split.to_dict()
        assert actual.keys() == expected.keys()
        for key, store in expected.items():
            assert actual[key].keys() == store.keys()
            for name, value in store.items():
                if isinstance(value, torch.Tensor):
                    assert actual[key][name].equal(value)
                else:
                    assert actual[key][name] == value


def with_generated_edges(data, run, model):
    r"""The training graph that belongs to the parameters of a run."""
    out = copy.copy(data[0])
    for m in model.modalities:
        name = denoised_edge_type(m)[1]
        for key in ['edge_index', 'edge_weight']:
            out[denoised_edge_type(m)][key] = run.graphs[f'{name}.{key}']
    # The second phase of an epoch drops entries, by this key:
    out.edge_dropout_key = torch.tensor(
        [run.config['training']['seed'], run.metrics['best_epoch'] - 1, 1])
    return out


@pytest.mark.parametrize('preset', ['strict', 'reference'])
def test_best_epoch_is_kept(data, preset):
    # Steps so large that the best epoch is not the last one:
    kwargs = dict(preset=preset, lr=0.1, patience=100)
    model = small_model(data, preset)
    run = small_fit(data, model, epochs=8, **kwargs)
    values = [row['val/recall@5'] for row in run.history]
    best = run.metrics['best_epoch']
    assert best == values.index(max(values)) + 1 < 8
    kept = run.history[best - 1]
    assert kept['epoch'] == best  # Both count from 1.
    assert kept['val/ndcg@5'] == run.metrics['val']['ndcg@5']

    # Everything is as if training had ended there:
    assert_same_tensors(run, small_fit(data, epochs=best, **kwargs))
    assert run.state.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert run.state[name].equal(value)
    with torch.no_grad():
        user, item = model.embed(with_generated_edges(data, run, model))
    assert user.equal(run.user_emb) and item.equal(run.item_emb)


def test_metrics_are_those_of_evaluate(data):
    run = small_fit(data, lr=0.1)
    seen = SparseRows.from_edge_index(
        torch.cat([run.graphs['observed'], run.graphs['val']], dim=1), 60, 40)
    assert run.metrics['test'] == evaluate(
        run.user_emb, run.item_emb, run.graphs['test'], seen, [5])
    assert run.evaluate() == {k: run.metrics[k] for k in ['val', 'test']}


@pytest.mark.parametrize('protocol', ['strict', 'paper'])
def test_protocol(data, protocol):
    run = small_fit(data, protocol=protocol, epochs=6, lr=0.1, top_k=3)
    is_paper = protocol == 'paper'
    selection = 'test' if is_paper else 'val'
    values = [row[f'{selection}/recall@3'] for row in run.history]
    assert run.metrics['best_epoch'] == values.index(max(values)) + 1
    assert run.metrics['protocol'] == protocol
    assert ('test/recall@3' in run.history[0]) == is_paper

    seen = {'val': ['observed'], 'test': ['observed', 'val']}
    if is_paper:
        seen['test'] = ['observed']
    for name, masks in seen.items():
        expected = textbook_metrics(run, name, masks, k=3)
        assert run.metrics[name] == pytest.approx(expected, rel=1e-6)
        assert run.evaluate()[name] == run.metrics[name]
    # The two protocols differ on this data, so the above says something:
    assert textbook_metrics(run, 'test', ['observed'], 3) != pytest.approx(
        textbook_metrics(run, 'test', ['observed', 'val'], 3))


def test_early_stopping(data):
    # With a learning rate of 0, no epoch is better than the first one.
    run = small_fit(data, lr=0., epochs=9, patience=3)
    assert len(run.history) == 4 and run.metrics['best_epoch'] == 1
    run = small_fit(data, lr=0., epochs=9, patience=3, protocol='paper')
    assert len(run.history) == 9 and run.metrics['best_epoch'] == 1


@pytest.mark.parametrize('kwargs, message', [
    (dict(epochs=0), "'epochs' must lie in 1..2147483647"),
    (dict(batch_size=0), "'batch_size' must lie in 1..2147483647"),
    (dict(patience=0), "'patience' must lie in 1..2147483647"),
    (dict(top_k=0), "'top_k' must lie in 1..2147483647"),
    (dict(top_k=41), "'top_k' must not exceed the number of items, 40"),
    (dict(precision='fp16'), r"'precision' must be one of \['fp32', 'bf16'"),
    (dict(protocol='test'), r"'protocol' must be one of \['strict', 'paper'"),
])
def test_bad_arguments(data, tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        small_fit(data, out=str(tmp_path / 'run'), **kwargs)
    assert files(tmp_path) == {}


def test_out_is_checked_before_the_work(data, tmp_path, monkeypatch):
    (tmp_path / 'run').write_text('')
    model = small_model(data)
    monkeypatch.setattr(model, 'phases', None)
    with pytest.raises(RunError, match="run' is a file"):
        small_fit(data, model, out=str(tmp_path / 'run'))


def test_bf16(data):
    run = small_fit(data, precision='bf16')
    assert run.user_emb.dtype == run.item_emb.dtype == torch.float
    assert run.user_emb.isfinite().all() and run.item_emb.isfinite().all()
    single = small_fit(data)
    assert not run.user_emb.equal(single.user_emb)
    assert run.user_emb.sub(single.user_emb).norm() < (
        0.05 * single.user_emb.norm())


def test_missing_extra(data, monkeypatch):
    monkeypatch.setitem(sys.modules, 'accelerate', None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[train\]"):
        small_fit(data)


def test_watching_test_chooses_nothing():
    runs = [small_fit(small_data(), watch_test=watch)
            for watch in [False, True]]
    assert runs[0].metrics == runs[1].metrics
    assert_same_tensors(*runs)
    for row, other in zip(*(run.history for run in runs), strict=True):
        assert other.keys() - row.keys() == {
            f'test/{name}@5' for name in ['recall', 'ndcg', 'precision']}
    best = runs[1].history[runs[1].metrics['best_epoch'] - 1]
    assert best['test/recall@5'] == runs[1].metrics['test']['recall@5']
