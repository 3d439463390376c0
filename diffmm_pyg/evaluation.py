r"""Metrics over a ranking of all items."""
from typing import Dict, Sequence

import torch
from torch import Tensor

from diffmm_pyg.errors import DataError
from diffmm_pyg.utils import SparseRows, UserEmbedding, inner_product_topk
from diffmm_pyg.utils.processes import current_processes
from torch_geometric.metrics import (
    LinkPredMetricCollection,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)
from torch_geometric.utils import coalesce

__all__ = [
    'evaluate',
    'unranked_items',
]

METRICS = {
    'recall': LinkPredRecall,
    'ndcg': LinkPredNDCG,
    'precision': LinkPredPrecision,
}


@torch.no_grad()
def evaluate(
    user_emb: UserEmbedding,
    item_emb: Tensor,
    edge_label_index: Tensor,
    exclude: SparseRows,
    k: Sequence[int] = (20, ),
    block_size: int = 4096,
) -> Dict[str, float]:
    r"""Ranks all items for every user and computes recall, NDCG and precision
    by the metrics of :obj:`torch_geometric.metrics`, as means over the users
    with at least one positive. Items of equal score are ranked in the order of
    their numbers, and a positive that is given twice counts once. Processes
    that share their work rank for each user once, and all get the same
    metrics.

    Args:
        user_emb (torch.Tensor or RowEmbedding): The embeddings
            :math:`(|\mathcal{U}|, F)`.
        item_emb (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
        edge_label_index (torch.Tensor): The positives, :obj:`[2, N]`.
        exclude (SparseRows): The items of every user that are not ranked,
            *i.e.* those known from training.
        k ([int], optional): The numbers of recommendations.
            (default: :obj:`(20, )`)
        block_size (int, optional): The number of users that are ranked at a
            time. (default: :obj:`4096`)

    Returns:
        A dictionary from, *e.g.*, :obj:`"recall@20"` to its value.

    Raises:
        DataError: If there are no positives.
    """
    if edge_label_index.size(1) == 0:
        raise DataError("There is no positive to evaluate on; give the split "
                        "at least one user-item pair")
    metrics = LinkPredMetricCollection({
        f'{name}@{n}': metric(n)
        for n in k for name, metric in METRICS.items()
    }).to(user_emb.device)
    for metric in metrics.values():  # A class of 'torchmetrics', if installed:
        metric.sync_on_compute = False  # All processes see all users.

    processes = current_processes()
    num_items = item_emb.size(0)
    user, item = coalesce(edge_label_index,
                          num_nodes=max(user_emb.size(0), num_items))
    users, row = user.unique_consecutive(return_inverse=True)
    for start in range(0, users.numel(), block_size):
        block = users[start:start + block_size]
        own = processes.narrow(block)
        score, index = inner_product_topk(
            user_emb[own], item_emb, min(max(k), num_items),
            exclude=exclude.select(own))
        # What is excluded must not count as a hit.
        index = index.masked_fill(score == float('-inf'), num_items)
        index = processes.concat(index)
        mask = (row >= start) & (row < start + block.numel())
        metrics.update(index, torch.stack([row[mask] - start, item[mask]]))
    return {name: float(value) for name, value in metrics.compute().items()}


def unranked_items(observed: Tensor, labels: Dict[str, Tensor], name: str,
                   protocol: str, num_users: int,
                   num_items: int) -> SparseRows:
    r"""Returns the items of every user that are not ranked in a split: those
    of training and, at test, of validation, except under the protocol of the
    paper.

    Args:
        observed (torch.Tensor): The training edges, :obj:`[2, E]`.
        labels (Dict[str, torch.Tensor]): The positives :obj:`[2, N]` of
            every split.
        name (str): The split to evaluate.
        protocol (str): :obj:`"strict"` or :obj:`"paper"`.
        num_users (int): The number of users.
        num_items (int): The number of items.
    """
    if name == 'test' and protocol == 'strict' and 'val' in labels:
        observed = torch.cat([observed, labels['val']], dim=1)
    return SparseRows.from_edge_index(observed, num_users, num_items)
