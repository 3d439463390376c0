import pytest
import torch
from oracle import assert_close, generator

from diffmm_pyg.utils.chunked_loss import chunked_loss


@pytest.mark.parametrize('chunk_size', [1, 3, 7, 100])
def test_equals_whole(double, chunk_size):
    g = generator(0)
    rows = torch.randn(7, 4, generator=g, requires_grad=True)
    weight = torch.randn(4, 3, generator=g, requires_grad=True)
    bias = torch.randn(3, generator=g, requires_grad=True)
    factor = torch.randn(7, 1, generator=g)
    sizes = []

    def fn(start, end, x, w, b):
        sizes.append(end - start)
        out = factor[start:end] * torch.tanh(x @ w + b)
        return torch.stack([out.sum(), out.square().sum()])

    loss, parts = chunked_loss(fn, rows, weight, bias, chunk_size=chunk_size)
    assert sum(sizes) == 7 and max(sizes) <= chunk_size
    expected = fn(0, 7, rows, weight, bias)
    assert_close(parts, expected)
    assert_close(loss, expected.sum())
    assert not parts.requires_grad
    params = [rows, weight, bias]
    for a, b in zip(torch.autograd.grad(2 * loss, params),
                    torch.autograd.grad(2 * expected.sum(), params),
                    strict=True):
        assert_close(a, b)


def test_gradient_passes_through_what_made_the_rows(double):
    x = torch.randn(5, 2, requires_grad=True)
    w = torch.randn(2, requires_grad=True)
    loss, _ = chunked_loss(lambda s, e, rows, w: (rows @ w).square().sum()
                           .view(1), x.exp(), w, chunk_size=2)
    expected = (x.exp() @ w).square().sum()
    assert_close(torch.autograd.grad(loss, x)[0],
                 torch.autograd.grad(expected, x)[0])
