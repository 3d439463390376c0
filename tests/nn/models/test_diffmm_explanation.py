import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracle import assert_close, random_diffusion, random_rows

from diffmm_pyg.datasets import hetero_data_from_arrays
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.testing import textbook
from diffmm_pyg.transforms import add_denoised_edges

U, I, CHANNELS = 6, 5, {'image': 3, 'text': 2}
TYPES = [('user', name, 'item')
         for name in ['interacts', 'denoised_image', 'denoised_text']]
CONVS = ['ModalityConv', 'LGConv', 'SAGEConv', 'GATConv', 'TransformerConv']


def weighted_edges(seed):
    edge_index = random_rows(U, I, seed)[0].edge_index
    return edge_index, torch.rand(edge_index.size(1)) + 0.1


@pytest.fixture
def data(double):
    torch.manual_seed(0)
    data = hetero_data_from_arrays(
        U, I, weighted_edges(0)[0],
        features={m: torch.randn(I, f) for m, f in CHANNELS.items()},
        user_ids=[f'u{i}' for i in range(U)])[0]
    return add_denoised_edges(data, {'image': weighted_edges(1),
                                     'text': weighted_edges(2)})


def build(conv='ModalityConv', **kwargs):
    torch.manual_seed(1)
    return DiffMM(U, I, CHANNELS, random_diffusion(I, 2, 0),
                  hidden_channels=4, conv=conv, denoised_conv=conv,
                  weighting='binary', **kwargs)


def dense_score(model, data, user, item, masks):
    r"""The score with dense matrices."""
    adjs = []
    for t in TYPES:
        edge_index, weight = data[t].edge_index, data[t].get('edge_weight')
        adj = textbook.normalized_adjacency(
            edge_index, U, I, weight, dtype=torch.double).to_dense()
        mask = torch.eye(U + I).index_put(
            (edge_index[0], U + edge_index[1]), masks[t])
        mask = mask.index_put((U + edge_index[1], edge_index[0]), masks[t])
        adjs.append(mask * adj)
    users, items = model.user_embedding.weight, model.item_embedding.weight
    hidden = 0.
    for m, weight, adj in zip(CHANNELS, model.fusion.weight, adjs[1:],
                              strict=True):
        feat = F.normalize(model.encoders[m](data['item'][f'x_{m}']))
        s1 = adjs[0] @ torch.cat([users, masks[m].view(-1, 1) * feat])
        s2 = adjs[0] @ torch.cat([s1[:U], items])
        g = adj @ torch.cat([users, items])
        hidden = hidden + weight * (s1 + s2 + model.adj_weight * g)
    out = hidden + adjs[0] @ hidden + 0.5 * F.normalize(hidden)
    return out[user] @ out[U + item]


def test_equals_integral_over_dense_matrices(data):
    model = build(adj_weight=0.7)
    out = model.explain('u2', 3, data)
    ones = {**{t: torch.ones(data[t].num_edges) for t in TYPES},
            **{m: torch.ones(I) for m in CHANNELS}}
    expected = {k: torch.zeros_like(x) for k, x in ones.items()}
    # More points than the implementation takes:
    for point, weight in zip(*np.polynomial.legendre.leggauss(40),
                             strict=True):
        masks = {k: ((point + 1) / 2 * x).requires_grad_()
                 for k, x in ones.items()}
        score = dense_score(model, data, 2, 3, masks)
        grads = torch.autograd.grad(score, list(masks.values()))
        for k, grad in zip(masks, grads, strict=True):
            expected[k] += weight / 2 * grad
    for t in TYPES:
        assert_close(out[t].edge_mask, expected[t], 1e-6)
        assert out[t].edge_index.equal(data[t].edge_index)
    assert_close(out['item'].node_mask,
                 torch.stack([expected[m] for m in CHANNELS], dim=1), 1e-6)
    zeros = {k: 0 * x for k, x in ones.items()}
    for score, masks in [(out.score, ones), (out.base_score, zeros)]:
        assert score == pytest.approx(
            dense_score(model, data, 2, 3, masks).item(), abs=1e-12)


