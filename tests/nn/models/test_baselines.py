r"""What holds for all baselines: they learn blocks that are there to learn,
and what a run of them keeps ranks as they did.
"""
import pytest
import torch
from oracle import assert_close, dense_users
from small import assert_same_run, small_data, small_fit, small_model

from diffmm_pyg import load
from diffmm_pyg.datasets import checkerboard
from diffmm_pyg.nn.models import MODELS
from diffmm_pyg.nn.models.diff_rec import DiffRec
from diffmm_pyg.nn.models.drift import Drift
from diffmm_pyg.nn.models.ease import EASE
from diffmm_pyg.nn.models.item_knn import ItemKNN
from diffmm_pyg.nn.models.late_fusion import LateFusion
from diffmm_pyg.nn.models.mult_dae import MultDAE
from diffmm_pyg.nn.models.popularity import Popularity
from diffmm_pyg.nn.models.random_walk import RandomWalk
from diffmm_pyg.typing import INTERACTS
from torch_geometric import seed_everything

BASELINES = {
    'popularity': (Popularity, {}),
    'drift': (Drift, {'shrinkage': 5.}),
    'item_knn': (ItemKNN, {'k': 7, 'shrink': 1.}),
    'content_knn': (ItemKNN, {'k': 7, 'similarity': 'content'}),
    'random_walk': (RandomWalk, {'num_hops': 2, 'alpha': 0.5, 'beta': 0.5}),
    'ease': (EASE, {'reg': 5.}),
    'content_ease': (EASE, {'reg': 5., 'content_weight': 0.5}),
    'mult_dae': (MultDAE, {'hidden_channels': 16}),
    'diff_rec': (DiffRec, {'diffusion': {'hidden_channels': 16}}),
}
TRAINED = ['mult_dae', 'diff_rec']


def make(name, data):
    cls, kwargs = BASELINES[name]
    seed_everything(0)
    kwargs = {k: dict(v) if isinstance(v, dict) else v
              for k, v in kwargs.items()}
    return cls.from_sizes(data[0]['user'].num_nodes,
                          data[0]['item'].num_nodes, {}, **kwargs)


def dense_embeddings(user_emb, item_emb):
    return dense_users(user_emb), item_emb


@pytest.mark.parametrize('name', [*BASELINES])
def test_run(name, tmp_path, monkeypatch):
    data, folder = small_data(), str(tmp_path / 'run')
    model = make(name, data)
    run = small_fit(data, model, out=folder)
    assert len(run.history) == (3 if name in TRAINED else 1)
    loaded = load(folder)
    expected = model.recommend(k=5)
    for other in [run, loaded]:
        assert other.evaluate() == \
            {split: run.metrics[split] for split in ['val', 'test']}
        actual = other.recommend(k=5)
        assert actual.item == expected.item
        assert_close(actual.score, expected.score)
    # And the model is the same when it is built again.
    monkeypatch.setitem(MODELS, type(model).__name__, type(model))
    again = loaded.model()
    assert str(again) == str(model)
    for a, b in zip(dense_embeddings(*again.embed(data[0])),
                    dense_embeddings(*model.embed(data[0])), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize('name', TRAINED)
def test_same_seed_same_run(name):
    data = small_data()
    runs = [small_fit(data, make(name, data), seed=s) for s in [3, 3, 4]]
    for run in runs:
        del run.metrics['best_epoch']
    assert_same_run(*runs[:2])
    assert runs[0].history != runs[2].history


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_run_of_a_fusion(tmp_path, precision):
    data, folder = small_data(), str(tmp_path / 'run')
    model = LateFusion([small_model(data), make('ease', data),
                        make('mult_dae', data)], [1., 0.5, 2.])
    run = small_fit(data, model, out=folder, precision=precision)
    loaded = load(folder)
    assert loaded.evaluate() == \
        {split: run.metrics[split] for split in ['val', 'test']}
    assert loaded.recommend(k=5).item == run.recommend(k=5).item
    if precision == 'fp32':
        assert model.recommend(k=5).item == run.recommend(k=5).item


@pytest.mark.parametrize('name', [*BASELINES])
def test_mixed_precision(name):
    # In a closed form, there is nothing to be had from it.
    data = small_data()
    runs = [small_fit(data, make(name, data), precision=precision)
            for precision in ['fp32', 'bf16']]
    if name not in TRAINED:
        assert runs[0].item_emb.equal(runs[1].item_emb)
    assert runs[1].item_emb.dtype == torch.float


@pytest.mark.parametrize('name', [*BASELINES, 'fusion'])
def test_checkerboard(name):
    data = checkerboard(60, 40, num_blocks=8)
    if name == 'fusion':
        model = LateFusion([make(n, data) for n in ['ease', 'mult_dae']])
    else:
        model = make(name, data)
    # Without a validation split there is no choice of an epoch.
    run = small_fit(data[:1], model, top_k=1, epochs=60, lr=1e-2,
                    batch_size=30)
    withheld = {
        user: [item]
        for split in data[1:]
        for user, item in split[INTERACTS].edge_label_index.t().tolist()
    }
    result = run.recommend(k=1)
    returned = dict(zip(result.user, result.item, strict=True))
    assert (returned == withheld) == (
        name not in ['popularity', 'drift'])
