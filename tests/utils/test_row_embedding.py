import torch
from oracle import assert_close, random_rows

from diffmm_pyg.evaluation import evaluate
from diffmm_pyg.utils import RowEmbedding, SparseRows


def make(num_users=7, num_items=9):
    rows, dense_rows = random_rows(num_users, num_items, seed=0)
    scale, dense = torch.rand(num_users), torch.randn(num_users, 3)
    expected = torch.cat([dense, scale.view(-1, 1) * dense_rows], dim=1)
    return RowEmbedding(rows, scale, dense), expected


def test_equals_dense(double):
    emb, expected = make()
    assert [emb.size(0), emb.size(1)] == list(expected.size())
    index = torch.tensor([4, 0, 4])
    assert_close(emb[index].to_dense(), expected[index])
    for part in [slice(2, 5), slice(None), slice(4, 2), slice(0, 7, 3),
                 torch.arange(7) > 4]:
        assert_close(emb[part].to_dense(), expected[part])
    weight = torch.randn(expected.size(1), 4)
    assert_close(emb @ weight, expected @ weight)
    assert_close(emb[index] @ weight, expected[index] @ weight)
    moved = emb.apply(torch.clone)
    assert_close(moved[index].to_dense(), expected[index])
    assert_close(RowEmbedding.from_rows(emb.rows)[index].to_dense(),
                 emb.rows.to_dense(torch.double)[index])


def test_evaluation(double):
    emb, dense = make()
    item_emb = torch.randn(9, dense.size(1))
    label = torch.tensor([[0, 1, 1, 5], [8, 2, 3, 0]])
    exclude = SparseRows.from_edge_index(torch.tensor([[0], [1]]), 7, 9)
    assert (evaluate(emb, item_emb, label, exclude, [2, 5]) ==
            evaluate(dense, item_emb, label, exclude, [2, 5]))
