import numpy as np
import pytest
import torch
from oracle import assert_close, random_diffusion, random_rows

from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.typing import INTERACTS, denoised_edge_type
from diffmm_pyg.utils import SparseRows
from torch_geometric.data import HeteroData

NUM_USERS, NUM_ITEMS = 12, 7


@pytest.fixture
def data():
    out, (rows, _) = HeteroData(), random_rows(NUM_USERS, NUM_ITEMS, seed=0)
    out['user'].num_nodes, out['item'].num_nodes = NUM_USERS, NUM_ITEMS
    out['item'].x_image = torch.randn(NUM_ITEMS, 3)
    out['item'].x_text = torch.randn(NUM_ITEMS, 2)
    out['item'].has_text = torch.arange(NUM_ITEMS) > 1
    # User 1 knows everything.
    edge_index = rows.edge_index[:, rows.row != 1]
    items = torch.arange(NUM_ITEMS)
    full = torch.stack([torch.ones_like(items), items])
    out[INTERACTS].edge_index = torch.cat([edge_index, full], dim=1)
    return out


def make_model(**kwargs):
    return DiffMM(NUM_USERS, NUM_ITEMS, {'image': 3, 'text': 2},
                  random_diffusion(NUM_ITEMS, 2, seed=0), hidden_channels=4,
                  **kwargs)


def run_epoch(model, data, epoch=0, batch_size=5, train=True):
    losses = []
    for i, phase in enumerate(model.phases(data)):
        if phase.begin is not None:
            phase.begin((0, epoch, i))
        optimizer = torch.optim.SGD(phase.parameters, lr=0.05)
        batches = torch.arange(phase.num_examples).split(batch_size)
        for step, index in enumerate(batches):
            loss = phase.loss(index, batch_size, (0, epoch, i, step))
            optimizer.zero_grad()
            loss['loss'].backward()
            if train:
                optimizer.step()
            losses.append(loss['loss'].item())
    return losses


def test_phases_cover_all_parameters_once(data):
    model = make_model()
    phases = model.phases(data)
    assert [p.name for p in phases] == ['diffusion', 'ranking']
    assert [p.num_examples for p in phases] == \
        [NUM_USERS, data[INTERACTS].edge_index.size(1)]
    ids = [id(p) for phase in phases for p in phase.parameters]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {id(p) for p in model.parameters()}


def test_a_phase_moves_only_its_own_parameters(data):
    model = make_model()
    for i, phase in enumerate(model.phases(data)):
        model.zero_grad()
        phase.begin((0, 0, i))
        phase.loss(torch.arange(4), 4, (0, 0, i, 0))['loss'].backward()
        moved = {id(p) for p in model.parameters()
                 if p.grad is not None and (p.grad != 0).any()}
        assert moved == {id(p) for p in phase.parameters}


def test_same_keys_same_numbers(data):
    runs = []
    for epoch in [0, 0, 1]:
        torch.manual_seed(1)
        model = make_model(edge_dropout=0.5)
        # Nothing but the keys may matter:
        torch.manual_seed(len(runs))
        runs.append(run_epoch(model, data.clone(), epoch))
    assert runs[0] == runs[1] != runs[2]
    assert np.isfinite(runs).all()


