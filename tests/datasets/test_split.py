import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmm_pyg.datasets import split_edges
from diffmm_pyg.errors import ConfigError, DataError


def edges(degrees):
    user = torch.arange(len(degrees)).repeat_interleave(torch.tensor(degrees))
    return torch.stack([user, torch.cat([torch.arange(d) for d in degrees])])


def pairs(edge_index):
    return set(map(tuple, edge_index.t().tolist()))


@settings(max_examples=60, deadline=None)
@given(degrees=st.lists(st.integers(1, 25), min_size=1, max_size=8),
       ratios=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
       seed=st.integers(0, 5))
def test_split_edges_partitions(degrees, ratios, seed):
    edge_index = edges(degrees)
    if sum(ratios) >= 1:
        with pytest.raises(ConfigError, match='less than 1 together'):
            split_edges(edge_index, *ratios, seed=seed)
        return
    splits = split_edges(edge_index, *ratios, seed=seed)
    assert sum(s.size(1) for s in splits) == edge_index.size(1)
    assert set.union(*map(pairs, splits)) == pairs(edge_index)
    counts = [s[0].bincount(minlength=len(degrees)).tolist() for s in splits]
    for degree, num_train, num_val, num_test in zip(degrees, *counts):
        assert num_train >= 1
        if degree < 3:
            assert num_train == degree
        elif min(ratios) > 0:
            assert num_test == min(max(1, int(ratios[1] * degree)), degree - 1)
            assert num_val <= max(1, int(ratios[0] * degree))


@pytest.mark.parametrize('degree, num_train, num_val, num_test', [
    (1, 1, 0, 0),
    (2, 2, 0, 0),
    (3, 1, 1, 1),
    (10, 8, 1, 1),
    (19, 17, 1, 1),
    (30, 24, 3, 3),
])
def test_split_edges_sizes(degree, num_train, num_val, num_test):
    sizes = [s.size(1) for s in split_edges(edges([degree]))]
    assert sizes == [num_train, num_val, num_test]


def test_split_edges_without_a_split():
    train, val, test = split_edges(edges([10, 5]), val_ratio=0.)
    assert [train.size(1), val.size(1), test.size(1)] == [13, 0, 2]


def test_split_edges_by_time():
    edge_index = edges([5, 5])
    time = torch.tensor([50, 10, 40, 20, 30, 1, 2, 3, 4, 5])
    train, val, test = split_edges(edge_index, 0.2, 0.2, time=time)
    assert pairs(test) == {(0, 0), (1, 4)}
    assert pairs(val) == {(0, 2), (1, 3)}


def test_split_edges_by_time_of_any_shape():
    edge_index, time = edges([5, 5]), torch.randperm(10)
    for a, b in zip(split_edges(edge_index, time=time),
                    split_edges(edge_index, time=time.view(-1, 1))):
        assert a.equal(b)
    with pytest.raises(DataError, match=r"\[10, 2\]; it must be \[10\], one"):
        split_edges(edge_index, time=torch.ones(10, 2))


def test_split_edges_depends_on_the_seed_only():
    edge_index = edges([20] * 30)
    a, b, c = [split_edges(edge_index, seed=seed)[2] for seed in [0, 0, 1]]
    assert a.equal(b)
    assert pairs(a) != pairs(c)
    # Every position is withheld for some user: the choice is random.
    assert len(set(torch.cat([a, c], 1)[1].tolist())) > 15
