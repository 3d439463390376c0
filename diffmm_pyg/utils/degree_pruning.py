import torch
from torch import Tensor

from torch_geometric.utils import degree


def degree_pruning(edge_index: Tensor, num_users: int, num_items: int,
                   p: float, generator: torch.Generator) -> Tensor:
    r"""Draws edges that remain, without replacement and each with a
    probability proportional to :math:`1 / \sqrt{d_u d_i}`, as in `"A Tale of
    Two Graphs" <https://arxiv.org/abs/2211.06924>`_ (Sec. 3.2): edges between
    popular nodes tend to go.

    Args:
        edge_index (torch.Tensor): The edges :math:`(2, |\mathcal{E}|)` from
            users to items.
        num_users (int): The number of users.
        num_items (int): The number of items.
        p (float): The share of edges to prune; one edge is left at least.
        generator (torch.Generator): What draws them.

    Returns:
        The edges that are left, in their order.
    """
    user, item = edge_index
    dtype = torch.double
    odds = (degree(user, num_users, dtype)[user] *
            degree(item, num_items, dtype)[item]).rsqrt()
    # The first of exponential clocks of these rates are such a draw; unlike
    # `torch.multinomial`, they have no limit of 2^24 edges.
    time = torch.empty_like(odds).exponential_(generator=generator) / odds
    num = max(1, int(odds.numel() * (1 - p)))
    index = time.topk(num, largest=False, sorted=False).indices
    return edge_index[:, index.sort().values]
