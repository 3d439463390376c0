r"""Where the positives of the test split are ranked, and what follows from it
for every user.
"""
from typing import Dict

import numpy as np
import torch
from torch import Tensor

from diffmm_pyg.evaluation import unranked_items
from diffmm_pyg.runs import Run
from diffmm_pyg.utils import inner_product_topk

DEPTH = 50  # What is ranked lower counts as not found.
KS = [5, 10, 20, DEPTH]
BLOCK_SIZE = 4096


@torch.no_grad()
def rank_positives(run: Run) -> Tensor:
    r"""Returns the ranks :obj:`[N]` of the positives of the test split, the
    best being 1, and 0 where it is worse than :obj:`DEPTH`. The positives are
    in the order of users, then items.
    """
    user, item = run.graphs['test']
    exclude = unranked_items(run.graphs['observed'],
                             {k: run.graphs[k] for k in ['val', 'test']
                              if k in run.graphs}, 'test', 'strict',
                             run.num_users, run.num_items)
    users, row = user.unique_consecutive(return_inverse=True)
    out = torch.zeros(user.numel(), dtype=torch.uint8)
    for start in range(0, users.numel(), BLOCK_SIZE):
        block = users[start:start + BLOCK_SIZE]
        score, index = inner_product_topk(
            run.user_emb[block], run.item_emb, min(DEPTH, run.num_items),
            exclude=exclude.select(block))
        index = index.masked_fill(score == float('-inf'), -1)
        mask = (row >= start) & (row < start + block.numel())
        found = index[row[mask] - start] == item[mask].view(-1, 1)
        rank = found.int().argmax(dim=1) + 1
        out[mask] = (rank * found.any(dim=1)).to(torch.uint8)
    return out


def user_metrics(rank: np.ndarray, user: np.ndarray,
                 k: int) -> Dict[str, np.ndarray]:
    r"""Returns recall and NDCG of every user with a positive, in the order of
    users.

    Args:
        rank (np.ndarray): The ranks :obj:`[N]` of :meth:`rank_positives`.
        user (np.ndarray): The users :obj:`[N]`, in ascending order.
        k (int): The number of recommendations.
    """
    _, row, positives = np.unique(user, return_inverse=True,
                                  return_counts=True)
    hit = (rank > 0) & (rank <= k)
    gain = np.where(hit, 1 / np.log2(np.maximum(rank, 1) + 1.), 0.)
    ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    return {
        'recall': np.bincount(row, hit) / positives,
        'ndcg': (np.bincount(row, gain) /
                 ideal[np.minimum(positives, k) - 1]),
    }
