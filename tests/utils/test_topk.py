import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator, random_rows

from diffmm_pyg.utils import (
    RowEmbedding,
    SparseRows,
    inner_product_topk,
    topk,
)
from diffmm_pyg.utils.topk import map_blocks


@given(
    num_rows=st.integers(1, 9),
    num_keys=st.integers(1, 20),
    k=st.integers(1, 20),
    block_size=st.sampled_from([1, 3, 7, 8192]),
    rows_at_a_time=st.sampled_from([1, 2, 100]),
    with_bias=st.booleans(),
    with_exclude=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_dense_topk(num_rows, num_keys, k, block_size, rows_at_a_time,
                           with_bias, with_exclude, seed):
    g, k = generator(seed), min(k, num_keys)
    query = torch.randn(num_rows, 4, generator=g, dtype=torch.double)
    key = torch.randn(num_keys, 4, generator=g, dtype=torch.double)
    bias = torch.randn(num_keys, generator=g, dtype=torch.double)
    rows, dense = random_rows(num_rows, num_keys, seed)

    expected = query @ key.t() + (bias if with_bias else 0)
    if with_exclude:
        expected[dense > 0] = float('-inf')
    expected_value, expected_index = expected.topk(k)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(topk, 'MAX_BLOCK_NUMEL',
                            rows_at_a_time * min(block_size, num_keys))
        value, index = inner_product_topk(
            query, key, k, bias if with_bias else None,
            rows if with_exclude else None, block_size=block_size)

    left = expected_value.isfinite()
    assert torch.equal(value.isfinite(), left)
    assert_close(value[left], expected_value[left])
    assert torch.equal(index[left], expected_index[left])
    assert ((index >= 0) & (index < num_keys)).all()


@pytest.mark.parametrize('k', [0, 6])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match="'k' must lie in 1..5"):
        inner_product_topk(torch.randn(2, 3), torch.randn(5, 3), k)


@given(
    num_rows=st.integers(1, 6),
    num_keys=st.integers(1, 30),
    k=st.integers(1, 30),
    block_size=st.sampled_from([1, 4, 7, 8192]),
    rows_at_a_time=st.sampled_from([1, 2, 100]),
    seed=st.integers(0, 2**31),
)
def test_first_of_equal_entries(num_rows, num_keys, k, block_size,
                                rows_at_a_time, seed):
    # Of small integers, whose products are exact and often the same.
    g, k = generator(seed), min(k, num_keys)
    query = torch.randint(-1, 2, (num_rows, 2), generator=g).float()
    key = torch.randint(-1, 2, (num_keys, 2), generator=g).float()
    rows, dense = random_rows(num_rows, num_keys, seed)
    expected = (query @ key.t()).masked_fill(dense > 0, float('-inf'))
    expected = expected.sort(dim=1, descending=True, stable=True)
    embedding = RowEmbedding(SparseRows.from_edge_index(
        query.new_empty(2, 0, dtype=torch.long), num_rows, num_keys),
        torch.ones(num_rows), query)
    widened = torch.cat([key, torch.zeros(num_keys, num_keys)], dim=1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(topk, 'MAX_BLOCK_NUMEL',
                            rows_at_a_time * min(block_size, num_keys))
        for users, items in [(query, key), (embedding, widened)]:
            value, index = inner_product_topk(users, items, k, exclude=rows,
                                              block_size=block_size)
            left = value > float('-inf')
            assert value.equal(expected.values[:, :k])
            assert index[left].equal(expected.indices[:, :k][left])


def test_compiled_topk_takes_the_first_of_equal_entries():
    torch.compiler.reset()
    score = torch.tensor([[1., 2., 2., 1., 2.], [0., 0., 0., 0., 0.]])
    compiled = torch.compile(topk.stable_topk, backend='eager',
                             fullgraph=True)
    for fn in [compiled, topk.stable_topk]:
        value, index = fn(score, 4)
        assert value.tolist() == [[2, 2, 2, 1], [0, 0, 0, 0]]
        assert index.tolist() == [[1, 2, 4, 0], [0, 1, 2, 3]]


def test_without_queries():
    value, index = inner_product_topk(torch.randn(0, 3), torch.randn(5, 3), 2)
    assert value.size() == index.size() == (0, 2)


class Memory:
    r"""Runs out where a block has more than :obj:`capacity` rows."""
    def __init__(self, capacity, error):
        self.capacity, self.error, self.calls = capacity, error, []

    def __call__(self, start, end):
        self.calls.append((start, end))
        if end - start > self.capacity:
            raise self.error
        return list(range(start, end))


ERRORS = [
    torch.OutOfMemoryError('CUDA out of memory'),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to "
                 "allocate 1 byte"),
    RuntimeError('DefaultCPUAllocator: not enough memory: you tried to '
                 'allocate 1 byte'),
    RuntimeError('CUDA error: out of memory\nCUDA kernel errors might be '
                 'asynchronously reported at some other API call'),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling '
                 '`cublasCreate(handle)`'),
    RuntimeError('std::bad_alloc'),
]


