import math

import pytest
import torch

from diffmm_pyg.testing import textbook
from torch_geometric.metrics import (
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)

EDGE_INDEX = torch.tensor([[0, 0, 1, 3], [0, 2, 2, 1]])  # User 2 has none.
NUM_USERS, NUM_ITEMS = 4, 3


def test_normalized_adjacency():
    weight = torch.tensor([0.5, 1.5, 2.0, 3.0], dtype=torch.double)
    adj = textbook.normalized_adjacency(EDGE_INDEX, NUM_USERS, NUM_ITEMS,
                                        weight)
    block = torch.zeros(NUM_USERS, NUM_ITEMS, dtype=torch.double)
    block[tuple(EDGE_INDEX)] = weight
    full = torch.eye(7, dtype=torch.double)
    full[:4, 4:], full[4:, :4] = block, block.t()
    scale = full.sum(dim=1).pow(-0.5).diag()
    torch.testing.assert_close(adj, scale @ full @ scale)
    assert adj[2, 2] == 1


@pytest.mark.parametrize('layout', [torch.sparse_coo, torch.sparse_csr])
def test_normalized_adjacency_layouts(layout):
    multiplier = 2.0 * (torch.rand(15) < 0.5)
    x = torch.randn(7, 2, dtype=torch.double)
    results = []
    for each in [torch.strided, layout]:
        weight = torch.tensor([0.5, 1.5, 2.0, 3.0], dtype=torch.double,
                              requires_grad=True)
        adj = textbook.normalized_adjacency(EDGE_INDEX, NUM_USERS, NUM_ITEMS,
                                            weight, multiplier=multiplier,
                                            layout=each)
        assert adj.layout == each
        out = adj @ x
        out.pow(2).sum().backward()
        results.append((out, weight.grad))
    torch.testing.assert_close(*results)


def test_normalized_adjacency_multiplier_order():
    multiplier = torch.arange(15.0)
    args = (EDGE_INDEX, NUM_USERS, NUM_ITEMS)
    plain = textbook.normalized_adjacency(*args)
    out = textbook.normalized_adjacency(*args, multiplier=multiplier) / plain
    user, item = EDGE_INDEX[0], EDGE_INDEX[1] + NUM_USERS
    assert out[user, item].tolist() == [0, 1, 2, 3]
    assert out[item, user].tolist() == [4, 5, 6, 7]
    assert out.diagonal().tolist() == pytest.approx(range(8, 15))


def embeddings(features, logits, has_dict):
    g = torch.Generator().manual_seed(1)
    user = torch.randn(NUM_USERS, 2, generator=g, dtype=torch.double)
    item = torch.randn(NUM_ITEMS, 2, generator=g, dtype=torch.double)
    adj = textbook.normalized_adjacency(EDGE_INDEX, NUM_USERS, NUM_ITEMS,
                                        dtype=torch.double)
    adj_dict = {
        m: textbook.normalized_adjacency(EDGE_INDEX[:, i:i + 2], NUM_USERS,
                                         NUM_ITEMS, dtype=torch.double)
        for i, m in enumerate(features)
    }
    out = textbook.diffmm_embeddings(adj, adj_dict, user, item, features,
                                     logits, num_layers=0, adj_weight=0.3,
                                     residual_weight=0.0, has_dict=has_dict)
    return user, item, adj, adj_dict, out


def test_embeddings_with_missing_features():
    features = {m: torch.randn(NUM_ITEMS, 2).double() for m in 'abc'}
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.double)
    has_dict = {
        'a': torch.tensor([True, False, False]),
        'b': torch.tensor([True, True, False]),
        'c': torch.tensor([False, False, False]),
    }
    w = logits.exp() / logits.exp().sum()
    na, nb, _ = (x / x.norm(dim=1, keepdim=True) for x in features.values())
    fused = torch.stack([
        (w[0] * na[0] + w[1] * nb[0]) / (w[0] + w[1]),
        nb[1],
        torch.zeros(2),
    ])
    user, item, adj, adj_dict, out = embeddings(features, logits, has_dict)
    first = adj @ torch.cat([user, fused])
    expected = first + adj @ torch.cat([first[:NUM_USERS], item])
    # Generated edges reach all users, and items that have their modality.
    shares = torch.stack([
        torch.stack([w[0] / (w[0] + w[1]), w[1] / (w[0] + w[1]), w[2] * 0]),
        torch.tensor([0., 1., 0.]),
        torch.tensor([0., 0., 0.]),
    ])
    for m, a in enumerate(adj_dict.values()):
        share = torch.cat([w[m].expand(NUM_USERS), shares[:, m]])
        expected += 0.3 * share[:, None] * (a @ torch.cat([user, item]))
    torch.testing.assert_close(torch.cat(out[:2]), expected)

    zero = torch.zeros_like(item)
    for m, x in zip('abc', [na, nb, zero]):
        x = torch.where(has_dict[m][:, None], x, zero)
        view = adj_dict[m] @ torch.cat([user, x])
        torch.testing.assert_close(torch.cat(out[2][m]), view)


def test_embeddings_with_full_mask_or_a_part_of_the_masks():
    features = {m: torch.randn(NUM_ITEMS, 2).double() for m in 'ab'}
    logits = torch.tensor([0.3, -0.2], dtype=torch.double)
    *_, expected = embeddings(features, logits, None)
    full = torch.ones(NUM_ITEMS, dtype=torch.bool)
    *_, out = embeddings(features, logits, {'a': full})
    torch.testing.assert_close(out, expected)


