import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from item_data import make_data, naive_content
from oracle import assert_close, dense_users

from diffmm_pyg.datasets import MultiModalRec
from diffmm_pyg.nn.models.ease import EASE, ease_weights
from diffmm_pyg.training.splits import Splits


def naive_weights(x, reg):
    r"""One ridge regression per column, on all other columns."""
    num_items = x.size(1)
    out = torch.zeros(num_items, num_items)
    for j in range(num_items):
        others = torch.arange(num_items) != j
        a = x[:, others]
        gram = a.t() @ a + reg * torch.eye(num_items - 1)
        out[others, j] = torch.linalg.solve(gram, a.t() @ x[:, j])
    return out


@given(seed=st.integers(0, 2**31), num_users=st.integers(1, 9),
       num_items=st.integers(2, 7), reg=st.sampled_from([0.1, 3.]),
       content_weight=st.sampled_from([0., 0.5, 2.]))
def test_scores_equal_ridge_regressions(double, seed, num_users, num_items,
                                        reg, content_weight):
    data, x = make_data(seed, num_users, num_items)
    user_emb, item_emb = EASE(num_users, num_items, reg,
                              content_weight).embed(data)
    stacked = torch.cat([x, content_weight * naive_content(data).t()])
    expected = naive_weights(stacked, reg)
    assert_close(item_emb, expected.t())
    assert_close(dense_users(user_emb) @ item_emb.t(),
                 x @ expected)


def test_weights_minimize_the_loss(double):
    # No step within the constraint goes down.
    data, x = make_data(3, 9, 6)
    weights = ease_weights(x.t() @ x, 2.).requires_grad_()
    loss = (x - x @ weights).square().sum() + 2. * weights.square().sum()
    grad = torch.autograd.grad(loss, weights)[0]
    assert_close(grad - grad.diagonal().diag(), torch.zeros(6, 6))
    assert (weights.diagonal() == 0).all()
    assert (grad.diagonal() != 0).any()


@pytest.mark.parametrize('dtype', [torch.float, torch.double])
def test_gram_is_not_changed(dtype):
    gram = torch.tensor([[2., 1.], [1., 3.]], dtype=dtype)
    weights = ease_weights(gram, 1.)
    assert weights.dtype == torch.double
    assert gram.tolist() == [[2., 1.], [1., 3.]]
    # P = inverse([[3, 1], [1, 4]]) = [[4, -1], [-1, 3]] / 11
    expected = torch.tensor([[0., 1 / 3], [1 / 4, 0.]], dtype=torch.double)
    assert_close(weights, expected)


def test_errors():
    with pytest.raises(ValueError, match="'reg' must lie in"):
        EASE(3, 3, reg=0.)
    with pytest.raises(ValueError, match="'content_weight' must lie in"):
        EASE(3, 3, content_weight=-1.)


@pytest.mark.filterwarnings('ignore:5 of the .* have no training edge')
def test_tiktok(tiktok, tmp_path):
    # The numbers of another implementation.
    data = MultiModalRec(str(tmp_path), 'tiktok', tiktok,
                         modalities=['image', 'audio'])
    splits = Splits(list(data), 'paper', 20)
    metrics = splits.evaluate('test', *EASE(9308, 6710, 50.).embed(data[0]))
    assert abs(metrics['recall@20'] - 0.0884) < 1e-3
    assert abs(metrics['ndcg@20'] - 0.0398) < 1e-3
