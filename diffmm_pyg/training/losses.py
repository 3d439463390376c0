from typing import Dict, Optional

import torch
from torch import Tensor


class PhaseLosses:
    r"""The losses of the batches of a phase, of which nothing is read from
    the device until somebody asks.

    Args:
        totals (Dict[str, torch.Tensor], optional): The sums over the batches
            so far, by name. (default: :obj:`None`)
        num_skipped (int, optional): The number of batches that were skipped.
            (default: :obj:`0`)
    """
    def __init__(self, totals: Optional[Dict[str, Tensor]] = None,
                 num_skipped: int = 0):
        self.totals = dict(totals or {})
        self.num_skipped = num_skipped
        self._is_finite: Optional[Tensor] = None

    def start(self, num_batches: int, device: torch.device) -> None:
        r"""Makes room for what is known of every batch."""
        self._is_finite = torch.ones(num_batches, dtype=torch.bool,
                                     device=device)

    def add(self, step: int, losses: Dict[str, Tensor]) -> None:
        r"""Adds the losses of a batch."""
        assert self._is_finite is not None
        self._is_finite[step] = torch.isfinite(losses['loss'].detach())
        for name, value in losses.items():
            self.totals[name] = self.totals.get(name, 0.) + value.detach()

    def first_not_finite(self) -> Optional[int]:
        r"""Returns the first batch whose loss was NaN or infinite. Waits for
        the device.
        """
        if self._is_finite is None or bool(self._is_finite.all()):
            return None
        return int((~self._is_finite).nonzero()[0])

    def means(self, num_batches: int) -> Dict[str, float]:
        r"""Returns the means over the batches that were not skipped. Waits
        for the device.
        """
        return {name: float(total) / (num_batches - self.num_skipped)
                for name, total in self.totals.items()}
