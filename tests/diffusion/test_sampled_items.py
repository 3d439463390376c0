from itertools import combinations

import pytest
import torch
from oracle import assert_close, generator, random_rows

from diffmm_pyg.diffusion import noisy_rows
from diffmm_pyg.diffusion.noisy_rows import NoisyRows, noisy_matmul
from diffmm_pyg.diffusion.sampled_items import (
    SampledItems,
    sampled_noisy_matmul,
)
from diffmm_pyg.utils import SparseRows


def make(num_rows, num_items, given, dropout=0.25):
    g, (rows, x0) = generator(0), random_rows(num_rows, num_items, seed=1)
    size, kwargs = x0.size(), {}
    if given:
        kwargs['noise'] = torch.randn(size, generator=g)
        kwargs['mask'] = torch.rand(size, generator=g) < 0.7
    return NoisyRows(rows, torch.rand(num_rows, generator=g),
                     torch.rand(num_rows, generator=g), dropout, (1, 2),
                     **kwargs), x0


def test_items():
    edge_index = torch.tensor([[0, 0, 0, 2, 2], [1, 4, 6, 0, 4]])
    rows = SparseRows.from_edge_index(edge_index, 3, 7)
    items = SampledItems.from_sample(rows, torch.tensor([2, 3, 4]))
    assert items.touched.tolist() == [2, 3, 4, 0, 1, 6]
    assert items.rows.rowptr.tolist() == [0, 3, 3, 5]
    assert items.rows.col.tolist() == [2, 4, 5, 2, 3]
    # 4, 7 and 5 zeros, of which 2, 3 and 2 are in the sample:
    assert_close(items.num_zeros_per_sample, torch.tensor([2., 7 / 3, 2.5]))


def test_sample_of_ones_alone_stands_for_nothing():
    rows = SparseRows.from_edge_index(torch.tensor([[0, 0], [1, 2]]), 1, 3)
    items = SampledItems.from_sample(rows, torch.tensor([1]))
    assert items.num_zeros_per_sample.isfinite().all()


def test_every_sample_is_as_likely():
    rows, g = random_rows(3, 5, seed=0)[0], generator(0)
    count = {x: 0 for x in combinations(range(5), 2)}
    for _ in range(2000):
        items = SampledItems.draw(rows, 2, g)
        count[tuple(items.touched[:2].tolist())] += 1
    error = torch.tensor(list(count.values())) - 200
    assert error.abs().max() < 5 * (2000 * 0.1 * 0.9)**0.5


@pytest.mark.parametrize('width', [2, 100])
@pytest.mark.parametrize('num_sampled', [1, 5, 11])
def test_product_equals_dense(double, monkeypatch, num_sampled, width):
    monkeypatch.setattr(noisy_rows, 'MAX_BLOCK_NUMEL', 6 * width)
    x, x0 = make(6, 11, given=True)
    items = SampledItems.draw(x.rows, num_sampled, generator(0))
    weight = torch.randn(11, 3, generator=generator(1), requires_grad=True)
    out, sq_norm = sampled_noisy_matmul(x, items, weight)

    noise = torch.zeros_like(x0)
    sample = items.touched[:num_sampled]
    noise[:, sample] = (11 / num_sampled)**0.5 * x.noise[:, sample]
    x_t = x.signal.view(-1, 1) * x0 + x.std.view(-1, 1) * noise
    dropped = x_t * x.mask / 0.75
    assert_close(out, dropped @ weight)
    assert_close(sq_norm, x_t.square().sum(dim=1))
    factor = torch.randn(out.size(), generator=generator(2))
    grad, = torch.autograd.grad((factor * out).sum(), weight)
    assert_close(grad, dropped.t() @ factor)
    touched = torch.zeros(11, dtype=torch.bool).index_fill(0, items.touched,
                                                           True)
    assert torch.equal(grad.ne(0).any(dim=1), touched)


def test_all_items_draw_as_without_a_sample(double):
    x, _ = make(6, 11, given=False)
    items = SampledItems.draw(x.rows, 11, generator(0))
    weight = torch.randn(11, 3, generator=generator(1))
    for a, b in zip(sampled_noisy_matmul(x, items, weight),
                    noisy_matmul(x, weight), strict=True):
        assert_close(a, b)


def test_covariance_over_samples(double):
    x, _ = make(1, 6, given=False, dropout=0.)
    x = x._replace(signal=torch.zeros(1), std=torch.ones(1))
    weight = torch.randn(6, 2, generator=generator(1))
    outs, sq_norms = [], []
    for sample in combinations(range(6), 3):
        items = SampledItems.from_sample(x.rows, torch.tensor(sample))
        # One row per direction of the noise: their outer products add up to
        # the covariance.
        for noise in torch.eye(6).split(1):
            out, sq_norm = sampled_noisy_matmul(x._replace(noise=noise), items,
                                                weight)
            outs.append(out)
            sq_norms.append(sq_norm)
    out = torch.cat(outs)
    assert_close(out.t() @ out / 20, weight.t() @ weight)
    assert_close(torch.stack(sq_norms).sum() / 20, torch.tensor(6.))


def test_dropout_outside_of_the_sample():
    rows, x0 = random_rows(200, 300, seed=0)
    x = NoisyRows(rows, torch.full((200, ), 2.), torch.zeros(200),
                  dropout=0.25)
    items = SampledItems.draw(rows, 30, generator(0))
    out, sq_norm = sampled_noisy_matmul(x, items, torch.eye(300))
    assert_close(sq_norm, 4 * x0.sum(dim=1))
    assert (out[x0 == 0] == 0).all()
    out[:, items.touched[:30]] = 0
    x0[:, items.touched[:30]] = 0
    entries = out[x0 == 1]
    kept = (entries != 0).float().mean()
    assert abs(kept - 0.75) < 5 * (0.25 * 0.75 / entries.numel())**0.5
    assert_close(entries[entries != 0].unique(), torch.tensor([2 / 0.75]))
    # Nor does every row or item lose the same ones.
    again, _ = sampled_noisy_matmul(x._replace(seed=(1, )), items,
                                    torch.eye(300))
    assert not torch.equal(again[x0 == 1] != 0, entries != 0)
