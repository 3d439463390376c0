r"""What holds for every model that :obj:`pairwise.py` trains, and for BM3."""
import pytest
import torch
from oracle import assert_close
from pairwise_problem import (
    CHANNELS,
    NUM_ITEMS,
    NUM_USERS,
    make,
    random_data,
)
from small import assert_same_tensors, small_data, small_fit

import diffmm_pyg
from diffmm_pyg.datasets import FakeMultiModalRec, checkerboard
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.evaluation import evaluate, unranked_items
from diffmm_pyg.nn import weighted_adj
from diffmm_pyg.nn.models import MODELS
from diffmm_pyg.nn.models.bm3 import BM3
from diffmm_pyg.nn.models.bpr_mf import BPRMF
from diffmm_pyg.nn.models.freedom import FREEDOM
from diffmm_pyg.nn.models.light_gcn import LightGCN
from diffmm_pyg.nn.models.ngcf import NGCF
from diffmm_pyg.nn.models.vbpr import VBPR
from diffmm_pyg.typing import INTERACTS
from torch_geometric import seed_everything
from torch_geometric.utils import degree

EVERY = [BPRMF, LightGCN, NGCF, VBPR, BM3, FREEDOM]


def build(cls, data, **kwargs):
    seed_everything(0)
    channels = {m[2:]: x.size(1) for m, x in data[0]['item'].items()
                if m.startswith('x_')}
    return cls.from_sizes(data[0]['user'].num_nodes,
                          data[0]['item'].num_nodes, channels,
                          hidden_channels=16, **kwargs)


def loss_of(phase, index, key=(0, 0, 0, 0), batch_size=5):
    if phase.begin is not None:
        phase.begin(key[:3])
    return phase.loss(index, batch_size, key)


def run_epoch(model, data, epoch=0, batch_size=5):
    losses = []
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.3)  # Large values would explode.
    for i, phase in enumerate(model.phases(data)):
        if phase.begin is not None:
            phase.begin((0, epoch, i))
        optimizer = torch.optim.SGD(phase.parameters, lr=0.05)
        batches = torch.arange(phase.num_examples).split(batch_size)
        for step, index in enumerate(batches):
            loss = phase.loss(index, batch_size, (0, epoch, i, step))
            optimizer.zero_grad()
            loss['loss'].backward()
            optimizer.step()
            losses.append(loss['loss'].item())
    return losses


@pytest.mark.parametrize('cls', EVERY)
def test_one_phase_moves_all_parameters(cls):
    data = random_data()
    model = make(cls, data)
    phase, = model.phases(data)
    assert phase.num_examples == data[INTERACTS].edge_index.size(1)
    loss_of(phase, torch.arange(phase.num_examples))['loss'].backward()
    assert {id(p) for p in phase.parameters} == \
        {id(p) for p in model.parameters()}
    for name, p in model.named_parameters():
        assert p.grad.isfinite().all() and (p.grad != 0).any(), name


@pytest.mark.parametrize('cls', EVERY)
def test_parts_sum_up_to_the_loss(cls):
    data = random_data()
    phase, = make(cls, data, reg_weight=0.1).phases(data)
    losses = loss_of(phase, torch.arange(5))
    total = losses.pop('loss')
    assert total.requires_grad and len(losses) > 1
    assert_close(total, sum(losses.values()))
    assert not any(x.requires_grad for x in losses.values())


