from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from diffmm_pyg.nn.models import Phase, Recommender
from diffmm_pyg.runs.embeddings import (
    embedding_tensors,
    embeddings_from_tensors,
)
from diffmm_pyg.training.best import Best, Kept
from diffmm_pyg.training.generated import Generated
from diffmm_pyg.training.losses import PhaseLosses
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import UserEmbedding
from diffmm_pyg.utils.random import (
    global_random_state,
    set_global_random_state,
)
from torch_geometric.data import HeteroData

Tensors = Dict[str, Tensor]


class TrainingState:
    r"""All that changes in a training. What is drawn at random, the order of
    batches included, depends on the seed and the position alone.

    Args:
        model (Recommender): The model.
        data (HeteroData): The training graph, before the model has changed
            it.
        metric (str): The metric that decides which epoch is the best.
    """
    def __init__(self, model: Recommender, data: HeteroData, metric: str):
        self.model = model
        self.generated = Generated(data)
        self.phases: List[Phase] = model.phases(data)
        self.optimizers: Sequence[Any] = []  # One for every phase.
        # The next batch:
        self.epoch, self.phase, self.step = 0, 0, 0
        # Of the epoch so far:
        self.row: Dict[str, float] = {}
        self.losses = PhaseLosses()
        self.seconds = 0.
        # Of the epochs before:
        self.history: List[Dict[str, float]] = []
        self.best = Best(metric)

    @property
    def data(self) -> HeteroData:
        return self.generated.data

    @property
    def device(self) -> torch.device:
        return self.data[INTERACTS].edge_index.device

    def is_done(self, epochs: int, patience: float) -> bool:
        r"""Whether there are no more epochs to train."""
        return (self.epoch >= epochs
                or self.epoch - 1 - self.best.epoch >= patience)

    def end_phase(self, row: Dict[str, float]) -> None:
        r"""Goes on to the next phase, with what is known of this one."""
        self.row.update(row)
        self.phase, self.step, self.losses = self.phase + 1, 0, PhaseLosses()

    def end_epoch(self, metrics: Dict[str, float],
                  embeddings: Tuple[UserEmbedding, Tensor]) -> None:
        r"""Goes on to the next epoch, with what is known of this one."""
        row = {'epoch': self.epoch + 1, **self.row, **metrics,
               'seconds': self.seconds}
        self.history.append(row)
        self.best.update(self.epoch, row, self.model, self.generated,
                         embeddings)
        self.epoch, self.phase, self.row, self.seconds = (
            self.epoch + 1, 0, {}, 0.)

    def restore_best(self) -> Optional[Tuple[UserEmbedding, Tensor]]:
        r"""Sets the model and its graph to the best epoch so far, if there is
        one, and returns its embeddings.
        """
        if self.best.kept is None:
            return None
        self.model.data = self.data
        return self.best.restore(self.model, self.generated)

    def not_finite(self) -> Optional[str]:
        r"""Returns what is NaN or infinite, if anything is: a loss of this
        phase, or a parameter. Waits for the device.
        """
        step = self.losses.first_not_finite()
        if step is not None:
            return (f"The loss of batch {step + 1} of phase "
                    f"'{self.phases[self.phase].name}' is")
        for name, x in self.model.state_dict().items():
            if not torch.isfinite(x).all():
                return f"Parameter '{name}' is"
        return None

    def values(self) -> Dict[str, Any]:
        r"""Returns all that is not a tensor, for JSON."""
        kept = self.best.kept
        return {
            'position': [self.epoch, self.phase, self.step],
            'row': self.row,
            'num_skipped': self.losses.num_skipped,
            'seconds': self.seconds,
            'history': self.history,
            'best': None if kept is None else [kept.epoch, kept.value],
            'random': global_random_state(),
        }

    def tensors(self) -> Tensors:
        r"""Returns all tensors."""
        groups = {
            'model': self.model.state_dict(),
            'generated': self.generated.tensors(),
            'total': self.losses.totals,
        }
        for i, optimizer in enumerate(self.optimizers):
            groups[f'optimizer.{i}'] = _optimizer_tensors(optimizer)
        if self.best.kept is not None:
            groups['best.model'] = self.best.kept.state
            groups['best.generated'] = self.best.kept.generated
            groups['best.embedding'] = embedding_tensors(
                *self.best.kept.embeddings)
        return {f'{group}/{name}': x for group, tensors in groups.items()
                for name, x in tensors.items()}

    def restore(self, values: Dict[str, Any], tensors: Tensors) -> None:
        r"""Sets everything to what :meth:`values` and :meth:`tensors`
        returned.
        """
        self.model.load_state_dict(_group(tensors, 'model'))
        self.generated.restore(_group(tensors, 'generated'))
        for i, optimizer in enumerate(self.optimizers):
            _restore_optimizer(optimizer, _group(tensors, f'optimizer.{i}'))
        self.epoch, self.phase, self.step = values['position']
        self.row, self.seconds = values['row'], values['seconds']
        self.losses = PhaseLosses(_group(tensors, 'total'),
                                  values['num_skipped'])
        self.history = values['history']
        if values['best'] is not None:
            embeddings = embeddings_from_tensors(
                _group(tensors, 'best.embedding'),
                self.data[INTERACTS].edge_index)
            epoch, value = values['best']
            self.best.kept = Kept(epoch, value, _group(tensors, 'best.model'),
                                  _group(tensors, 'best.generated'),
                                  embeddings)
        set_global_random_state(values['random'])


def _group(tensors: Tensors, name: str) -> Tensors:
    return {key.removeprefix(f'{name}/'): x for key, x in tensors.items()
            if key.startswith(f'{name}/')}


def _optimizer_tensors(optimizer: Any) -> Tensors:
    state = optimizer.state_dict()['state']
    return {f'{i}/{name}': x for i, values in state.items()
            for name, x in values.items()}


def _restore_optimizer(optimizer: Any, tensors: Tensors) -> None:
    state: Dict[int, Tensors] = {}
    for key, x in tensors.items():
        i, name = key.split('/')
        state.setdefault(int(i), {})[name] = x
    groups = optimizer.state_dict()['param_groups']
    optimizer.load_state_dict({'state': state, 'param_groups': groups})
