import ir_measures
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import generator, random_rows

from diffmm_pyg.errors import DataError
from diffmm_pyg.evaluation import evaluate, unranked_items
from diffmm_pyg.testing import textbook
from diffmm_pyg.utils import SparseRows

KS = [1, 3, 20]


class Problem:
    def __init__(self, num_users, num_items, seed):
        g = generator(seed)
        self.user = torch.randn(num_users, 4, generator=g)
        self.item = torch.randn(num_items, 4, generator=g)
        self.exclude, self.seen = random_rows(num_users, num_items, seed)
        # Some positives are excluded, and some users have none.
        rows, self.positives = random_rows(num_users, num_items, seed + 1)
        perm = torch.randperm(rows.col.numel(), generator=g)
        self.labels = rows.edge_index[:, perm]

    def metrics(self, **kwargs):
        return evaluate(self.user, self.item, self.labels, self.exclude, KS,
                        **kwargs)


@given(
    num_users=st.integers(1, 9),
    num_items=st.integers(1, 25),  # Fewer and more than K.
    block_size=st.sampled_from([1, 2, 4096]),
    seed=st.integers(0, 2**31),
)
def test_equals_textbook(double, num_users, num_items, block_size, seed):
    problem = Problem(num_users, num_items, seed)
    if problem.labels.size(1) == 0:
        return
    out = problem.metrics(block_size=block_size)
    ranked = textbook.rank_items(problem.user, problem.item, problem.seen > 0,
                                 max(KS))
    expected = textbook.ranking_metrics(*ranked, problem.positives > 0, KS)
    assert out == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_by_hand():
    # Scores are 5, 4, ..., 1; user 0 knows item 0, user 2 has no positive.
    user, item = torch.ones(3, 1), torch.arange(5., 0., -1).view(-1, 1)
    exclude = SparseRows.from_edge_index(torch.tensor([[0], [0]]), 3, 5)
    labels = torch.tensor([[0, 0, 0, 1], [1, 3, 0, 4]])
    out = evaluate(user, item, labels, exclude, [2, 5])
    # User 0: items 1, 2 | 3, 4 with a hit at ranks 1 and 3 of 3 positives,
    # one of which cannot be found; user 1: a hit at rank 5.
    log = torch.tensor([2., 3., 4., 5., 6.]).log2().reciprocal().tolist()
    assert out == pytest.approx({
        'recall@2': (1 / 3 + 0) / 2,
        'precision@2': (1 / 2 + 0) / 2,
        'ndcg@2': (log[0] / (log[0] + log[1]) + 0) / 2,
        'recall@5': (2 / 3 + 1) / 2,
        'precision@5': (2 / 5 + 1 / 5) / 2,
        'ndcg@5': ((log[0] + log[2]) / sum(log[:3]) + log[4] / log[0]) / 2,
    })


def test_order_of_users_and_labels(double):
    problem = Problem(9, 12, seed=0)
    out = problem.metrics()
    perm = torch.randperm(9, generator=generator(1))
    problem.user = problem.user[perm]
    problem.exclude = problem.exclude.select(perm)
    problem.labels[0] = perm.argsort()[problem.labels[0]]
    for block_size in [1, 4, 9]:
        assert problem.metrics(block_size=block_size) == pytest.approx(out)


def test_order_of_items(double):
    problem = Problem(9, 12, seed=0)
    out = problem.metrics()
    perm = torch.randperm(12, generator=generator(1))
    problem.item = problem.item[perm]
    place = perm.argsort()
    problem.labels[1] = place[problem.labels[1]]
    problem.exclude = SparseRows.from_edge_index(
        torch.stack([problem.exclude.row, place[problem.exclude.col]]), 9, 12)
    assert problem.metrics() == pytest.approx(out)


MEASURES = {'recall': ir_measures.R, 'precision': ir_measures.P,
            'ndcg': ir_measures.nDCG}


@given(
    num_users=st.integers(1, 6),
    num_items=st.integers(max(KS), 30),
    block_size=st.sampled_from([1, 2, 4096]),
    seed=st.integers(0, 2**31),
)
def test_equals_trec_eval_where_scores_are_equal(num_users, num_items,
                                                 block_size, seed):
    problem = Problem(num_users, num_items, seed)
    if problem.labels.size(1) == 0:
        return
    # Small integers, whose products are exact and often the same, and every
    # positive up to three times:
    problem.user, problem.item = [
        (x * 1.5).round() for x in [problem.user, problem.item]]
    problem.labels = problem.labels.repeat(1, 3)[:, ::2].contiguous()
    scores = problem.user @ problem.item.t()
    # Of equal scores, trec_eval takes the last name first.
    names = [f'{num_items - item:03d}' for item in range(num_items)]
    run = {str(user): {
        names[item]: float(scores[user, item]) for item in range(num_items)
        if problem.seen[user, item] == 0} for user in range(num_users)}
    qrels = {str(user): {} for user in problem.labels[0].tolist()}
    for user, item in problem.labels.t().tolist():
        qrels[str(user)][names[item]] = 1
    expected = ir_measures.calc_aggregate(
        [measure @ k for measure in MEASURES.values() for k in KS], qrels, run)
    expected = {f'{name}@{k}': expected[measure @ k]
                for name, measure in MEASURES.items() for k in KS}
    out = problem.metrics(block_size=block_size)
    assert out == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')
def test_device():
    problem = Problem(9, 30, seed=0)
    problem.user, problem.item = [
        (x * 1.5).round() for x in [problem.user, problem.item]]
    out = problem.metrics()
    problem.user, problem.item, problem.labels = [
        x.cuda() for x in [problem.user, problem.item, problem.labels]]
    problem.exclude = SparseRows(problem.exclude.rowptr.cuda(),
                                 problem.exclude.col.cuda(), 30)
    assert problem.metrics() == pytest.approx(out, rel=1e-6)


@pytest.mark.parametrize('name, protocol, masked', [
    ('val', 'strict', False),
    ('test', 'paper', False),
    ('test', 'strict', True),
])
def test_unranked_items(name, protocol, masked):
    train = torch.tensor([[0, 2], [1, 0]])
    labels = {'val': torch.tensor([[0, 0, 1], [2, 1, 1]]),
              'test': torch.tensor([[2], [2]])}
    rows = unranked_items(train, labels, name, protocol, 3, 3)
    assert rows.to_dense().tolist() == (
        [[0, 1, 1], [0, 1, 0], [1, 0, 0]] if masked else
        [[0, 1, 0], [0, 0, 0], [1, 0, 0]])


def test_without_positives():
    problem = Problem(4, 5, seed=0)
    problem.labels = problem.labels[:, :0]
    with pytest.raises(DataError, match='no positive to evaluate on'):
        problem.metrics()
