import torch
from oracle import assert_close
from pairwise_problem import (
    CHANNELS,
    NUM_ITEMS,
    NUM_USERS,
    dense_adj,
    light_gcn,
    make,
    random_data,
)

from diffmm_pyg.nn.models.bm3 import BM3
from diffmm_pyg.nn.weighted_adj import normalized_adj
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils.random import keyed_dropout

KEY = (0, 0, 0, 0)


def textbook_embeddings(model, data):
    user, item = light_gcn(model, dense_adj(data[INTERACTS].edge_index))
    return user, item + model.item_embedding.weight


def sorted_edges(data):
    edge_index = data[INTERACTS].edge_index
    order = (edge_index[0] * NUM_ITEMS + edge_index[1]).argsort()
    return edge_index[:, order]


def textbook_losses(model, data, index, batch_size):
    r"""Eqs. 7 to 10 of the paper, one interaction at a time."""
    def predict(x):
        return model.predictor.weight @ x + model.predictor.bias

    def c(x, y):
        return -(x @ y) / (x.norm() * y.norm())

    edges = sorted_edges(data)[:, index]
    users, items = textbook_embeddings(model, data)
    users, items = users[edges[0]], items[edges[1]]
    contents = {
        m: data['item'][f'x_{m}'][edges[1]] @ model.lins[m].weight.t() +
        model.lins[m].bias
        for m in CHANNELS
    }
    targets = [
        keyed_dropout(x.detach(), model.dropout, *KEY, i)
        for i, x in enumerate([users, items, *contents.values()])
    ]
    out = {name: 0. for name in ['rec', 'align', 'mask', 'reg']}
    for n, i in enumerate(edges[1].tolist()):
        out['rec'] += c(predict(users[n]), targets[1][n])
        out['rec'] += c(predict(items[n]), targets[0][n])
        out['reg'] += model.reg_weight * ((users[n]**2).sum() +
                                          (items[n]**2).sum())
        for k, (m, content) in enumerate(contents.items()):
            if f'has_{m}' not in data['item'] or data['item'][f'has_{m}'][i]:
                x, weight = predict(content[n]), model.align_weight
                out['align'] += weight * c(x, targets[1][n])
                out['mask'] += weight * c(x, targets[2 + k][n])
    return {name: value / batch_size for name, value in out.items()}


def test_forward_equals_dense_formula(double, sparse):
    data = random_data()
    edge_index = data[INTERACTS].edge_index
    model = make(BM3, data, num_layers=2)
    out = model(normalized_adj(edge_index, NUM_USERS, NUM_ITEMS, sparse))
    expected = textbook_embeddings(model, data)
    for a, b, emb in zip(out, expected, model.embed(data), strict=True):
        assert_close(a, b)
        assert_close(emb, b @ model.predictor.weight.t() +
                     model.predictor.bias)


def test_loss_equals_definition(double):
    index = torch.arange(0, 25, 2)
    for masked in [True, False]:
        data = random_data(masked)
        # Wide enough for no target to lose all its entries.
        model = make(BM3, data, hidden_channels=16, align_weight=0.7,
                     reg_weight=0.25, dropout=0.4)
        phase, = model.phases(data)
        losses = phase.loss(index, 8, KEY)
        expected = textbook_losses(model, data, index, 8)
        assert set(losses) == {'loss', *expected}
        for name, value in expected.items():
            assert_close(losses[name], value, what=name)
        for name, p in model.named_parameters():
            grads = [torch.autograd.grad(x, p, retain_graph=True)[0]
                     for x in (losses['loss'], sum(expected.values()))]
            assert_close(*grads, what=name)


def test_loss_of_equal_embeddings_is_known(double):
    # All cosines are 1: two terms of users and items, two per modality.
    model = BM3(3, 3, {'a': 2, 'b': 2}, hidden_channels=2, dropout=0.,
                align_weight=10., reg_weight=1.)
    with torch.no_grad():
        for lin in [*model.lins.values(), model.predictor]:
            lin.weight.copy_(torch.eye(2))
            lin.bias.zero_()
    x = torch.tensor([[3., 4.]]).repeat(4, 1)
    out = model.loss(x, 2 * x, {'a': x, 'b': 5 * x}, KEY)
    assert_close(out['rec'], torch.tensor(-2.))
    assert_close(out['align'], torch.tensor(-20.))
    assert_close(out['mask'], torch.tensor(-20.))
    assert_close(out['reg'], torch.tensor(125.))
    half = torch.tensor([True, False, True, False])
    out = model.loss(x, 2 * x, {'a': x, 'b': 5 * x}, KEY, 8, {'a': half})
    assert_close(out['rec'], torch.tensor(-1.))
    assert_close(out['align'], torch.tensor(-7.5))
    assert_close(out['mask'], torch.tensor(-7.5))


def test_targets_have_no_gradient(double):
    model = BM3(3, 3, {'a': 2}, hidden_channels=2, align_weight=0.,
                reg_weight=0.)
    user, item = torch.randn(2, 4, 2).unbind()
    model.predictor.weight.data.zero_()
    model.predictor.bias.data.fill_(1.)
    user.requires_grad_()
    item.requires_grad_()
    # Predictions that are constant leave targets to take a gradient, if any.
    loss = model.loss(user, item, {'a': torch.randn(4, 2)}, KEY)['loss']
    assert not torch.autograd.grad(loss, user, retain_graph=True)[0].any()
    assert not torch.autograd.grad(loss, item)[0].any()


def test_features_that_an_item_lacks_do_not_count():
    data = random_data()
    model = make(BM3, data)
    losses = []
    for value in [0., 100.]:
        data['item'].x_text[:2] = value
        phase, = model.phases(data)
        losses.append(phase.loss(torch.arange(25), 25, KEY)['loss'])
    assert losses[0] == losses[1]
