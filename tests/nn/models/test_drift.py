import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, random_rows
from small import small_data

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn.models import Drift
from diffmm_pyg.nn.models.drift import drift_embeddings
from diffmm_pyg.utils import SparseRows


def test_by_hand():
    # Users of one, one, two and four items: the quantiles of their numbers
    # are 1/4, 1/4, 5/8 and 7/8.
    rows = SparseRows.from_edge_index(torch.tensor(
        [[0, 1, 2, 2, 3, 3, 3, 3], [0, 0, 0, 1, 0, 1, 2, 3]]), 5, 5)
    user, item = drift_embeddings(rows, shrinkage=2.)
    assert user.equal(torch.ones(5, 1))
    assert_close(item.view(-1), torch.tensor([
        (-1 / 4 - 1 / 4 + 1 / 8 / 2 + 3 / 8 / 4) / (2 + 2 + 1 / 2 + 1 / 4),
        (1 / 8 / 2 + 3 / 8 / 4) / (2 + 1 / 2 + 1 / 4),
        3 / 8 / 4 / (2 + 1 / 4),
        3 / 8 / 4 / (2 + 1 / 4),
        0.,  # Nobody knows it.
    ]))


@given(
    num_users=st.integers(1, 12),
    num_items=st.integers(1, 9),
    shrinkage=st.sampled_from([0.1, 3., 50.]),
    seed=st.integers(0, 2**31),
)
def test_equals_loops(double, num_users, num_items, shrinkage, seed):
    rows, x = random_rows(num_users, num_items, seed)
    count = x.sum(dim=1)
    known = count[count > 0]
    expected = torch.zeros(num_items)
    for i in range(num_items):
        total, size = 0., 0.
        for n in count[x[:, i] > 0]:
            below = (known < n).double().mean()
            q = below + (known == n).double().mean() / 2
            total, size = total + (q - 0.5) / n, size + 1 / n
        expected[i] = total / (shrinkage + size)
    item = drift_embeddings(rows, shrinkage)[1]
    assert_close(item.view(-1), expected)
    # A user counts once over all items, so that nothing is left in the sum:
    size = (x / count.clamp(min=1).view(-1, 1)).sum(dim=0)
    assert abs(float((item.view(-1) * (shrinkage + size)).sum())) < 1e-10


def test_users_alike_tell_nothing():
    rows = SparseRows.from_edge_index(
        torch.tensor([[0, 0, 1, 1, 2, 2], [0, 1, 0, 2, 1, 2]]), 4, 4)
    assert not drift_embeddings(rows)[1].any()


def test_model():
    data = small_data()[0]
    model = Drift(60, 40, shrinkage=5.)
    user, item = model.embed(data)
    assert item.equal(drift_embeddings(model.rows(data), 5.)[1])
    assert str(model) == 'Drift(60, 40)'
    assert model.phases(data) == []
    with pytest.raises(ConfigError):
        Drift(60, 39).embed(data)
    with pytest.raises(ValueError, match="'shrinkage' must lie"):
        Drift(60, 40, shrinkage=0.)
