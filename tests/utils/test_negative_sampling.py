import torch
from oracle import random_rows

from diffmm_pyg.utils import NegativeSampler, SparseRows, keyed_generator


def test_never_an_interaction():
    rows, dense = random_rows(20, 9, seed=0)
    sampler = NegativeSampler(rows)
    user = torch.arange(20).repeat(200)[torch.randperm(4000)]
    item = sampler(user, keyed_generator(0))
    assert item.min() >= 0 and item.max() < 9
    assert (dense[user, item] == 0).all()
    assert sampler.valid(user).all()


def test_uniform():
    # User 0 is left with items 0, 2 and 5; the last one has no history.
    edge_index = torch.tensor([[0, 0, 0, 1], [1, 3, 4, 5]])
    rows = SparseRows.from_edge_index(edge_index, 3, 6)
    sampler = NegativeSampler(rows)
    for user, left in [(0, [0, 2, 5]), (1, [0, 1, 2, 3, 4]),
                       (2, [0, 1, 2, 3, 4, 5])]:
        item = sampler(torch.full((30000, ), user), keyed_generator(1))
        count = item.bincount(minlength=6)
        assert count.nonzero().view(-1).tolist() == left
        p = 1 / len(left)
        std = (30000 * p * (1 - p))**0.5
        assert (count[left] - 30000 * p).abs().max() < 5 * std


def test_user_who_owns_everything():
    edge_index = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 1]])
    sampler = NegativeSampler(SparseRows.from_edge_index(edge_index, 2, 3))
    user = torch.tensor([0, 1, 0])
    assert sampler.valid(user).tolist() == [False, True, False]
    for seed in range(20):
        item = sampler(user, keyed_generator(seed))
        assert item.min() >= 0 and item.max() < 3
        assert item[1] != 1
        other = sampler.other_than(torch.tensor([2, 1, 0]), user,
                                   keyed_generator(seed))
        assert other.tolist() == [2, item[1], 0]


def test_same_generator_same_items():
    rows, _ = random_rows(20, 9, seed=0)
    sampler = NegativeSampler(rows)
    user = torch.arange(20)
    out = [sampler(user, keyed_generator(s)) for s in [3, 3, 4]]
    assert torch.equal(out[0], out[1]) and not torch.equal(out[0], out[2])


def test_the_last_item_left_of_a_large_catalogue():
    item = torch.arange(100000)
    rows = SparseRows.from_edge_index(
        torch.stack([torch.zeros_like(item), item])[:, item != 77777], 2,
        100000)
    out = NegativeSampler(rows)(torch.zeros(100).long(), keyed_generator(0))
    assert out.eq(77777).all()


def test_every_other_item():
    rows, dense = random_rows(20, 9, seed=0)
    user = torch.arange(20).repeat(200)
    item = NegativeSampler(rows)(user, keyed_generator(0))
    drawn = torch.zeros(20, 9).index_put((user, item), torch.ones(()))
    assert torch.equal(drawn, 1 - dense)
