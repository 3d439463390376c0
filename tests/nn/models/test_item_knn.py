import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from item_data import make_data, naive_content
from oracle import assert_close, dense_users

from diffmm_pyg.nn.models.item_knn import ItemKNN
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import item_gram

NUM_USERS, NUM_ITEMS = 9, 7


def similarity(a, b, shrink):
    bottom = float(a.norm() * b.norm()) + shrink
    return float(a @ b) / bottom if bottom > 0 else 0.


def naive_neighbors(vectors, k, shrink):
    out = torch.zeros(len(vectors), len(vectors))
    for i, v in enumerate(vectors):
        values = [(similarity(v, w, shrink), j)
                  for j, w in enumerate(vectors) if j != i]
        for value, j in sorted(values, reverse=True)[:k]:
            out[i, j] = value
    return out


@given(seed=st.integers(0, 2**31), k=st.integers(1, NUM_ITEMS + 2),
       shrink=st.sampled_from([0., 0.5, 10.]),
       similarity=st.sampled_from(['collaborative', 'content']),
       weighting=st.sampled_from(['none', 'idf', 'unit']))
def test_scores_equal_naive_ones(double, seed, k, shrink, similarity,
                                 weighting):
    data, x = make_data(seed, NUM_USERS, NUM_ITEMS)
    model = ItemKNN(NUM_USERS, NUM_ITEMS, k, shrink, similarity, weighting)
    user_emb, item_emb = model.embed(data)
    vectors = (naive_weighted(x, weighting).t() if similarity ==
               'collaborative' else naive_content(data))
    expected = naive_neighbors(vectors, k, shrink)
    # Which of equal similarities are kept is nobody's business:
    assert_close(item_emb.sort().values, expected.sort().values)
    pairs = [[naive_pair(vectors, i, j, shrink) for j in range(NUM_ITEMS)]
             for i in range(NUM_ITEMS)]
    kept = item_emb != 0
    assert_close(item_emb[kept], torch.tensor(pairs)[kept])
    assert (item_emb.diagonal() == 0).all()
    assert_close(dense_users(user_emb) @ item_emb.t(),
                 x @ item_emb.t())


def naive_weighted(x, weighting):
    out = x.clone()
    for row in out:
        if weighting == 'idf':  # A user of all items tells nothing apart.
            row *= max(0., math.log(NUM_ITEMS / (1 + float(row.sum()))))
        if weighting == 'unit' and row.any():
            row /= row.norm()
    return out


def naive_pair(vectors, i, j, shrink):
    return 0. if i == j else similarity(vectors[i], vectors[j], shrink)


def test_neighbors_are_those_of_the_ranked_item():
    # Item 0 is the nearest one of item 1, whose nearest one is item 2.
    data, _ = make_data(0, 4, 3)
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 1, 1, 2, 2, 3],
                                               [0, 1, 1, 2, 1, 2, 1]])
    _, item_emb = ItemKNN(4, 3, k=1, shrink=0.).embed(data)
    expected = torch.tensor([[0., 1 / 2, 0.], [0., 0., (2 / 4)**0.5],
                             [0., (2 / 4)**0.5, 0.]])
    assert_close(item_emb, expected)


def test_blocks(double, monkeypatch):
    data, _ = make_data(1, NUM_USERS, NUM_ITEMS)
    for kind in ['collaborative', 'content']:
        model = ItemKNN(NUM_USERS, NUM_ITEMS, 3, 0.1, kind)
        expected = model.embed(data)[1]
        for module in ['utils.item_gram', 'nn.models.item_knn']:
            monkeypatch.setattr(f'diffmm_pyg.{module}.MAX_BLOCK_NUMEL', 20)
        assert_close(model.embed(data)[1], expected)


def test_gram_of_features_in_mixed_precision():
    data, _ = make_data(0, NUM_USERS, NUM_ITEMS)
    gram = torch.zeros(NUM_ITEMS, NUM_ITEMS)
    expected = item_gram.add_content_gram(gram.clone(), data, 2.)
    x = naive_content(data)
    assert_close(expected, 2 * x @ x.t())
    with torch.autocast('cpu', torch.bfloat16):
        assert item_gram.add_content_gram(gram, data, 2.).equal(expected)


def test_errors():
    with pytest.raises(ValueError, match="'k' must lie in"):
        ItemKNN(3, 3, k=0)
    with pytest.raises(ValueError, match="'shrink' must lie in"):
        ItemKNN(3, 3, shrink=-1.)
    with pytest.raises(ValueError, match="'similarity' must be one of"):
        ItemKNN(3, 3, similarity='euclidean')
    with pytest.raises(ValueError, match="'weighting' must be one of"):
        ItemKNN(3, 3, weighting='tf')