def test_draws_have_keys_of_their_own(data, monkeypatch):
    # Two draws from one stream would depend on each other.
    states, sequence = [], np.random.SeedSequence

    def recorded(entropy):
        out = sequence(entropy)
        states.append(int(out.generate_state(1, np.uint64)[0]))
        return out

    monkeypatch.setattr(np.random, 'SeedSequence', recorded)
    model = make_model(edge_dropout=0.5)
    run_epoch(model, data)
    # Timesteps and noise, the graphs of two modalities, negatives:
    num_steps = [-(-p.num_examples // 5) for p in model.phases(data)]
    assert len(states) == 2 * num_steps[0] + 2 + num_steps[1]
    assert len(set(states)) == len(states)


@pytest.mark.parametrize('candidates', ['all', 'unseen', 'observed'])
def test_generated_edges(data, candidates):
    model = make_model(k=2, candidates=candidates, weight_scale=3.)
    run_epoch(model, data, train=False)
    rows = SparseRows.from_edge_index(data[INTERACTS].edge_index, NUM_USERS,
                                      NUM_ITEMS)
    expected = model.diffusion.generate(rows, 2, candidates, weight_scale=3.)
    for m in model.modalities:
        store = data[denoised_edge_type(m)]
        assert torch.equal(store.edge_index, expected[m][0])
        assert torch.equal(store.edge_weight, expected[m][1])
        assert not store.edge_weight.requires_grad


def test_regenerates_every_epoch(data):
    model = make_model()
    run_epoch(model, data)
    before = data[denoised_edge_type('text')].edge_weight.clone()
    run_epoch(model, data, epoch=1)
    after = data[denoised_edge_type('text')].edge_weight
    assert not torch.allclose(before, after)


def test_user_without_a_negative_has_no_ranking_loss(data):
    model = make_model(ssl_weight=0., reg_weight=0.)
    phase = model.phases(data)[1]
    phase.begin((0, 0, 1))
    index = (data[INTERACTS].edge_index.sort(dim=1)[0][0] == 1).nonzero()
    loss = phase.loss(index.view(-1), 4, (0, 0, 1, 0))['loss']
    loss.backward()
    for p in phase.parameters:
        assert p.grad is None or (p.grad == 0).all()


def test_features_of_denoisers(data):
    # What the reference normalizes for propagation only.
    losses = []
    for normalize in [False, True]:
        torch.manual_seed(0)
        model = make_model(normalize_msi=normalize)
        with torch.no_grad():
            for encoder in model.encoders.values():
                encoder.lin.weight.mul_(10.)
        phase = model.phases(data)[0]
        phase.begin((0, 0, 0))
        losses.append(phase.loss(torch.arange(12), 12, (0, 0, 0, 0)))
    assert losses[0]['elbo'] == losses[1]['elbo']
    assert losses[0]['msi'] > losses[1]['msi']


def test_embed(data):
    model = make_model(edge_dropout=0.5)
    run_epoch(model, data)
    user, item = model.embed(data)
    assert user.size() == (NUM_USERS, 4) and item.size() == (NUM_ITEMS, 4)
    # Nothing is random at test time; the edges that were dropped are back.
    assert torch.equal(model.embed(data)[0], user)
    model.edge_dropout = 0.
    assert_close(model.embed(data)[0], user)


def test_embed_with_the_dropout_of_the_last_epoch(data):
    torch.manual_seed(0)
    model = make_model(edge_dropout=0.5, dropout_at_test=True)
    run_epoch(model, data)
    user, _ = model.embed(data)
    assert torch.equal(model.embed(data)[0], user)
    model.dropout_at_test = False
    assert not torch.allclose(model.embed(data)[0], user)


def test_recommend(data):
    model = make_model()
    run_epoch(model, data)
    _, dense = random_rows(NUM_USERS, NUM_ITEMS, seed=0)
    dense[1] = 1
    user, item = (x.detach() for x in model.embed(data))
    expected = (user @ item.t()).masked_fill(dense > 0, float('-inf'))
    for index in [None, torch.tensor([5, 1, 5])]:
        for training in [True, False]:
            model.train(training)
            result = model.recommend(index, k=3, data=data)
            assert model.training == training
            value, pos = expected[slice(None) if index is None else index] \
                .topk(3)
            left = value.isfinite()
            assert torch.equal(result.score.isfinite(), left)
            assert_close(result.score[left], value[left])
            assert result.item == [
                row[mask].tolist() for row, mask in zip(pos, left)]
            assert not result.score.requires_grad
    result = model.recommend(k=NUM_ITEMS, data=data)
    assert result.score.size(1) == NUM_ITEMS
    assert result.user == list(range(NUM_USERS))


@pytest.mark.parametrize('k', [0, NUM_ITEMS + 1])
def test_recommend_errors(data, k):
    model = make_model()
    with pytest.raises(ValueError, match="'k' must lie in 1..7"):
        model.recommend(k=k, data=data)


def test_data_of_another_size(data):
    model = make_model()
    data['user'].num_nodes = NUM_USERS + 1
    for method in [model.phases, model.embed]:
        with pytest.raises(ConfigError, match='has 13 users, .* made for 12'):
            method(data)


def test_embed_without_generated_edges(data):
    with pytest.raises(DataError, match="generated edges of modality 'image'"):
        make_model().embed(data)
    assert len(data.edge_types) == 1  # Asking leaves no empty one.
