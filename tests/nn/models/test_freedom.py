import pytest
import torch
from oracle import assert_close, generator
from pairwise_problem import (
    CHANNELS,
    NUM_ITEMS,
    NUM_USERS,
    Step,
    dense_adj,
    light_gcn,
    make,
    random_data,
)

from diffmm_pyg.nn.item_adj import fused_item_adj
from diffmm_pyg.nn.models import freedom
from diffmm_pyg.nn.models.freedom import FREEDOM
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import keyed_generator
from diffmm_pyg.utils.degree_pruning import degree_pruning
from torch_geometric.utils import to_dense_adj


def dense_item_adj(data, k, weighted=False, weights=(0.5, 0.5)):
    r"""Eqs. 1 to 4 of the paper on dense matrices, where rows are shared
    among the modalities that an item has.
    """
    out, total = torch.zeros(NUM_ITEMS, NUM_ITEMS), torch.zeros(NUM_ITEMS, 1)
    for m, weight in zip(CHANNELS, weights, strict=True):
        x = data['item'][f'x_{m}']
        has = data['item'].get(f'has_{m}', torch.ones(NUM_ITEMS).bool())
        cos = torch.nn.functional.normalize(x)
        cos = cos @ cos.t()
        cos[~has], cos[:, ~has] = -2., -2.
        value, index = cos.topk(k)
        knn = torch.zeros_like(cos).scatter_(1, index, value.clamp(min=0.))
        if not weighted:
            knn = (knn > 0).to(knn.dtype)
        scale = knn.sum(dim=1).clamp(min=1e-12).rsqrt()
        out += weight * scale.view(-1, 1) * knn * scale
        total += weight * has.view(-1, 1)
    return out / total


def textbook_freedom(model, data, edge_index):
    user, item = light_gcn(model, dense_adj(edge_index))
    item_adj = dense_item_adj(data, model.k, model.weighted)
    similar = torch.linalg.matrix_power(item_adj, model.num_item_layers)
    return user, item + similar @ model.item_embedding.weight


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('first_weight', [None, 0.1])
@pytest.mark.parametrize('masked', [False, True])
def test_item_graph_equals_dense_formula(double, sparse, monkeypatch, masked,
                                         weighted, first_weight):
    backend = 'torch-sparse' if sparse else 'torch'
    monkeypatch.setattr('diffmm_pyg.nn.weighted_adj.sparse_backend',
                        lambda _: backend)
    data = random_data(masked)
    masks = {'text': data['item'].has_text} if masked else None
    adj, weight = fused_item_adj(
        {m: data['item'][f'x_{m}'] for m in CHANNELS}, 3, masks, weighted,
        first_weight)
    if sparse:
        actual = adj.to_dense()
    else:
        actual = to_dense_adj(adj, edge_attr=weight,
                              max_num_nodes=NUM_ITEMS)[0].t()
    weights = (0.5, 0.5) if first_weight is None else (0.1, 0.9)
    assert_close(actual, dense_item_adj(data, 3, weighted, weights))


