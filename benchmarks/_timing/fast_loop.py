r"""An epoch of the library, in the steps of :meth:`diffmm_pyg.training.fit`,
cut into pieces that can be timed.
"""
from contextlib import AbstractContextManager
from typing import Dict, List, Literal, Optional, Tuple

import torch
from torch import Tensor

from diffmm_pyg.evaluation import evaluate
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import SparseRows
from torch_geometric.data import HeteroData

Key = Tuple[int, ...]
PHASES = ['diffusion', 'generation', 'ranking', 'evaluation']


class FastLoop:
    r"""Trains a model by its phases.

    Args:
        model (DiffMM): The model.
        data (Tuple[HeteroData, HeteroData]): The training graph, and the
            one with the pairs to evaluate on.
        batch_size (int): The nominal batch size.
        lr (float): The learning rate.
        precision (str): :obj:`"fp32"` or :obj:`"bf16"`.
        top_k (int, optional): The number of recommendations that are
            evaluated. (default: :obj:`20`)
    """
    def __init__(
        self,
        model: DiffMM,
        data: Tuple[HeteroData, HeteroData],
        batch_size: int,
        lr: float,
        precision: Literal['fp32', 'bf16'] = 'fp32',
        top_k: int = 20,
    ):
        self.model = model.train()
        # The phases write generated edges to their graph:
        self.train = data[0].clone()
        self.labels = data[1][INTERACTS].edge_label_index
        self.device = self.labels.device
        self.batch_size = batch_size
        self.precision = precision
        self.top_k = top_k
        self.phases = model.phases(self.train)
        self.optimizers = [
            torch.optim.Adam(phase.parameters, lr, fused=True)
            for phase in self.phases
        ]
        # Users, and interactions:
        self.num_examples = [phase.num_examples for phase in self.phases]

    def start_epoch(self, key: Key) -> None:
        r"""Does what precedes the training of the denoisers."""
        self._begin(0, key)

    def diffusion_step(self, index: Tensor, key: Key) -> Tensor:
        r"""Trains the denoisers on a batch of users; returns the loss."""
        return self._step(0, index, key)

    def generate(self, key: Key) -> None:
        r"""Generates and normalizes the graphs."""
        self._begin(1, key)

    def ranking_step(self, index: Tensor, key: Key) -> Tensor:
        r"""Trains the recommender on a batch of interactions; returns the
        loss.
        """
        return self._step(1, index, key)

    @torch.no_grad()
    def evaluate(self) -> Dict[str, float]:
        r"""Ranks all items for the users to evaluate."""
        self.model.eval()
        with self._autocast():
            user, item = self.model.embed(self.train)
        exclude = SparseRows.from_edge_index(
            self.train[INTERACTS].edge_index, user.size(0), item.size(0))
        if isinstance(user, torch.Tensor):
            user = user.float()
        out = evaluate(user, item.float(), self.labels, exclude, [self.top_k])
        self.model.train()
        return out

    def _begin(self, phase: int, key: Key) -> None:
        begin = self.phases[phase].begin
        assert begin is not None
        with self._autocast():
            begin(key)

    def _step(self, phase: int, index: Tensor, key: Key) -> Tensor:
        with self._autocast():
            loss = self.phases[phase].loss(index, self.batch_size, key)['loss']
        optimizer = self.optimizers[phase]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16,
                              enabled=self.precision == 'bf16')


def choose_batches(num_examples: int, batch_size: int, steps: Optional[int],
                   ) -> List[Tuple[Tensor, float]]:
    r"""Returns batches of an epoch, and how many of its batches each stands
    for: all of them, or the first full ones and the short last one.
    """
    perm = torch.randperm(num_examples)
    num_full = num_examples // batch_size
    out: List[Tuple[Tensor, float]] = []
    if num_full > 0:
        full = perm[:num_full * batch_size].split(batch_size)[:steps]
        out = [(index, num_full / len(full)) for index in full]
    if num_examples % batch_size > 0:
        out.append((perm[num_full * batch_size:], 1.))
    return out
