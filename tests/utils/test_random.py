import json
import random

import numpy as np
import pytest
import torch

from diffmm_pyg.utils import dropout_mask, keyed_generator
from diffmm_pyg.utils.random import (
    global_random_state,
    keyed_dropout,
    quantized_keep,
    quantized_threshold,
    random_ranks,
    set_global_random_state,
)


def draw(*key):
    return torch.rand(4, generator=keyed_generator(*key)).tolist()


def test_keyed_generator():
    assert draw(1, 2, 3) == draw(1, 2, 3)
    # Negative seeds do not exist; large ones do.
    assert draw(2**40) != draw(2**40 + 1) != draw(2**41)


@pytest.mark.parametrize('keys', [
    [(0, ), (1, ), (2, )],
    [(1, 2), (2, 1)],
    [(1, ), (1, 1), (1, 1, 1)],
    # A batch and its first block, a phase and its first step:
    [(0, ), (0, 0), (0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0, 0)],
    [(3, 1), (3, 1, 0), (3, 1, 0, 0)],
], ids=str)
def test_different_keys_have_different_streams(keys):
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


@pytest.mark.parametrize('p', [0., 0.1, 0.25, 0.5, 0.7, 0.999])
def test_dropout_mask(p):
    keep = quantized_keep(p)
    assert abs(keep - (1 - p)) <= 2**-16
    num = 1000 * 1001
    mask = dropout_mask(1000, 1001, p, keyed_generator(0))
    assert mask.size() == (1000, 1001) and mask.dtype == torch.bool
    std = (keep * (1 - keep) / num)**0.5
    assert abs(mask.double().mean() - keep) <= 5 * std


def test_keep_probability_is_exact():
    # All 16-bit draws once: what is kept is what `quantized_keep` says.
    draws = torch.arange(-2**15, 2**15)
    for p in [0., 1 / 3, 0.5, 0.9, 2**-16]:
        kept = (draws >= quantized_threshold(p)).double().mean()
        assert kept == quantized_keep(p)
    assert quantized_keep(0.) == 1.
    assert quantized_keep(0.5) == 0.5


@pytest.mark.parametrize('size', [(1, 1), (3, 5), (2, 4), (0, 3)])
def test_dropout_mask_sizes(size):
    assert dropout_mask(*size, 0., keyed_generator(0)).all()
    assert dropout_mask(*size, 0.5, keyed_generator(0)).size() == size


def test_dropout_mask_entries_are_independent():
    # Four entries share 64 bits.
    mask = dropout_mask(100000, 4, 0.3, keyed_generator(1)).double()
    corr = torch.corrcoef(mask.t()) - torch.eye(4)
    assert corr.abs().max() < 0.02
    assert (mask.mean(dim=0) - 0.7).abs().max() < 0.01


def test_global_random_state():
    def draws():
        return [random.gauss(0, 1), np.random.randn(), torch.rand(1).item()]

    draws()  # Of the pairs that some draw, one number is left for later.
    state = json.loads(json.dumps(global_random_state()))
    expected = draws() + draws()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    set_global_random_state(state)
    assert draws() + draws() == expected


def test_keyed_dropout():
    x = torch.rand(200, 100) + 1
    assert keyed_dropout(x, 0., 1, 2) is x
    out = keyed_dropout(x, 0.25, 1, 2)
    kept = out != 0
    assert abs(kept.float().mean() - 0.75) < 0.01
    torch.testing.assert_close(out[kept], x[kept] / 0.75)
    assert torch.equal(out, keyed_dropout(x, 0.25, 1, 2))
    assert not torch.equal(out, keyed_dropout(x, 0.25, 1, 3))


def test_random_ranks():
    row = torch.tensor([2, 0, 2, 2, 0, 5])
    count = row.bincount()
    rowptr = count.cumsum(0) - count
    seen = set()
    for seed in range(200):
        ranks = random_ranks(row, rowptr, keyed_generator(seed))
        for r, n in [(0, 2), (2, 3), (5, 1)]:
            assert sorted(ranks[row == r].tolist()) == list(range(n))
        seen.add(tuple(ranks.tolist()))
    assert len(seen) == 12  # All orders of two and of three, about as often:
    first = [int(random_ranks(row, rowptr, keyed_generator(seed))[0])
             for seed in range(600)]
    assert all(abs(first.count(i) - 200) < 60 for i in range(3))
