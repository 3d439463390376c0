import shutil

import numpy as np
import pytest
import torch
from small import (
    assert_same_run,
    dense,
    small_data,
    small_fit,
    textbook_metrics,
)

from diffmm_pyg.datasets import hetero_data_from_arrays
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.runs import Run, load
from diffmm_pyg.testing import textbook


@pytest.fixture(scope='module')
def run():
    return small_fit(small_data())


def test_loaded_run_equals_the_trained_one(tmp_path):
    run = small_fit(small_data(), out=str(tmp_path / 'a' / 'run'))
    # On another machine, with nothing but the folder:
    shutil.move(tmp_path / 'a' / 'run', tmp_path / 'moved')
    loaded = load(str(tmp_path / 'moved'))
    assert_same_run(loaded, run)
    assert loaded.config == run.config
    assert loaded.evaluate([1, 7]) == run.evaluate([1, 7])
    for a, b in zip(loaded.recommend(k=9), run.recommend(k=9), strict=True):
        assert a.equal(b) if isinstance(a, torch.Tensor) else a == b


def test_recommend_is_the_textbook_ranking(run):
    score, item = textbook.rank_items(run.user_emb, run.item_emb,
                                      dense(run.graphs['observed'], run), 7)
    result = run.recommend(k=7)
    assert result.user == list(range(60))
    assert result.item == item.tolist()
    assert result.score.allclose(score, rtol=1e-6)
    some = run.recommend([41, 3, 41], k=7)
    assert some.user == [41, 3, 41]
    assert some.item == item[[41, 3, 41]].tolist()


def test_evaluate_is_the_textbook_metric(run):
    result = run.evaluate([1, 4])
    assert list(result) == ['val', 'test']
    assert list(result['val']) == [f'{name}@{k}' for k in [1, 4]
                                   for name in ['recall', 'ndcg', 'precision']]
    for k in [1, 4]:
        for name, seen in [('val', ['observed']),
                           ('test', ['observed', 'val'])]:
            for key, value in textbook_metrics(run, name, seen, k).items():
                assert result[name][key] == pytest.approx(value, rel=1e-6)


def tiny_run(user_ids, item_ids):
    r"""Users 0 to 2 have seen two, all, and none of three items, and item 2
    is better than item 1, and that than item 0, for all of them.
    """
    edge_index = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 1, 2]])
    config = {'training': {'top_k': 2, 'protocol': 'strict'}}
    return Run(config, {}, [], {}, {'observed': edge_index}, torch.ones(3, 1),
               torch.tensor([[1.], [2.], [3.]]),
               {'user': user_ids, 'item': item_ids})


def test_fewer_items_left_than_asked_for():
    result = tiny_run([0, 1, 2], [0, 1, 2]).recommend(k=3)
    assert result.item == [[2], [], [2, 1, 0]]
    inf = float('inf')
    assert result.score.tolist() == [[3, -inf, -inf], [-inf] * 3, [3, 2, 1]]


@pytest.mark.parametrize('ids, given', [
    ([10, 20, 30], [30, 10]),
    ([10, 20, 30], ['30', '10']),
    ([10, 20, 30], np.array([30, 10])),
    (['ann', 'b b', '007'], ['007', 'ann']),
    (['ünï', 'b,c', '日本'], ['日本', 'ünï']),
])
def test_ids_of_the_caller(ids, given):
    result = tiny_run(ids, ['x', 'y', 'z']).recommend(given, k=2)
    assert result.user == [ids[2], ids[0]]
    assert result.item == [['z', 'y'], ['z']]


def test_ids_pass_through_training(tmp_path):
    # Ids in an order of their own, so that no index passes for an id.
    users = [f'u{i * 7 % 30}' for i in range(30)]
    items = [100 - i for i in range(12)]
    edge_index = torch.tensor([[u, i] for u in range(30) for i in range(12)
                               if i % 3 == u % 3 and i != u % 12]).t()
    data = hetero_data_from_arrays(
        30, 12, edge_index, features={'image': torch.eye(12)},
        user_ids=users, item_ids=items)
    small_fit(data, epochs=1, out=str(tmp_path / 'run'))
    run = load(str(tmp_path / 'run'))
    assert run.ids == {'user': users, 'item': items}
    result = run.recommend(k=8)
    seen = {(users[u], items[i]) for u, i in edge_index.t().tolist()}
    for user, found in zip(result.user, result.item, strict=True):
        assert set(found) <= set(items)
        assert not any((user, item) in seen for item in found)


def test_unknown_user(run):
    with pytest.raises(ConfigError, match=r"no user 'x' \(2 of 3 "
                       r"given ids are unknown\); ids look like '0'"):
        run.recommend(['x', 5, 60])


@pytest.mark.parametrize('k', [0, -1, 41])
def test_k_out_of_range(run, k):
    for call in [lambda: run.recommend(k=k), lambda: run.evaluate([1, k])]:
        with pytest.raises(ConfigError, match=rf"'k' must lie in 1..40, the "
                           rf"number of items \(got .*{k}"):
            call()


def test_no_users(run):
    result = run.recommend([], k=3)
    assert result.user == result.item == []
    assert result.score.size() == (0, 3)
