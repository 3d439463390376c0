import pytest
import torch
from item_data import make_data
from oracle import assert_close, dense_users
from small import small_data, small_fit, small_model

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn.models.ease import EASE
from diffmm_pyg.nn.models.item_knn import ItemKNN
from diffmm_pyg.nn.models.late_fusion import LateFusion
from diffmm_pyg.nn.models.mult_dae import MultDAE
from diffmm_pyg.nn.models.popularity import Popularity


def scores(user_emb, item_emb):
    return dense_users(user_emb) @ item_emb.t()


def test_weighted_sum_of_z_scores(double):
    data, _ = make_data(0, 9, 7)
    models = [Popularity(9, 7), EASE(9, 7, 1.), MultDAE(9, 7, 4)]
    fused = LateFusion(models, [0.5, 2., 0.])
    expected = torch.zeros(9, 7)
    for model, weight in zip(models, [0.5, 2., 0.], strict=True):
        score = scores(*model.embed(data))
        mean, std = score.mean(1, True), score.std(1, correction=0,
                                                   keepdim=True)
        expected += weight * torch.where(std > 0, (score - mean) / std, 0.)
    actual = scores(*fused.embed(data))
    assert_close(actual - actual.mean(1, True), expected)


def test_phases_of_all_models():
    data = small_data()
    fused = LateFusion([EASE(60, 40), MultDAE(60, 40, 4),
                        small_model(data), MultDAE(60, 40, 4)])
    phases = fused.phases(data[0])
    assert [p.name for p in phases] == [
        'MultDAE.1.denoising', 'DiffMM.2.diffusion', 'DiffMM.2.ranking',
        'MultDAE.3.denoising'
    ]
    ids = [id(p) for phase in phases for p in phase.parameters]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {id(p) for p in fused.parameters()}
    # Those of another class of models stay theirs.
    assert phases[0].parameters == list(fused.models[1].parameters())


def test_what_does_not_train_is_computed_once(monkeypatch):
    data, calls, embed = small_data(), [], EASE.embed

    def counted(self, data):
        calls.append(self)
        return embed(self, data)

    monkeypatch.setattr(EASE, 'embed', counted)
    model = LateFusion([EASE(60, 40), MultDAE(60, 40, 4)], [1., 0.5])
    run = small_fit(data, model, lr=1e-2)
    assert len(run.history) == 3 and len(calls) == 1
    assert 'MultDAE.1.denoising/loss' in run.history[0]
    # But what does is not, and other data is other data.
    other, _ = make_data(0, 60, 40)
    user_emb, item_emb = model.embed(other)
    assert len(calls) == 2
    fresh = LateFusion([EASE(60, 40), model.models[1]], [1., 0.5])
    assert_close(scores(user_emb, item_emb), scores(*fresh.embed(other)))
    emb = [model.embed(model.data)]
    with torch.no_grad():
        model.models[1].weight_out.mul_(-1.)
    emb.append(model.embed(model.data))
    model.weights[0] = 3.
    emb.append(model.embed(model.data))
    assert len(calls) == 3  # That on other data, twice.
    for a, b in zip(emb[:-1], emb[1:], strict=True):
        assert not torch.allclose(scores(*a), scores(*b))


def test_trained_models_stay_as_they_are():
    data = small_data()
    models = [small_model(data), MultDAE(60, 40, 4), EASE(60, 40)]
    runs = [small_fit(data, model, lr=1e-2) for model in models[:2]]
    before = {k: x.clone() for k, x in runs[0].state.items()}
    fresh = small_data()  # Without generated edges
    run = small_fit(fresh, LateFusion(models, [1., 2., 0.5], trained=True),
                    lr=1.)
    assert len(run.history) == 1
    assert all(x.equal(run.state[f'models.0.{k}']) for k, x in before.items())
    embeddings = [(runs[0].user_emb, runs[0].item_emb),
                  (runs[1].user_emb, runs[1].item_emb),
                  models[2].embed(data[0])]
    expected = torch.zeros(60, 40)
    for (user_emb, item_emb), weight in zip(embeddings, [1., 2., 0.5],
                                            strict=True):
        score = scores(user_emb, item_emb)
        expected += weight * (score - score.mean(1, True)) / score.std(
            1, correction=0, keepdim=True)
    actual = scores(run.user_emb, run.item_emb)
    torch.testing.assert_close(actual - actual.mean(1, True), expected,
                               rtol=1e-4, atol=1e-4)


def test_weights_are_kept_by_a_run():
    data = small_data()
    run = small_fit(data, LateFusion([EASE(60, 40), Popularity(60, 40)],
                                     [1., 0.25]))
    assert run.state['weights'].tolist() == [1., 0.25]
    assert len(run.history) == 1


def test_str():
    fused = LateFusion([EASE(3, 2), Popularity(3, 2)])
    assert str(fused) == 'LateFusion([EASE(3, 2), Popularity(3, 2)])'
    assert fused.weights.tolist() == [1., 1.]


def test_errors():
    models = [EASE(9, 7), Popularity(9, 7)]
    for args in [([], ), ([], []), (models, [1.]), (models, [1., 1., 1.])]:
        with pytest.raises(ValueError, match="'models' must hold at least"):
            LateFusion(*args)
    for weight in [-1., float('nan'), float('inf')]:
        with pytest.raises(ValueError, match="'weights' must lie in"):
            LateFusion(models, [1., weight])
    data, _ = make_data(0, 9, 7)
    with pytest.raises(ConfigError, match='e.g., EASE and ItemKNN, add up'):
        LateFusion([models[0], ItemKNN(9, 7)]).embed(data)
    data = small_data()
    with pytest.raises(ConfigError, match='overwrite each other'):
        LateFusion([small_model(data), Popularity(60, 40),
                    small_model(data)])
