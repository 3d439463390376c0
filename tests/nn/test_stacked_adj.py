import pytest
import torch
from oracle import assert_close, generator

from diffmm_pyg.nn import ModalityConv, StackedAdj
from diffmm_pyg.testing import textbook

U, I = 5, 4
# Unsorted; user 4 and item 3 are isolated:
EDGE_INDEX = torch.tensor([[2, 0, 1, 0, 3], [1, 0, 1, 2, 0]])


def matmul(adj, x):
    return ModalityConv()(x, *adj)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('dropout', [0., 0.4])
def test_equals_textbook(double, sparse, weighted, dropout):
    weight = torch.rand(5, requires_grad=True) if weighted else None
    x = torch.randn(U + I, 3, requires_grad=True)
    adj = StackedAdj.from_edge_index(EDGE_INDEX, U, I, weight, dropout,
                                       generator(7), sparse=sparse)
    out = matmul(adj, x)

    # Edges to users, edges to items, users, items: drawn in that order.
    g = generator(7)
    draw = torch.cat([torch.rand(n, generator=g) for n in [5, 5, U, I]])
    multiplier = (draw >= dropout).double() / (1 - dropout)
    expected = textbook.normalized_adjacency(
        EDGE_INDEX, U, I, weight, multiplier=multiplier,
        dtype=torch.double) @ x
    assert_close(out, expected)
    factor = torch.randn(out.size())
    params = [x, weight] if weighted else [x]
    for a, b in zip(torch.autograd.grad((factor * out).sum(), params),
                    torch.autograd.grad((factor * expected).sum(), params),
                    strict=True):
        assert_close(a, b)


def test_without_edges(sparse):
    adj = StackedAdj.from_edge_index(EDGE_INDEX[:, :0], U, I, sparse=sparse)
    x = torch.randn(U + I, 3, requires_grad=True)
    out = matmul(adj, x)
    assert torch.equal(out, x)
    out.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_dropout_statistics():
    edge_index = torch.stack([torch.arange(20000)] * 2)
    adj = StackedAdj.from_edge_index(edge_index, 20000, 20000,
                                       dropout=0.3, generator=generator(0),
                                       sparse=False)
    parts = adj.edge_weight.split(20000)
    for x in parts:  # All entries are 1/2 before dropout.
        kept = x != 0
        assert_close(x[kept], torch.full_like(x[kept], 0.5 / 0.7))
        assert abs(kept.double().mean() - 0.7) < 5 * (0.21 / 20000)**0.5
    kept = torch.stack(parts).ne(0).double()
    corr = torch.corrcoef(kept) - torch.eye(4)
    assert corr.abs().max() < 0.04
