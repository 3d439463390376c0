import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator

from diffmm_pyg.transforms.item_knn_graph import item_knn_graph
from diffmm_pyg.utils import topk
from torch_geometric.utils import to_dense_adj


def dense(edges, num_items):
    r"""The matrix whose rows are what an item receives."""
    return to_dense_adj(edges[0], edge_attr=edges[1],
                        max_num_nodes=num_items)[0].t()


def expected(x, k, mask=None, loop=False, weighted=True, normalize=True):
    num_items = x.size(0)
    mask = torch.ones(num_items).bool() if mask is None else mask
    out = torch.zeros(num_items, num_items, dtype=x.dtype)
    for i in mask.nonzero().view(-1).tolist():
        scores = {
            j: float(x[i] @ x[j] / x[i].norm() / x[j].norm())
            for j in mask.nonzero().view(-1).tolist() if loop or i != j
        }
        for j in sorted(scores, key=scores.get, reverse=True)[:k]:
            if scores[j] > 0:
                out[i, j] = scores[j] if weighted else 1.
    if normalize:
        degree = out.sum(dim=1)
        for i, j in out.nonzero().tolist():
            out[i, j] = out[i, j] / (degree[i] * degree[j]).sqrt()
    return out


@given(num_items=st.integers(1, 12), k=st.integers(1, 13),
       masked=st.booleans(), loop=st.booleans(), weighted=st.booleans(),
       normalize=st.booleans(), seed=st.integers(0, 2**31))
def test_equals_dense_oracle(num_items, k, masked, seed, **kwargs):
    g = generator(seed)
    x = torch.randn(num_items, 5, generator=g, dtype=torch.double)
    mask = torch.rand(num_items, generator=g) < 0.7 if masked else None
    edge_index, edge_weight = edges = item_knn_graph(x, k, mask, **kwargs)
    assert edge_index.dtype == torch.long and edge_weight.dtype == x.dtype
    assert edge_index.size(1) == edge_weight.size(0)
    assert_close(dense(edges, num_items), expected(x, k, mask, **kwargs))
    assert (edge_index[1].diff() >= 0).all()
    assert (edge_weight > 0).all()


def test_neighbors_of_a_line():
    # At angles 0, 10, 30 and 60 degrees, 0 is the nearest of 1, not of 2.
    angle = torch.tensor([0., 10., 30., 60.], dtype=torch.double).deg2rad()
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    x = x * torch.tensor([[1.], [5.], [0.1], [2.]])  # Norms do not count.
    edge_index, edge_weight = item_knn_graph(x, 1, normalize=False)
    assert edge_index.tolist() == [[1, 0, 1, 2], [0, 1, 2, 3]]
    assert_close(edge_weight, torch.tensor([10., 10., 20., 30.],
                                           dtype=torch.double).deg2rad().cos())


def test_items_without_features_have_no_edges():
    x = torch.ones(4, 2)
    x[2] = 0.
    for kwargs in [{}, {'mask': torch.arange(4) != 2}]:
        edge_index, edge_weight = item_knn_graph(x, 3, **kwargs)
        assert edge_index[1].tolist() == [0, 0, 1, 1, 3, 3]
        assert_close(edge_weight, torch.full((6, ), 0.5))
    assert item_knn_graph(x, 3, torch.arange(4) == 0)[0].size() == (2, 0)


def test_in_blocks(monkeypatch):
    x = torch.randn(50, 4, generator=generator(0), dtype=torch.double)
    whole = item_knn_graph(x, 3)
    monkeypatch.setattr(topk, 'MAX_BLOCK_NUMEL', 200)
    blocks = item_knn_graph(x, 3)
    assert_close(dense(blocks, 50), dense(whole, 50))


def test_no_neighbors_to_choose():
    with pytest.raises(ValueError, match="'k' must be at least 1"):
        item_knn_graph(torch.randn(3, 2), 0)
