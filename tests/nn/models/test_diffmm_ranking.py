import pytest
import torch
from oracle import assert_close, dense_users
from small import small_data, small_fit, small_model

from diffmm_pyg.nn.models import Drift
from diffmm_pyg.nn.models.diffmm_ranking import diffmm_embeddings
from diffmm_pyg.runs import load
from diffmm_pyg.utils import SparseRows
from torch_geometric.data import HeteroData

U, I = 60, 40


@pytest.fixture
def trained():
    data = small_data()
    model = small_model(data)
    small_fit(data, model, epochs=1)
    return model.eval(), model.data


def rank(model, data, **weights):
    for name in ['denoiser_weight', 'drift_weight']:
        setattr(model, name, weights.get(name, 0.))
    with torch.no_grad():
        user, item = diffmm_embeddings(model, data)
        return dense_users(user).double() @ item.double().t()


def standard(score):
    score = score - score.mean(dim=1, keepdim=True)
    return score / score.std(dim=1, correction=0, keepdim=True)


def test_scores_add_up(trained):
    model, data = trained
    edge_index = data['user', 'interacts', 'item'].edge_index
    rows = SparseRows.from_edge_index(edge_index, U, I)
    parts = [standard(rank(model, data))]
    for user, item in model.diffusion.score_embeddings(rows).values():
        parts.append(standard((user @ item.t()).double()) / 2)
    user, item = Drift(U, I).embed(data)
    parts.append(standard((user @ item.t()).double()))

    def check(actual, expected):
        # Up to what all items of a user have in common.
        assert_close(actual - actual.mean(dim=1, keepdim=True), expected,
                     tolerance=1e-4)

    check(rank(model, data, denoiser_weight=1.5),
          parts[0] + 1.5 * (parts[1] + parts[2]))
    check(rank(model, data, drift_weight=0.2),
          parts[0] + 0.2 * parts[3])
    check(rank(model, data, drift_weight=0.2, denoiser_weight=2.),
          parts[0] + 2 * (parts[1] + parts[2]) + 0.2 * parts[3])


def test_moved_models_rank_the_same(monkeypatch):
    model = small_model(small_data(), denoiser_weight=1., drift_weight=0.2)
    small_fit(small_data(), model, epochs=1)
    expected = model.recommend([3, 5])
    actual = model.double().recommend([3, 5])
    assert actual.item == expected.item
    devices = []
    monkeypatch.setattr(HeteroData, 'to', lambda data, device:
                        devices.append(device) or data)
    model.to('cpu')
    assert devices == [torch.device('cpu')]
    model.to('meta').to_empty(device='cpu')  # What is there is not lost.
    assert not model.data['item'].x_image.is_meta


def test_runs_rank_the_same(tmp_path):
    data = small_data()
    model = small_model(data, denoiser_weight=1., drift_weight=0.2)
    run = small_fit(data, model, out=str(tmp_path / 'run'))
    loaded = load(str(tmp_path / 'run'))
    assert loaded.evaluate() == run.evaluate()
    assert loaded.recommend(k=5).item == run.recommend(k=5).item
    assert loaded.recommend(k=5).item == model.recommend(k=5).item
    assert run.metrics['test'] == run.evaluate()['test']


def test_passes(monkeypatch):
    data = small_data()
    model = small_model(data, denoiser_passes=3)
    seen = []
    loss = model.diffusion.loss

    def spy(rows, *args, **kwargs):
        seen.append(rows)
        return loss(rows, *args, **kwargs)

    monkeypatch.setattr(model.diffusion, 'loss', spy)
    small_fit(data, model, epochs=1)
    count = sum(rows.to_dense().sum(dim=0) for rows in seen)
    edge_index = data[0]['user', 'interacts', 'item'].edge_index
    assert count.equal(3. * edge_index[1].bincount(minlength=I))
    assert sum(rows.num_rows for rows in seen) == 3 * U
