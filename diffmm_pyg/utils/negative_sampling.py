import torch
from torch import Tensor

from diffmm_pyg.utils.sparse_rows import SparseRows


class NegativeSampler:
    r"""Draws, for every user of a batch, an item that the user has not
    interacted with, uniformly, at once and without a loop: the rank of an
    item among those that are left.

    Args:
        rows (SparseRows): The items of every user.
    """
    def __init__(self, rows: SparseRows):
        self.num_items = rows.num_cols
        self.rowptr, self.left = rows.rowptr, rows.num_cols - rows.count
        # Users, with the number of items left before each interaction:
        row = rows.row
        rank = torch.arange(rows.col.numel(), device=rows.col.device)
        self.key = row * rows.num_cols + rows.col - rank + rows.rowptr[row]

    def __call__(self, user: Tensor, generator: torch.Generator) -> Tensor:
        r"""Returns one item for every entry of :obj:`user`. A user who has
        interacted with every item gets an arbitrary one; :meth:`valid` tells
        who that is.
        """
        draw = torch.rand(user.numel(), generator=generator,
                          dtype=torch.double, device=user.device)
        rank = (draw * self.left[user]).long()
        # The item of that rank is as much further as interactions precede it.
        pos = torch.searchsorted(self.key, user * self.num_items + rank,
                                 right=True)
        item = rank + pos - self.rowptr[user]
        return item.clamp_(max=self.num_items - 1)

    def other_than(self, pos: Tensor, user: Tensor,
                   generator: torch.Generator) -> Tensor:
        r"""Returns one item for every pair of :obj:`user` and :obj:`pos`:
        where the user has interacted with every item, :obj:`pos` itself, so
        that a loss of their difference has no gradient.
        """
        return torch.where(self.valid(user), self(user, generator), pos)

    def valid(self, user: Tensor) -> Tensor:
        r"""Returns the mask of the users for whom a negative exists."""
        return self.left[user] > 0