@pytest.mark.parametrize('cls', EVERY)
def test_same_keys_same_numbers(cls):
    runs = []
    for epoch in [0, 0, 1]:
        data = random_data()
        model = make(cls, data)
        # Nothing but the keys may matter:
        torch.manual_seed(len(runs))
        runs.append(run_epoch(model, data, epoch))
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize('cls', [LightGCN, NGCF, BM3, FREEDOM])
def test_backends_agree(cls, double, sparse, monkeypatch):
    data = random_data()
    results = []
    for backend in ['torch', 'torch-sparse' if sparse else 'torch']:
        monkeypatch.setattr(weighted_adj, 'sparse_backend',
                            lambda _, out=backend: out)
        model = make(cls, data)
        results.append([torch.tensor(run_epoch(model, data)),
                        *model.embed(data)])
    for a, b in zip(*results, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize('cls', [BPRMF, LightGCN, NGCF, VBPR, FREEDOM])
def test_user_without_a_negative_has_no_ranking_loss(cls):
    data = random_data()
    model = make(cls, data, reg_weight=0.)
    phase, = model.phases(data)
    index = (data[INTERACTS].edge_index[0] == 3).nonzero().view(-1)
    loss_of(phase, index)['loss'].backward()
    for name, p in model.named_parameters():
        assert p.grad is None or p.grad.abs().max() < 1e-6, name


@pytest.mark.parametrize('cls', EVERY)
def test_nothing_is_random_in_ranking(cls):
    data = random_data()
    model = make(cls, data)
    run_epoch(model, data)
    for training in [True, False]:
        user, item = model.train(training).embed(data)
        assert user.size(0) == NUM_USERS and item.size(0) == NUM_ITEMS
        assert user.size(1) == item.size(1)
        assert torch.equal(user, model.embed(data)[0])
        assert torch.equal(item, model.embed(data)[1])


@pytest.mark.parametrize('cls', EVERY)
def test_data_of_another_size(cls):
    data = random_data()
    model = make(cls, data)
    data['user'].num_nodes = NUM_USERS + 1
    for method in [model.phases, model.embed]:
        with pytest.raises(ConfigError, match='has 13 users, .* made for 12'):
            method(data)


@pytest.mark.parametrize('cls', [VBPR, BM3, FREEDOM])
def test_data_with_other_features(cls):
    data = random_data()
    model = make(cls, data)
    data['item'].x_image = torch.randn(NUM_ITEMS, 5)
    with pytest.raises(ConfigError, match=r"'image': 5.*made for .*'image'"):
        model.embed(data)


@pytest.mark.parametrize('cls,names', [
    (BPRMF, []),
    (LightGCN, ['num_layers']),
    (NGCF, ['num_layers', 'dropout']),
    (VBPR, ['feature_channels']),
    (BM3, ['num_layers', 'dropout', 'align_weight']),
    (FREEDOM, ['num_layers', 'num_item_layers', 'k', 'first_weight', 'pruning',
               'modality_weight']),
])
def test_bad_hyper_parameters(cls, names):
    for name in ['hidden_channels', 'reg_weight', *names]:
        with pytest.raises(ValueError, match=f"'{name}' must lie in"):
            cls.from_sizes(2, 2, CHANNELS, **{name: -1})


@pytest.mark.parametrize('cls', EVERY)
def test_initialization(cls):
    seed_everything(0)
    model = cls.from_sizes(400, 300, CHANNELS)
    first = {name: p.clone() for name, p in model.named_parameters()}
    for p in [model.user_embedding.weight, model.item_embedding.weight]:
        bound = (6 / sum(p.size()))**0.5
        assert p.abs().max() <= bound
        assert abs(p.std() / (bound / 3**0.5) - 1) < 0.1
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(7.)
    model.reset_parameters()
    for name, p in model.named_parameters():
        assert (p != 7.).all(), name
        assert abs(p.std() - first[name].std()) < 0.2, name


@pytest.mark.parametrize('cls', EVERY)
def test_checkerboard(cls):
    data = checkerboard(60, 40, num_blocks=8)
    withheld = {
        user: [item]
        for split in data[1:]
        for user, item in split[INTERACTS].edge_label_index.t().tolist()
    }
    # Its features are all alike within a block.
    kwargs = {'align_weight': 0.5} if cls == BM3 else {}
    hits = []
    for epochs, lr in [(40, 1e-2), (1, 0.)]:
        # Without a validation split there is no choice of an epoch.
        run = small_fit(data[:1], build(cls, data, **kwargs), epochs=epochs,
                        lr=lr, top_k=1)
        result = run.recommend(k=1)
        returned = dict(zip(result.user, result.item, strict=True))
        hits.append(sum(returned[u] == withheld[u] for u in withheld))
    assert hits[0] == 60  # It is training that does it:
    assert hits[1] < 60


@pytest.mark.parametrize('cls', EVERY)
def test_better_than_popularity(cls):
    data = FakeMultiModalRec(200, 150, num_blocks=5, avg_degree=10.)
    run = small_fit(data, build(cls, data), epochs=6, lr=2e-2, top_k=20)
    edge_index, test = run.graphs['observed'], run.graphs['test']
    labels = {'val': run.graphs['val'], 'test': test}
    seen = unranked_items(edge_index, labels, 'test', 'strict', 200, 150)
    count = degree(edge_index[1], 150).view(-1, 1)
    popular = evaluate(torch.ones(200, 1), count, test, seen, [20])
    assert run.metrics['test']['recall@20'] > 1.5 * popular['recall@20']


@pytest.mark.parametrize('cls', EVERY)
def test_a_loaded_run_ranks_the_same(cls, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, cls.__name__, cls)
    data, out = small_data(), str(tmp_path / 'run')
    model = build(cls, data, reg_weight=0.25)
    run = small_fit(data, model, out=out)
    loaded = diffmm_pyg.load(out)
    assert_same_tensors(run, loaded)
    for users in [None, [5, 1]]:
        results = [x.recommend(users, k=4) for x in (run, loaded, model)]
        assert results[0].item == results[1].item == results[2].item
    rebuilt = loaded.model()
    assert rebuilt.reg_weight == 0.25
    for a, b in zip(rebuilt.embed(data[0]), [run.user_emb, run.item_emb],
                    strict=True):
        assert torch.equal(a, b)
