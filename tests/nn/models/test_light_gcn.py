import pytest
import torch
from oracle import assert_close
from pairwise_problem import (
    NUM_ITEMS,
    NUM_USERS,
    Step,
    dense_adj,
    light_gcn,
    make,
    random_data,
)

from diffmm_pyg.nn.models.light_gcn import LightGCN
from diffmm_pyg.nn.weighted_adj import normalized_adj, weighted_adj
from diffmm_pyg.typing import INTERACTS
from torch_geometric import nn
from torch_geometric.typing import SparseTensor


@pytest.mark.parametrize('num_layers', [0, 1, 3])
def test_forward_equals_dense_formula(double, sparse, num_layers):
    data = random_data()
    edge_index = data[INTERACTS].edge_index
    model = make(LightGCN, data, num_layers=num_layers)
    out = model(normalized_adj(edge_index, NUM_USERS, NUM_ITEMS, sparse))
    expected = light_gcn(model, dense_adj(edge_index))
    for a, b, c in zip(out, expected, model.embed(data), strict=True):
        assert_close(a, b)
        assert_close(c, b)
    factors = [torch.randn_like(x) for x in out]
    for p in model.parameters():
        grads = [torch.autograd.grad(
            sum((f * x).sum() for f, x in zip(factors, xs, strict=True)), p,
            retain_graph=True)[0] for xs in (out, expected)]
        assert_close(*grads)


def test_forward_equals_that_of_pyg(double):
    data = random_data()
    model = make(LightGCN, data, num_layers=2)
    user, item = data[INTERACTS].edge_index
    both = torch.stack([torch.cat([user, item + NUM_USERS]),
                        torch.cat([item + NUM_USERS, user])])
    other = nn.LightGCN(NUM_USERS + NUM_ITEMS, 4, num_layers=2)
    other.embedding.weight = torch.nn.Parameter(model.embedding.detach())
    assert_close(torch.cat(model.embed(data)), other.get_embedding(both))


def test_loss_equals_definition(double):
    data = random_data()
    model = make(LightGCN, data, reg_weight=0.25)
    step = Step(model, data)
    out = light_gcn(model, dense_adj(data[INTERACTS].edge_index))
    # Norms are those of embeddings before the layers.
    ego = model.user_embedding.weight, model.item_embedding.weight
    expected = {'bpr': step.bpr(*out), 'reg': 0.25 * step.reg(*ego)}
    for name, value in expected.items():
        assert_close(step.losses[name], value, what=name)
    for p in ego:
        grads = [torch.autograd.grad(x, p, retain_graph=True)[0]
                 for x in (step.losses['loss'], sum(expected.values()))]
        assert_close(*grads)


def test_who_learns_from_a_triplet():
    data = random_data()
    model = make(LightGCN, data, reg_weight=0.)
    step = Step(model, data, index=torch.tensor([0]))
    step.losses['loss'].backward()
    moved = (model.user_embedding.weight.grad != 0).any(dim=1)
    likes = torch.zeros(NUM_USERS, NUM_ITEMS)
    likes[tuple(data[INTERACTS].edge_index)] = 1
    # Two layers reach who likes its items, and who shares items with its user.
    near = likes[:, [int(step.pos), int(step.neg)]].sum(dim=1) > 0
    near |= (likes @ likes[int(step.user)]) > 0
    assert torch.equal(moved, near) and 1 < near.sum() < NUM_USERS


def test_direction_of_edges(sparse):
    # Node 2 receives from 0 with weight 3, and 0 nothing.
    adj, weight = weighted_adj(torch.tensor([[0], [2]]), torch.tensor([3.]),
                               4, sparse)
    assert isinstance(adj, SparseTensor) == sparse
    model = LightGCN(2, 2, hidden_channels=1)
    x = torch.tensor([[1.], [10.], [100.], [1000.]])
    out = model.conv(x, adj, weight)
    assert out.view(-1).tolist() == [0., 0., 3., 0.]
