import pytest
import torch
from oracle import assert_close, generator, random_rows

from diffmm_pyg.diffusion import noisy_rows
from diffmm_pyg.diffusion.noisy_rows import NoisyRows, noisy_matmul

NUM_ROWS, NUM_COLS = 6, 11


def make(given, dropout=0.4, seed=(1, 2)):
    g = generator(0)
    rows, x0 = random_rows(NUM_ROWS, NUM_COLS, seed=3)
    signal = torch.rand(NUM_ROWS, generator=g)
    std = torch.rand(NUM_ROWS, generator=g)
    kwargs = {}
    if given:
        kwargs['noise'] = torch.randn(NUM_ROWS, NUM_COLS, generator=g)
        kwargs['mask'] = torch.rand(NUM_ROWS, NUM_COLS, generator=g) < 0.6
    return NoisyRows(rows, signal, std, dropout, seed, **kwargs), x0


def product(x, weight, factor):
    out, sq_norm = noisy_matmul(x, weight)
    grad, = torch.autograd.grad((factor * out).sum(), weight)
    assert not sq_norm.requires_grad
    return out, sq_norm, grad


@pytest.mark.parametrize('numel', [1, 4 * NUM_ROWS, 2**24])
def test_given_draws_equal_dense(double, monkeypatch, numel):
    monkeypatch.setattr(noisy_rows, 'MAX_BLOCK_NUMEL', numel)
    x, x0 = make(given=True)
    # No more in memory, but for a single column:
    assert x.block_size * NUM_ROWS <= max(numel, NUM_ROWS)
    weight = torch.randn(NUM_COLS, 3, requires_grad=True)
    factor = torch.randn(NUM_ROWS, 3)
    out, sq_norm, grad = product(x, weight, factor)

    x_t = x.signal.view(-1, 1) * x0 + x.std.view(-1, 1) * x.noise
    dropped = x_t * x.mask / 0.6
    assert_close(out, dropped @ weight)
    assert_close(sq_norm, x_t.square().sum(dim=1))
    assert_close(grad, dropped.t() @ factor)


@pytest.mark.parametrize('width', [1, 4, NUM_COLS])
def test_backward_repeats_the_draws(double, monkeypatch, width):
    monkeypatch.setattr(noisy_rows, 'MAX_BLOCK_NUMEL', width * NUM_ROWS)
    x, _ = make(given=False)
    # What the forward pass saw, from the product with the identity:
    seen = noisy_matmul(x, torch.eye(NUM_COLS))[0]
    weight = torch.randn(NUM_COLS, 3, requires_grad=True)
    factor = torch.randn(NUM_ROWS, 3)
    out, _, grad = product(x, weight, factor)
    assert_close(out, seen @ weight)
    assert_close(grad, seen.t() @ factor)
    assert (seen == 0).any() and (seen != 0).any()


def test_several_blocks_equal_one(double, monkeypatch):
    # Noise and mask of the blocks, handed to a single one.
    monkeypatch.setattr(noisy_rows, 'MAX_BLOCK_NUMEL', 4 * NUM_ROWS)
    x, x0 = make(given=False)
    weight = torch.randn(NUM_COLS, 3, requires_grad=True)
    factor = torch.randn(NUM_ROWS, 3)
    several = product(x, weight, factor)

    spans = [(0, 4), (4, 8), (8, NUM_COLS)]
    zeros = x._replace(signal=torch.zeros(NUM_ROWS), std=torch.ones(NUM_ROWS))
    noise = torch.cat([zeros._replace(dropout=0.).block(*s)[0] for s in spans],
                      dim=1)
    mask = torch.cat([zeros.block(*s)[0] != 0 for s in spans], dim=1)
    monkeypatch.setattr(noisy_rows, 'MAX_BLOCK_NUMEL', 2**24)
    one = product(x._replace(noise=noise, mask=mask), weight, factor)
    # A given mask keeps with the nominal probability, a drawn one nearly.
    ratio = x.keep_prob / 0.6
    assert_close(several[0] * ratio, one[0])
    assert_close(several[1], one[1])
    assert_close(several[2] * ratio, one[2])


def test_blocks_do_not_share_draws(monkeypatch):
    x, _ = make(given=False, dropout=0.)
    first, second = x.block(0, 4)[0], x.block(4, 8)[0]
    other = x._replace(seed=(1, 3)).block(0, 4)[0]
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, other)
    assert torch.equal(first, x.block(0, 4)[0])


def test_moments():
    rows, x0 = random_rows(200, 300, seed=0)
    x = NoisyRows(rows, torch.full((200, ), 2.), torch.full((200, ), 0.5),
                  dropout=0.25)
    out = noisy_matmul(x, torch.eye(300))[0]
    # Mean 2 x0, and by the law of total variance:
    for one in [0, 1]:
        entries = out[x0 == one]
        var = (0.25 + 4 * one) / 0.75 - 4 * one
        std = (var / entries.numel())**0.5
        assert abs(entries.mean() - 2 * one) < 5 * std
        assert abs(entries.var() / var - 1) < 0.05
        assert abs((entries == 0).float().mean() - 0.25) < 0.01
