import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, dense_users, generator, random_rows

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.utils import RowEmbedding, score_fusion
from diffmm_pyg.utils.score_fusion import concat_embeddings, standardized


def random_embeddings(kind, num_users, num_items, seed):
    g = generator(seed)
    rows, _ = random_rows(num_users, num_items, seed)
    dense = torch.randn(num_users, 2, generator=g)
    item = torch.randn(num_items, 2, generator=g)
    if kind == 'dense':
        return dense, item
    if kind == 'rows':
        dense, item = dense[:, :0], item[:, :0]
    weight = torch.randn(num_items, num_items, generator=g)
    scale = torch.randn(num_users, generator=g)
    return RowEmbedding(rows, scale, dense), torch.cat([item, weight], dim=1)


def scores(user_emb, item_emb):
    return dense_users(user_emb) @ item_emb.t()


def z_score(score):
    score = score - score.mean(dim=1, keepdim=True)
    std = score.square().mean(dim=1, keepdim=True).sqrt()
    return torch.where(std > 0, score / std, 0.)


SHAPES = {
    'num_users': st.integers(1, 6),
    'num_items': st.integers(1, 6),
    'seed': st.integers(0, 2**31),
}


@given(kind=st.sampled_from(['dense', 'rows', 'both']), **SHAPES)
def test_standardized(double, kind, num_users, num_items, seed):
    user_emb, item_emb = random_embeddings(kind, num_users, num_items, seed)
    score = scores(user_emb, item_emb)
    out = scores(standardized(user_emb, item_emb, 0.5), item_emb)
    assert_close(out - out.mean(dim=1, keepdim=True), 0.5 * z_score(score))
    assert_close(score, scores(user_emb, item_emb))  # Left as it was.


@given(kinds=st.lists(st.sampled_from(['dense', 'dense', 'rows', 'both']),
                      min_size=1, max_size=3), **SHAPES)
def test_concat_adds_scores(double, kinds, num_users, num_items, seed):
    parts = [random_embeddings(kind, num_users, num_items, seed + i)
             for i, kind in enumerate(kinds)]
    # Those with rows share rows and factors.
    first = next((u for u, _ in parts if isinstance(u, RowEmbedding)), None)
    parts = [(RowEmbedding(first.rows, first.scale, u.dense), i)
             if isinstance(u, RowEmbedding) else (u, i) for u, i in parts]
    expected = sum(scores(*part) for part in parts)
    user_emb, item_emb = concat_embeddings(parts)
    assert user_emb.size(1) == item_emb.size(1)
    assert_close(scores(user_emb, item_emb), expected)


def test_blocks(double, monkeypatch):
    for kind in ['dense', 'both']:
        emb = random_embeddings(kind, 6, 5, seed=0)
        expected = scores(standardized(*emb), emb[1])
        monkeypatch.setattr(score_fusion, 'MAX_BLOCK_NUMEL', 10)
        assert_close(scores(standardized(*emb), emb[1]), expected)


@given(num_users=st.integers(10, 40), width=st.integers(1, 3),
       offset=st.sampled_from([0., 10.]), seed=st.integers(0, 2**31))
def test_deviation_by_covariance(num_users, width, offset, seed):
    g = generator(seed)
    user = torch.randn(num_users, width, generator=g)
    item = torch.randn(50, width, generator=g) + offset
    user[0] = 0.  # Whose scores are equal.
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(score_fusion, 'MAX_BLOCK_NUMEL', 150)
        monkeypatch.delattr(score_fusion, '_std_by_scores')
        out = standardized(user, item, 0.5)
        monkeypatch.undo()
        monkeypatch.delattr(score_fusion, '_std_by_covariance')
        expected = standardized(user.double(), item.double(), 0.5)
    assert out.dtype == torch.float and (out[0] == 0).all()
    assert_close(out.double(), expected, tolerance=1e-5)


@pytest.mark.parametrize('num_copies', [1, 20])
def test_users_whose_scores_are_equal(num_copies):
    # The last bits of a sum are no reason to prefer an item.
    user = torch.tensor([[1 / 3, 1 / 7, 1.], [1., 0., 0.]] * num_copies)
    item = torch.tensor([[0.1, 0.2, 3 - 0.1 / 3 - 0.2 / 7],
                         [0.7, 0.5, 3 - 0.7 / 3 - 0.5 / 7]] * num_copies)
    score = user @ item.t()
    assert abs(score[0, 0] - score[0, 1]) < 1e-6
    out = standardized(user, item)
    assert (out[0] == 0).all() and (out[1] != 0).any()


def test_full_precision_in_mixed_precision():
    user, item = random_embeddings('both', 6, 5, seed=0)
    expected = standardized(user, item)
    with torch.autocast('cpu', torch.bfloat16):
        out = standardized(user, item)
    assert out.scale.equal(expected.scale) and out.dense.equal(expected.dense)
    user, item = random_embeddings('dense', 6, 5, seed=0)
    out = standardized(user.bfloat16(), item)
    assert out.dtype == torch.float


def test_rows_that_do_not_add_up():
    user, item = random_embeddings('rows', 6, 5, seed=0)
    for other, i in [random_embeddings('rows', 6, 5, seed=1),
                     (RowEmbedding(user.rows, 2 * user.scale, user.dense),
                      item)]:
        with pytest.raises(ConfigError, match='e.g., EASE and ItemKNN, add'):
            concat_embeddings([(user, item), (other, i)])
