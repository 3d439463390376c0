import pytest
import torch
from oracle import assert_close
from pairwise_problem import (
    NUM_ITEMS,
    NUM_USERS,
    Step,
    dense_adj,
    make,
    random_data,
)

from diffmm_pyg.nn.models.ngcf import NGCF
from diffmm_pyg.nn.weighted_adj import normalized_adj
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils.random import keyed_dropout


def textbook_ngcf(model, adj, key=None):
    r"""Eqs. 3 and 4 of the paper, message by message."""
    x = model.embedding
    outs = [x]
    for layer in range(model.num_layers):
        weight1 = model.lins_sum[layer].weight
        weight2 = model.lins_product[layer].weight
        rows = []
        for i in range(x.size(0)):
            total = weight1 @ x[i]
            for j in adj[i].nonzero().view(-1).tolist():
                total = total + adj[i, j] * (weight1 @ x[j] +
                                             weight2 @ (x[i] * x[j]))
            rows.append(torch.where(total > 0, total, 0.2 * total))
        x = torch.stack(rows)
        if key is not None:
            x = keyed_dropout(x, model.dropout, *key, layer)
        outs.append(x)
    return torch.cat(outs, dim=1).split([NUM_USERS, NUM_ITEMS])


@pytest.mark.parametrize('num_layers', [0, 1, 2])
@pytest.mark.parametrize('key', [None, (4, 2)])
def test_forward_equals_messages(double, sparse, num_layers, key):
    data = random_data()
    edge_index = data[INTERACTS].edge_index
    model = make(NGCF, data, num_layers=num_layers, dropout=0.4)
    adj = normalized_adj(edge_index, NUM_USERS, NUM_ITEMS, sparse)
    out = model(adj, key)
    expected = textbook_ngcf(model, dense_adj(edge_index), key)
    for a, b in zip(out, expected, strict=True):
        assert a.size(1) == 4 * (num_layers + 1)
        assert_close(a, b)
    if key is None:
        for a, b in zip(model.embed(data), expected, strict=True):
            assert_close(a, b)


def test_loss_equals_definition(double):
    data = random_data()
    model = make(NGCF, data, num_layers=2, reg_weight=0.25, dropout=0.4)
    key = (0, 0, 0, 5)
    step = Step(model, data, key)
    out = textbook_ngcf(model, dense_adj(data[INTERACTS].edge_index), key)
    weights = [p for name, p in model.named_parameters() if 'lins' in name]
    assert len(weights) == 4
    expected = {
        'bpr': step.bpr(*out),
        'reg': 0.25 * step.reg(model.user_embedding.weight,
                               model.item_embedding.weight),
        'reg_weights': 0.25 * sum((p**2).sum() for p in weights),
    }
    assert set(step.losses) == {'loss', *expected}
    for name, value in expected.items():
        assert_close(step.losses[name], value, what=name)
    for name, p in model.named_parameters():
        grads = [torch.autograd.grad(x, p, retain_graph=True)[0]
                 for x in (step.losses['loss'], sum(expected.values()))]
        assert_close(*grads, what=name)
