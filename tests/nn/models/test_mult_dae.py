import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from item_data import make_data
from oracle import assert_close, generator, random_rows

from diffmm_pyg.nn.models.mult_dae import MultDAE
from diffmm_pyg.utils import SparseRows
from diffmm_pyg.utils.random import (
    dropout_mask,
    keyed_generator,
    quantized_keep,
)


def make_model(num_users, num_items, seed, **kwargs):
    out, g = MultDAE(num_users, num_items, 4, **kwargs), generator(seed)
    with torch.no_grad():
        for p in out.parameters():
            p.copy_(torch.randn(p.size(), generator=g))
    return out


def naive_logits(model, x, factor):
    x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12) * factor
    h = torch.tanh(x @ model.weight_in + model.bias_in)
    return h @ model.weight_out.t() + model.bias_out


@given(seed=st.integers(0, 2**31), num_rows=st.integers(1, 8),
       num_items=st.integers(1, 8), dropout=st.sampled_from([0., 0.3]),
       reg_weight=st.sampled_from([0., 0.1]), training=st.booleans())
def test_loss_equals_dense(double, seed, num_rows, num_items, dropout,
                           reg_weight, training):
    rows, x = random_rows(num_rows, num_items, seed)
    model = make_model(num_rows, num_items, seed, dropout=dropout,
                       reg_weight=reg_weight)
    model.train(training)
    factor = torch.ones_like(x)
    if training and dropout > 0:
        mask = dropout_mask(1, rows.col.numel(), dropout,
                            keyed_generator(5, seed))
        factor[rows.row, rows.col] = mask[0] / quantized_keep(dropout)
    log_prob = naive_logits(model, x, factor).log_softmax(dim=1)
    expected = -(x * log_prob).sum(dim=1).mean() + reg_weight * (
        model.weight_in.norm()**2 + model.weight_out.norm()**2)
    loss = model.loss(rows, (5, seed))['loss']
    assert_close(loss, expected)
    params = list(model.parameters())
    # Of one item, the loss is zero whatever the parameters.
    for a, b in zip(torch.autograd.grad(loss, params),
                    torch.autograd.grad(expected, params), strict=True):
        assert_close(a, b, floor=1.)


def test_equal_rows_are_embedded_once(monkeypatch):
    # Three rows of one item and two empty ones, of which dropout makes more.
    rows = SparseRows(torch.tensor([0, 1, 2, 2, 3, 5, 5]),
                      torch.tensor([2, 2, 2, 0, 1]), 7)
    model = make_model(6, 7, seed=0, dropout=0.5)
    numbers = []
    forward = model.forward
    monkeypatch.setattr(model, 'forward', lambda rows, *args: numbers.append(
        rows.num_rows) or forward(rows, *args))
    model.eval().loss(rows)
    model.train().loss(rows, (1, ))
    assert numbers[0] == 3 and 1 <= numbers[1] <= 4


def test_embed(double):
    data, x = make_data(0, 9, 7)
    model = make_model(9, 7, seed=1).train()
    user, item = model.embed(data)  # Nothing is dropped here.
    assert_close(user @ item.t(), naive_logits(model, x, 1.))


def test_dropout_is_keyed_and_for_training_only():
    rows, _ = random_rows(20, 30, seed=0)
    model = make_model(20, 30, seed=0)
    losses = [model.loss(rows, key)['loss'] for key in [(1, ), (1, ), (2, )]]
    assert losses[0] == losses[1] != losses[2]
    model.eval()
    assert model.loss(rows, (1, ))['loss'] == model.loss(rows, (2, ))['loss']


def test_phase_covers_all_parameters():
    data, _ = make_data(0, 9, 7)
    model = make_model(9, 7, seed=0)
    phase, = model.phases(data)
    assert phase.num_examples == 9
    assert {id(p) for p in phase.parameters} == \
        {id(p) for p in model.parameters()}
    index = torch.tensor([4, 2])
    loss = phase.loss(index, 5, (3, ))['loss']
    assert loss == model.loss(model.rows(data).select(index), (3, ))['loss']
    loss.backward()
    assert all((p.grad != 0).any() for p in model.parameters())


def test_initialization():
    model = MultDAE(3, 400)
    assert str(model) == 'MultDAE(3, 400, hidden_channels=200)'
    for weight in [model.weight_in, model.weight_out]:
        assert abs(weight.std() / (2 / 600)**0.5 - 1) < 0.05
    assert abs(model.bias_out.std() / 1e-3 - 1) < 0.15


@pytest.mark.parametrize('value', [-0.1, 1., 1 - 1e-9])
def test_dropout_out_of_range(value):
    with pytest.raises(ValueError, match="'dropout'"):
        MultDAE(3, 3, dropout=value)