@pytest.mark.parametrize('conv', CONVS)
def test_contributions_add_up_to_the_score(data, conv):
    model = build(conv)
    user, item = model.embed(data)
    out = model.explain('u2', 3, data)
    assert out.score == pytest.approx((user[2] @ item[3]).item(), abs=1e-12)
    total = out.base_score + float(out['item'].node_mask.sum()) + sum(
        float(out[t].edge_mask.sum()) for t in TYPES)
    # The attention of GATConv has a kink.
    assert total == pytest.approx(out.score,
                                  abs=1e-2 if conv == 'GATConv' else 1e-5)
    assert abs(out.score - out.base_score) > 1e-2
    summary = out.modalities()
    assert list(summary) == list(CHANNELS)
    assert summary['text'] == {
        'features': float(out['item'].node_mask[:, 1].sum()),
        'edges': float(out['user', 'denoised_text', 'item'].edge_mask.sum())}


@pytest.mark.parametrize('conv', CONVS)
def test_nothing_remains_in_the_model(data, conv):
    model = build(conv).train()
    before = model.embed(data)
    out = model.explain('u2', 3, data)
    assert model.training
    for a, b in zip(before, model.embed(data), strict=True):
        assert a.equal(b)
    assert all(p.grad is None for p in model.parameters())
    assert not any(out[t].edge_mask.requires_grad for t in TYPES)
    model.fusion.logits = torch.nn.Parameter(torch.zeros(3))  # Too many.
    with pytest.raises(ValueError, match='argument 2 is longer'):
        model.explain('u2', 3, data)
    assert model.training and not model.observed_conv.conv.explain
    assert model.observed_conv.conv._edge_mask is None


def test_edges_out_of_reach_contribute_nothing(double):
    # Users 0 and 1, items 0 and 1, and apart from them user 2 and item 2.
    edge_index = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2]])
    data = hetero_data_from_arrays(3, 3, edge_index, features={
        'image': torch.eye(3)})[0]
    add_denoised_edges(data, {'image': (edge_index, torch.ones(4))})
    model = DiffMM(3, 3, {'image': 3}, random_diffusion(3, 1, 0),
                   hidden_channels=4, weighting='binary')
    out = model.explain(1, 0, data)
    for t in TYPES[:2]:
        assert (out[t].edge_mask[:3] != 0).all()
        assert out[t].edge_mask[3] == 0
    assert (out['item'].node_mask[:2] != 0).all()
    assert out['item'].node_mask[2] == 0


def test_top_edges(data):
    out = build(adj_weight=5.).explain('u2', 3, data)
    positive = sorted([
        (t[1], f'u{u}', i, value) for t in TYPES for u, i, value in
        zip(*out[t].edge_index.tolist(), out[t].edge_mask.tolist(),
            strict=True) if value > 0
    ], key=lambda edge: -edge[3])
    assert len({edge[0] for edge in positive[:3]}) > 1
    assert out.top_edges(k=3) == positive[:3]
    assert out.top_edges(k=1000) == positive
    assert out.top_edges(k=1)[0].relation == positive[0][0]


def test_object_of_pyg(data):
    out = build().explain('u2', 3, data)
    assert out.validate()
    assert set(out.available_explanations) == {'node_mask', 'edge_mask'}
    part = out.get_explanation_subgraph()
    for t in TYPES:
        assert part[t].num_edges <= int((out[t].edge_mask > 0).sum())
    top = out.threshold('topk', 2)
    for t in TYPES:
        assert top[t].edge_mask.sum() == out[t].edge_mask.topk(2).values.sum()


class Square(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x, edge_index, edge_weight=None):
        return x.square()


def test_errors(data):
    model = build()
    for user, item, message in [('u9', 3, "no user 'u9'"),
                                ('u2', 9, "no item '9'")]:
        with pytest.raises(ConfigError, match=message):
            model.explain(user, item, data)
    with pytest.raises(ConfigError, match='Square.* cannot be explained'):
        build(Square).explain('u2', 3, data)
    with pytest.raises(ConfigError, match="not trained by 'fit'"):
        model.explain('u2', 3)
    del data['user', 'denoised_text', 'item']
    with pytest.raises(DataError, match="no generated edges of .* 'text'"):
        model.explain('u2', 3, data)


def test_dropped_entries_are_those_of_the_ranking(data):
    data.edge_dropout_key = torch.tensor([0, 0, 1])
    model = build(edge_dropout=0.5, dropout_at_test=True)
    user, item = model.embed(data)
    assert model.explain('u2', 3, data).score == pytest.approx(
        (user[2] @ item[3]).item(), abs=1e-12)