@pytest.mark.parametrize('num_item_layers', [0, 1, 2])
def test_embeddings_equal_dense_formula(double, num_item_layers):
    data = random_data()
    model = make(FREEDOM, data, k=3, num_item_layers=num_item_layers)
    # Nothing is pruned in ranking.
    expected = textbook_freedom(model, data, data[INTERACTS].edge_index)
    for a, b in zip(model.embed(data), expected, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize('masked', [False, True])
def test_loss_equals_definition(double, masked):
    data = random_data(masked)
    model = make(FREEDOM, data, k=3, pruning=0.4, modality_weight=0.3,
                 reg_weight=0.25)
    key = (5, 1, 0, 2)
    index = torch.arange(0, 25, 2)
    step = Step(model, data, key, index)
    left = degree_pruning(data[INTERACTS].edge_index, NUM_USERS, NUM_ITEMS,
                          0.4, keyed_generator(*key[:3], 0, 0))
    user, item = textbook_freedom(model, data, left)
    expected = {
        'bpr': step.bpr(user, item),
        'reg': 0.25 * step.reg(model.user_embedding.weight,
                               model.item_embedding.weight),
    }
    for m in CHANNELS:
        content = data['item'][f'x_{m}'] @ model.lins[m].weight.t()
        has = data['item'].get(f'has_{m}', torch.ones(NUM_ITEMS).bool())
        terms = [(1 + (user[u] @ (content[j] - content[i])).exp()).log()
                 for u, i, j in zip(step.user, step.pos, step.neg)
                 if has[i] and has[j]]
        assert masked or len(terms) == index.numel()
        expected[f'bpr_{m}'] = 0.3 * sum(terms) / 8
    assert set(step.losses) == {'loss', *expected}
    for name, value in expected.items():
        assert_close(step.losses[name], value, what=name)
    for name, p in model.named_parameters():
        grads = [torch.autograd.grad(x, p, retain_graph=True)[0]
                 for x in (step.losses['loss'], sum(expected.values()))]
        assert_close(*grads, what=name)


def test_pruning_anew_in_every_epoch(monkeypatch):
    drawn, data = [], random_data()
    draw = freedom.degree_pruning

    def recorded(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    monkeypatch.setattr(freedom, 'degree_pruning', recorded)
    phase, = make(FREEDOM, data, pruning=0.5).phases(data)
    for key in [(0, 0, 0), (0, 1, 0), (0, 0, 0)]:
        phase.begin(key)
        phase.loss(torch.arange(5), 5, (*key, 0))
    assert drawn[0].equal(drawn[2])
    assert drawn[0].size() == drawn[1].size()
    assert not drawn[0].equal(drawn[1])


def test_odds_of_pruning():
    # One edge is left: it is the one of (u, i) with odds 1 / sqrt(d_u d_i).
    edge_index = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 0, 3]])
    odds = torch.tensor([3. * 2, 3. * 1, 3. * 1, 1. * 2, 1.]).rsqrt()
    count, g = torch.zeros(5), generator(0)
    for _ in range(4000):
        left = degree_pruning(edge_index, 3, 4, 0.9, g)
        assert left.size(1) == 1
        count[(edge_index == left).all(dim=0)] += 1
    assert_close(count / 4000, odds / odds.sum(), tolerance=0.05)


@pytest.mark.parametrize('p,num', [(0., 20), (0.2, 16), (0.5, 10), (0.99, 1)])
def test_what_pruning_leaves(p, num):
    edge_index = torch.arange(20).repeat(2, 1).flip(0)
    left = degree_pruning(edge_index, 20, 20, p, generator(0))
    assert left.size() == (2, num)
    assert (left[0].diff() > 0).all() and left[0].equal(left[1])


def test_item_graph_is_made_once_per_features(monkeypatch):
    data, calls, make_adj = random_data(), [], freedom.fused_item_adj

    def counted(*args):
        calls.append(args)
        return make_adj(*args)

    monkeypatch.setattr(freedom, 'fused_item_adj', counted)
    model = make(FREEDOM, data, k=2)
    model.phases(data)
    before = model.embed(data)[1]
    assert len(calls) == 1
    data['item'].x_image = data['item'].x_image.flip(0)
    assert not torch.equal(model.embed(data)[1], before)
    assert len(calls) == 2
    data['item'].has_image = torch.arange(NUM_ITEMS) != 3
    model.embed(data)
    assert len(calls) == 3


def test_features_that_an_item_lacks_do_not_count():
    data = random_data()
    model = make(FREEDOM, data, k=3)
    step = Step(model, data, index=torch.arange(20)).losses['loss']
    before = [step, *model.embed(data)]
    data['item'].x_text = data['item'].x_text.clone()
    data['item'].x_text[:2] = 100.
    step = Step(model, data, index=torch.arange(20)).losses['loss']
    for a, b in zip(before, [step, *model.embed(data)], strict=True):
        assert torch.equal(a, b)