@pytest.mark.parametrize('error', ERRORS, ids=lambda e: type(e).__name__)
def test_map_blocks_halves(error):
    fn = Memory(3, error)
    with pytest.warns(UserWarning, match='blocks of 12 rows; went on with 3'):
        out = map_blocks(fn, 20, 12)
    assert sum(out, []) == list(range(20))
    assert fn.calls[:3] == [(0, 12), (0, 6), (0, 3)]
    # Not once more is the larger size tried.
    assert fn.calls[3:] == [(3, 6), (6, 9), (9, 12), (12, 15), (15, 18),
                            (18, 20)]


def test_map_blocks_halves_within_blocks():
    fn = Memory(4, MemoryError())
    with pytest.warns(UserWarning, match='blocks of 7 rows; went on with 3'):
        out = map_blocks(fn, 15, 7)
    assert sum(out, []) == list(range(15))
    assert fn.calls == [(0, 7), (0, 3), (3, 6), (6, 7), (7, 10), (10, 13),
                        (13, 14), (14, 15)]


@pytest.mark.parametrize('error', [
    RuntimeError('CUDA error: CUBLAS_STATUS_NOT_INITIALIZED'),
    RuntimeError('CUDA error: an illegal memory access was encountered'),
    ValueError('blocks'),
], ids=str)
def test_map_blocks_halves_for_nothing_else(error):
    with pytest.raises(type(error), match=str(error)):
        map_blocks(Memory(3, error), 20, 12)


def test_map_blocks_keeps_work_done():
    calls = []

    def fn(start, end):
        calls.append((start, end))
        if len(calls) == 2:
            raise MemoryError
        return end - start

    with pytest.warns(UserWarning, match='blocks of 4 rows; went on with 2'):
        assert map_blocks(fn, 8, 4) == [4, 2, 2]
    assert calls == [(0, 4), (4, 8), (4, 6), (6, 8)]


def test_map_blocks_gives_up():
    with pytest.raises(MemoryError):
        map_blocks(Memory(0, MemoryError()), 8, 4)
    fn = Memory(0, RuntimeError('shapes do not match'))
    with pytest.raises(RuntimeError, match='shapes do not match'):
        map_blocks(fn, 8, 4)
    assert fn.calls == [(0, 4)]


@pytest.mark.filterwarnings('error')
def test_map_blocks_without_error():
    fn = Memory(4, MemoryError())
    assert sum(map_blocks(fn, 10, 4), []) == list(range(10))
    assert fn.calls == [(0, 4), (4, 8), (8, 10)]


def test_excluded_edges_are_listed_once(monkeypatch):
    calls, row = [], SparseRows.row.fget
    monkeypatch.setattr(SparseRows, 'row', property(
        lambda self: calls.append(self) or row(self)))
    rows, _ = random_rows(4, 9, seed=0)
    inner_product_topk(torch.randn(4, 2), torch.randn(9, 2), 3, exclude=rows,
                       block_size=2)
    assert len(calls) == 1
