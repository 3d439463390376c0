import torch
from torch import Tensor

from diffmm_pyg.utils.sparse_rows import SparseRows

MAX_ROUNDS = 20  # The number of draws that may collide.


class NegativeSampler:
    r"""Draws, for every user of a batch, an item that the user has not
    interacted with, uniformly and vectorised: draws that collide with an
    interaction are repeated a few times, and then made among the items that
    are left.

    Args:
        rows (SparseRows): The items of every user.
    """
    def __init__(self, rows: SparseRows):
        self.num_items = rows.num_cols
        row = rows.row
        self.key = row * rows.num_cols + rows.col  # Sorted.
        self.full = rows.count >= rows.num_cols
        self.rowptr, self.left = rows.rowptr, rows.num_cols - rows.count
        # The same with the number of items left before each interaction:
        rank = torch.arange(rows.col.numel(), device=rows.col.device)
        self.left_key = self.key - rank + rows.rowptr[row]

    def __call__(self, user: Tensor, generator: torch.Generator) -> Tensor:
        r"""Returns one item for every entry of :obj:`user`. A user who has
        interacted with every item gets an arbitrary one; :meth:`valid` tells
        who that is.
        """
        item = self._draw(user.numel(), generator)
        left = self._collides(user, item).nonzero().view(-1)
        for _ in range(MAX_ROUNDS):
            if left.numel() == 0:
                return item
            item[left] = self._draw(left.numel(), generator)
            left = left[self._collides(user[left], item[left])]
        item[left] = self._draw_left(user[left], generator)
        return item

    def valid(self, user: Tensor) -> Tensor:
        r"""Returns the mask of the users for whom a negative exists."""
        return ~self.full[user]

    def _draw(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.randint(self.num_items, (num, ), generator=generator,
                             device=self.key.device)

    def _draw_left(self, user: Tensor, generator: torch.Generator) -> Tensor:
        draw = torch.rand(user.numel(), generator=generator,
                          dtype=torch.double, device=user.device)
        rank = (draw * self.left[user]).long()
        # The item of that rank is as much further as interactions precede it.
        pos = torch.searchsorted(self.left_key, user * self.num_items + rank,
                                 right=True)
        return rank + pos - self.rowptr[user]

    def _collides(self, user: Tensor, item: Tensor) -> Tensor:
        key = user * self.num_items + item
        pos = torch.searchsorted(self.key, key)
        pos = pos.clamp_(max=self.key.numel() - 1)
        return (self.key[pos] == key) & self.valid(user)
