import pytest
from hypothesis import given
from hypothesis import strategies as st
from item_data import make_data
from oracle import assert_close, dense_users

from diffmm_pyg.nn.models import random_walk
from diffmm_pyg.nn.models.random_walk import RandomWalk, walk_weights
from diffmm_pyg.utils import SparseRows

NUM_USERS, NUM_ITEMS = 9, 7


def naive_scores(x, num_hops, alpha, beta):
    r"""Step by step: from every user to items, back, and so on."""
    user_degree = x.sum(dim=1).clamp(min=1).view(-1, 1)
    item_degree = x.sum(dim=0).clamp(min=1)
    out = x
    for _ in range(num_hops):
        at_users = (out / item_degree**alpha) @ x.t()
        out = at_users @ (x / user_degree**alpha)
    return out / item_degree**beta


@given(seed=st.integers(0, 2**31), num_hops=st.integers(1, 4),
       alpha=st.sampled_from([0., 0.7, 1.]), beta=st.sampled_from([0., 0.4]))
def test_scores_equal_naive_ones(double, seed, num_hops, alpha, beta):
    data, x = make_data(seed, NUM_USERS, NUM_ITEMS)
    model = RandomWalk(NUM_USERS, NUM_ITEMS, num_hops, alpha, beta)
    user_emb, item_emb = model.embed(data)
    assert_close(dense_users(user_emb) @ item_emb.t(),
                 naive_scores(x, num_hops, alpha, beta))


@given(seed=st.integers(0, 2**31), num_hops=st.integers(1, 5))
def test_walks_end_somewhere(double, seed, num_hops):
    _, x = make_data(seed, NUM_USERS, NUM_ITEMS)
    rows = SparseRows.from_edge_index(x.nonzero().t(), NUM_USERS, NUM_ITEMS)
    total = walk_weights(rows, num_hops).sum(dim=0)
    assert_close(total, (x.sum(dim=0) > 0).double())


def test_blocks(double, monkeypatch):
    data, _ = make_data(1, NUM_USERS, NUM_ITEMS)
    model = RandomWalk(NUM_USERS, NUM_ITEMS, 3)
    expected = model.embed(data)[1]
    monkeypatch.setattr(random_walk, 'MAX_BLOCK_NUMEL', 20)
    assert_close(model.embed(data)[1], expected)


@pytest.mark.parametrize('kwargs', [{'num_hops': 0}, {'alpha': -1.},
                                    {'beta': -1.}], ids=str)
def test_errors(kwargs):
    name, = kwargs
    with pytest.raises(ValueError, match=f"'{name}' must lie in"):
        RandomWalk(3, 3, **kwargs)
