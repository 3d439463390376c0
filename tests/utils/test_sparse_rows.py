import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator, random_rows
from torch import Tensor

from diffmm_pyg.utils import SparseRows, sparse_rows
from torch_geometric import EdgeIndex


@given(num_rows=st.integers(1, 9), num_cols=st.integers(1, 9),
       seed=st.integers(0, 2**31))
def test_equals_scipy(double, num_rows, num_cols, seed):
    rows, dense = random_rows(num_rows, num_cols, seed)
    csr = sp.csr_matrix(dense.numpy())
    assert rows.num_rows == num_rows and rows.num_cols == num_cols
    assert rows.rowptr.tolist() == csr.indptr.tolist()
    assert rows.col.tolist() == csr.indices.tolist()
    assert torch.equal(rows.edge_index, dense.nonzero().t())
    assert torch.equal(rows.to_dense(torch.double), dense)

    g = generator(seed)
    index = torch.randint(num_rows, (5, ), generator=g)
    selected = rows.select(index)
    assert selected.num_cols == num_cols
    assert torch.equal(selected.to_dense(torch.double), dense[index])
    assert selected.count.tolist() == np.diff(csr[index.numpy()].indptr) \
        .tolist()
    start, end = sorted(torch.randint(num_rows + 1, (2, ),
                                      generator=g).tolist())
    assert torch.equal(
        rows.narrow(start, end).to_dense(torch.double), dense[start:end])

    other = torch.randn(num_cols, 3, generator=g, requires_grad=True)
    out = rows.matmul(other)
    assert_close(out, torch.from_numpy(csr @ other.detach().numpy()))
    weight = torch.randn(out.size(), generator=g)
    grad, = torch.autograd.grad((weight * out).sum(), other)
    assert_close(grad, dense.t() @ weight)
    for numel in [1, 7, 2**20]:  # Pieces of one, of two, and of all ones.
        out = other.detach().clone()
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(sparse_rows, 'MAX_PIECE_NUMEL', numel)
            rows.add_transposed_matmul(out, weight)
        assert_close(out, other + dense.t() @ weight)


@pytest.mark.parametrize('kind', [Tensor, EdgeIndex])
def test_duplicates_count_once(kind):
    edge_index = torch.tensor([[1, 0, 1, 1], [2, 1, 2, 0]])
    edge_index = kind(edge_index)
    rows = SparseRows.from_edge_index(edge_index, 3, 4)
    assert rows.rowptr.tolist() == [0, 1, 3, 3]
    assert rows.col.tolist() == [1, 0, 2]
    assert rows.count.tolist() == [1, 2, 0]


@pytest.mark.parametrize('num_rows', [0, 3])
def test_without_ones(num_rows):
    rows = SparseRows.from_edge_index(torch.empty(2, 0).long(), num_rows, 4)
    assert torch.equal(rows.to_dense(), torch.zeros(num_rows, 4))
    assert torch.equal(rows.matmul(torch.ones(4, 2)),
                       torch.zeros(num_rows, 2))


@given(num_rows=st.integers(0, 12), num_cols=st.integers(1, 6),
       num_groups=st.integers(1, 2), seed=st.integers(0, 2**31))
def test_distinct(num_rows, num_cols, num_groups, seed):
    rows, dense = random_rows(num_rows, num_cols, seed)
    group = torch.randint(num_groups, (num_rows, ), generator=generator(seed))
    index, inverse = rows.distinct(group)
    assert torch.equal(dense[index][inverse], dense)
    assert torch.equal(group[index][inverse], group)
    # Of what is equal, rows of up to four ones are found, and no others are.
    keys = [(int(g), tuple(x), n if x.sum() > 4 else -1) for n, (g, x) in
            enumerate(zip(group, dense.numpy(), strict=True))]
    assert index.numel() == len(set(keys))
    assert inverse.unique().numel() == index.numel()
