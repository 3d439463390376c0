import numpy as np
import torch
from oracle import assert_close
from pairwise_problem import NUM_ITEMS, NUM_USERS, Step, make, random_data

from diffmm_pyg.nn.models.bpr_mf import BPRMF
from diffmm_pyg.nn.models.ngcf import NGCF
from diffmm_pyg.nn.models.pairwise import bpr_phase, squared_norm, total_loss
from diffmm_pyg.typing import INTERACTS


def test_loss_of_matrix_factorization_equals_definition(double):
    data = random_data()
    model = make(BPRMF, data, reg_weight=0.25)
    user, item = model.user_embedding.weight, model.item_embedding.weight
    step = Step(model, data)
    expected = {'bpr': step.bpr(user, item),
                'reg': 0.25 * step.reg(user, item)}
    assert set(step.losses) == {'loss', *expected}
    for name, value in expected.items():
        assert_close(step.losses[name], value, what=name)
    for p in [user, item]:
        grads = [torch.autograd.grad(x, p, retain_graph=True)[0]
                 for x in (step.losses['loss'], sum(expected.values()))]
        assert_close(*grads)
    assert all(torch.equal(a, b)
               for a, b in zip(model.embed(data), [user, item]))


def test_gradient_of_one_triplet(double):
    # Closed form: with s = sigmoid(-x), dL/du = s (q - p) + 2 reg u, ...
    data = random_data()
    model = make(BPRMF, data, reg_weight=0.5)
    step = Step(model, data, index=torch.tensor([4]), batch_size=1)
    u, i, j = (int(x) for x in (step.user, step.pos, step.neg))
    assert i != j
    step.losses['loss'].backward()
    x = model.user_embedding.weight.detach()[u]
    p, q = model.item_embedding.weight.detach()[[i, j]]
    s = torch.sigmoid(-(x @ p - x @ q))
    grad_user = torch.zeros(NUM_USERS, 4)
    grad_item = torch.zeros(NUM_ITEMS, 4)
    grad_user[u] = s * (q - p) + x
    grad_item[i], grad_item[j] = -s * x + p, s * x + q
    assert_close(model.user_embedding.weight.grad, grad_user)
    assert_close(model.item_embedding.weight.grad, grad_item)


def phase_of(model, data, **kwargs):
    return bpr_phase(model, data, lambda u, i, key: model(u, i), **kwargs)


def test_tables_of_a_batch(double):
    data = random_data()
    model = make(BPRMF, data, reg_weight=0.5)
    other = torch.nn.Embedding(NUM_USERS, 2)
    phase = phase_of(model, data, user_tables=[model.user_embedding, other])
    plain, both = (x.loss(torch.tensor([3, 5]), 2, (0, 0, 0, 0))['reg']
                   for x in (phase_of(model, data), phase))
    user = data[INTERACTS].edge_index[0, [3, 5]]
    extra = 0.5 * (other.weight[user]**2).sum() / 2
    assert_close(both - plain, extra.detach())


def test_triplets_that_extra_losses_see(double):
    data = random_data()
    model = make(BPRMF, data, reg_weight=0.)
    seen = []

    def extra(batch):
        seen.append(batch)
        return {'extra': 2 * batch.x_user.sum()}

    index, key = torch.arange(20), (0, 3, 0, 1)
    phase = phase_of(model, data, extra_losses=extra)
    losses = phase.loss(index, 7, key)
    step = Step(model, data, key, index, batch_size=7)
    assert_close(losses['loss'], step.losses['bpr'] + losses['extra'])
    batch, = seen
    assert batch.batch_size == 7
    for actual, expected in [(batch.user, step.user),
                             (batch.pos_item, step.pos),
                             (batch.neg_item, step.neg)]:
        assert torch.equal(actual, expected)
    assert torch.equal(batch.x_user, model.user_embedding.weight[step.user])


def test_negatives_are_unknown_items():
    data = random_data()
    edges = set(map(tuple, data[INTERACTS].edge_index.t().tolist()))
    model, drawn = make(BPRMF, data), set()
    for step in range(30):
        out = Step(model, data, (0, 0, 0, step), torch.arange(len(edges)))
        drawn |= set(zip(out.user.tolist(), out.neg.tolist(), strict=True))
    full = {(3, i) for i in range(NUM_ITEMS)}
    users = {u for u, _ in edges}
    every = {(u, i) for u in users for i in range(NUM_ITEMS)}
    assert drawn == every - edges | full


def test_duplicate_edges_count_once(double):
    data = random_data()
    model = make(BPRMF, data)
    phase, = model.phases(data)
    edge_index = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = torch.cat([edge_index, edge_index], dim=1)
    assert model.phases(data)[0].num_examples == phase.num_examples


def test_draws_have_keys_of_their_own(monkeypatch):
    # Two draws from one stream would depend on each other.
    states, sequence = [], np.random.SeedSequence

    def recorded(entropy):
        out = sequence(entropy)
        states.append(int(out.generate_state(1, np.uint64)[0]))
        return out

    monkeypatch.setattr(np.random, 'SeedSequence', recorded)
    data = random_data()
    phase, = make(NGCF, data, num_layers=2).phases(data)
    for step in range(3):
        phase.loss(torch.arange(4), 4, (0, 0, 0, step))
    assert len(states) == len(set(states)) == 9


def test_total_loss():
    a, b = torch.tensor(2., requires_grad=True), torch.tensor(3.)
    out = total_loss({'a': a, 'b': b})
    assert out['loss'] == 5 and out['a'] == 2 and out['b'] == 3
    out['loss'].backward()
    assert a.grad == 1 and not out['a'].requires_grad
    assert squared_norm([torch.tensor([1., -2.]), b]) == 14
