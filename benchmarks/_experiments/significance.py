r"""Whether differences between models are more than chance."""
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 10_000
LEVEL = 0.05
BLOCK_NUMEL = 2**22  # Users that are drawn at a time


class Differences(NamedTuple):
    r"""Mean differences, one per model, all of shape :obj:`[M]`.

    Args:
        mean (np.ndarray): The means.
        low (np.ndarray): The lower ends of their 95% intervals.
        high (np.ndarray): The upper ends.
        p (np.ndarray): The two-sided p-values.
    """
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def paired_bootstrap(differences: np.ndarray,
                     num_resamples: int = NUM_RESAMPLES,
                     seed: int = 0) -> Differences:
    r"""Draws users with replacement. All models see the same draws; a p-value
    is the share of draws whose mean deviates from the mean of all users by at
    least as much as that deviates from 0.

    Args:
        differences (np.ndarray): The difference of every user, per model, of
            shape :obj:`[U, M]`.
        num_resamples (int, optional): The number of draws.
        seed (int, optional): The seed. (default: :obj:`0`)
    """
    rng = np.random.default_rng(seed)
    num_users = differences.shape[0]
    size = max(1, BLOCK_NUMEL // num_users)
    means = []
    for start in range(0, num_resamples, size):
        rows = min(size, num_resamples - start)
        user = rng.integers(num_users, size=(rows, num_users))
        user += num_users * np.arange(rows)[:, None]
        times = np.bincount(user.ravel(), minlength=rows * num_users)
        means.append(times.reshape(rows, -1) @ differences / num_users)
    resampled, mean = np.concatenate(means), differences.mean(axis=0)
    # Rounding must not tell what is equal apart:
    extreme = np.abs(resampled - mean) >= np.abs(mean) * (1 - 1e-9)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return Differences(mean, low, high,
                       (extreme.sum(axis=0) + 1) / (num_resamples + 1))


def holm(p: np.ndarray) -> np.ndarray:
    r"""Corrects p-values for their number, by `"A Simple Sequentially
    Rejective Multiple Test Procedure"
    <https://www.jstor.org/stable/4615733>`_.
    """
    order = np.argsort(p, kind='stable')
    factors = np.arange(len(p), 0, -1)
    out = np.empty(len(p))
    out[order] = np.minimum(1., np.maximum.accumulate(p[order] * factors))
    return out


def verdict(mean: float, p: float) -> str:
    r"""Says in words what a difference with a p-value means."""
    if p >= LEVEL:
        return 'not told apart'
    return 'better' if mean > 0 else 'worse'


def standard_error(x: np.ndarray) -> float:
    r"""Returns the standard error of the mean of :obj:`x`."""
    return float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else 0.
