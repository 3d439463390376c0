import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

from _experiments.significance import (  # noqa: E402
    holm,
    paired_bootstrap,
    standard_error,
)


def standardized(rng, num_users):
    x = rng.standard_normal(num_users)
    return (x - x.mean()) / x.std()


@pytest.mark.parametrize('z', [0.5, 1.5, 2.5])
def test_bootstrap_agrees_with_the_normal_law(z):
    # By the central limit theorem, for a mean of z standard errors:
    num_users = 2500
    rng = np.random.default_rng(0)
    x = standardized(rng, num_users) + z / num_users**0.5
    out = paired_bootstrap(np.stack([x, -2 * x], axis=1), 10_000, seed=1)
    expected = 2 * norm.sf(z)
    error = (expected * (1 - expected) / 10_000)**0.5
    assert out.p == pytest.approx([expected] * 2, abs=5 * error)
    assert out.mean == pytest.approx([z / 50, -2 * z / 50])
    assert out.low[0] == pytest.approx((z - 1.96) / 50, abs=0.1 / 50)
    assert out.high[0] == pytest.approx((z + 1.96) / 50, abs=0.1 / 50)
    assert out.high[1] == pytest.approx(-2 * out.low[0])


def test_bootstrap_where_the_answer_is_known():
    x = np.zeros((40, 3))
    x[:, 1] = 0.1  # Every user gains.
    x[:20, 2], x[20:, 2] = 1., -1.
    out = paired_bootstrap(x, 999)
    assert out.p[0] == 1 and out.low[0] == out.high[0] == 0
    assert out.p[1] == pytest.approx(1 / 1000)
    assert out.low[1] == pytest.approx(0.1) == out.high[1]
    assert out.p[2] == 1
    again = paired_bootstrap(x, 999)
    assert all((a == b).all() for a, b in zip(out, again))


def test_bootstrap_in_blocks_of_draws(monkeypatch):
    x = np.random.default_rng(0).random((30, 2))
    whole = paired_bootstrap(x, 100)
    monkeypatch.setattr('_experiments.significance.BLOCK_NUMEL', 30 * 7)
    for a, b in zip(whole, paired_bootstrap(x, 100)):
        assert a == pytest.approx(b)


@pytest.mark.parametrize('p,expected', [
    # By hand: 3 x 0.01, 2 x 0.03, and 0.04, which must not be smaller.
    ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
    ([0.5, 0.001, 0.2], [0.5, 0.003, 0.4]),
    ([0.6, 0.7], [1., 1.]),
    ([0.02], [0.02]),
    ([], []),
])
def test_holm(p, expected):
    assert holm(np.array(p)) == pytest.approx(expected)


def test_standard_error():
    assert standard_error(np.array([0., 0., 1., 1.])) == pytest.approx(
        (1 / 3)**0.5 / 2)