def test_embeddings_gradients_where_nothing_is_known():
    features = {'a': torch.zeros(NUM_ITEMS, 2).double().requires_grad_()}
    logits = torch.zeros(1, dtype=torch.double, requires_grad=True)
    mask = {'a': torch.zeros(NUM_ITEMS, dtype=torch.bool)}
    *_, (user, item, _) = embeddings(features, logits, mask)
    (user.sum() + item.sum()).backward()
    assert features['a'].grad.abs().sum() == 0
    assert logits.grad.isfinite().all()


def test_bpr_loss():
    user, item = torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    users, pos, neg = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 0, 0]])
    loss = textbook.bpr_loss(user, item, users, pos, neg, batch_size=4)
    expected = sum(math.log1p(math.exp(-x)) for x in [2, -2, 1]) / 4
    assert float(loss) == pytest.approx(expected)


def test_info_nce_loss_of_orthogonal_rows():
    x = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    index = torch.tensor([0, 3, 3])
    loss = textbook.info_nce_loss(x, 5 * x, index, temperature=0.5)
    assert float(loss) == pytest.approx(math.log(math.e**2 + 3) - 2)
    # Row 3 is left out twice, and no longer among the other rows.
    has = torch.tensor([True, True, True, False])
    loss = textbook.info_nce_loss(x, x, index, 0.5, has)
    assert float(loss) == pytest.approx((math.log(math.e**2 + 2) - 2) / 3)
    loss = textbook.info_nce_loss(x, x, index, 0.5, has & False)
    assert float(loss) == 0


def test_info_nce_loss_counts_duplicates():
    anchor, other = torch.randn(2, 5, 3).double()
    one, two = (textbook.info_nce_loss(anchor, other, torch.tensor([i]), 0.3)
                for i in [1, 4])
    loss = textbook.info_nce_loss(anchor, other, torch.tensor([1, 4, 4]), 0.3)
    torch.testing.assert_close(loss, (one + 2 * two) / 3)


def test_contrastive_loss_terms():
    user, item = torch.randn(4, 2).double(), torch.randn(3, 2).double()
    views = {
        m: (torch.randn_like(user), torch.randn_like(item))
        for m in 'abc'
    }
    users, items = torch.tensor([0, 2]), torch.tensor([1, 2])
    has = {
        'a': torch.tensor([True, True, False]),
        'b': torch.tensor([False, True, True]),
    }

    def term(a, b, mask):
        return (textbook.info_nce_loss(a[0], b[0], users, 0.4) +
                textbook.info_nce_loss(a[1], b[1], items, 0.4, mask))

    a, b, c = views.values()
    args = (user, item, views, users, items, 0.4)
    loss = textbook.contrastive_loss(*args, 'main', has)
    main = (user, item)
    expected = (term(main, a, has['a']) + term(main, b, has['b']) +
                term(main, c, None))
    torch.testing.assert_close(loss, expected)

    loss = textbook.contrastive_loss(*args, 'modality', has)
    expected = (term(a, b, has['a'] & has['b']) + term(a, c, has['a']) +
                term(b, c, has['b']))
    torch.testing.assert_close(loss, expected)
    args = (user, item, {'a': a}, users, items, 0.4)
    assert textbook.contrastive_loss(*args, 'modality') == 0


def test_ranking_by_hand():
    item = torch.tensor([[5.0], [4.0], [3.0], [2.0], [1.0]])
    user = torch.ones(3, 1)
    seen = torch.tensor([[1, 0, 0, 0, 0], [0] * 5, [0] * 5]).bool()
    positives = torch.tensor([[0, 0, 1, 0, 1], [0] * 5, [1, 1, 1, 0, 0]])
    scores, items = textbook.rank_items(user, item, seen, k=2)
    assert items.tolist() == [[1, 2], [0, 1], [0, 1]]
    out = textbook.ranking_metrics(scores, items, positives.bool(), [1, 2])

    second = 1 / math.log2(3)
    assert out == pytest.approx({
        'recall@1': (0 + 1 / 3) / 2,
        'ndcg@1': (0 + 1) / 2,
        'precision@1': (0 + 1) / 2,
        'recall@2': (1 / 2 + 2 / 3) / 2,
        'ndcg@2': (second / (1 + second) + 1) / 2,
        'precision@2': (1 / 2 + 1) / 2,
    })


def test_ranking_ignores_masked_items_and_large_k():
    seen = torch.tensor([[True, False]])
    positives = torch.tensor([[True, True]])
    ranked = textbook.rank_items(torch.ones(1, 1), torch.ones(2, 1), seen, 10)
    out = textbook.ranking_metrics(*ranked, positives, [10])
    assert out['recall@10'] == 0.5
    assert out['precision@10'] == pytest.approx(0.1)


def test_ranking_equals_pyg():
    user, item = torch.randn(30, 4).double(), torch.randn(40, 4).double()
    seen = torch.rand(30, 40) < 0.2
    positives = (torch.rand(30, 40) < 0.1) & ~seen
    positives[3] = False
    scores, items = textbook.rank_items(user, item, seen, 20)
    out = textbook.ranking_metrics(scores, items, positives, [5, 20])
    for name, metric in [('recall', LinkPredRecall), ('ndcg', LinkPredNDCG),
                         ('precision', LinkPredPrecision)]:
        for k in [5, 20]:
            oracle = metric(k)
            oracle.update(items, positives.nonzero().t())
            assert out[f'{name}@{k}'] == pytest.approx(
                float(oracle.compute()), abs=1e-6)


@pytest.mark.parametrize('bias', [True, False])
def test_project(bias):
    x, weight = torch.randn(5, 3), torch.randn(2, 3)
    bias = torch.randn(2) if bias else None
    expected = x @ weight.t()
    if bias is None:
        expected = torch.where(expected > 0, expected, 0.2 * expected)
    else:
        expected = expected + bias
    out = textbook.project(x, weight, bias)
    torch.testing.assert_close(out, expected)
