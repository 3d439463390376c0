import logging
import time
from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor
from tqdm import tqdm

from diffmm_pyg.errors import RunError
from diffmm_pyg.nn.models import Phase
from diffmm_pyg.training.device import autocast
from diffmm_pyg.training.keeper import Keeper
from diffmm_pyg.training.splits import Splits
from diffmm_pyg.training.state import TrainingState
from diffmm_pyg.utils import RowEmbedding, UserEmbedding, keyed_generator
from diffmm_pyg.utils.interrupt import Signals
from diffmm_pyg.utils.processes import Processes
from diffmm_pyg.utils.topk import is_out_of_memory

logger = logging.getLogger(__name__)


class Trainer:
    r"""Moves a training forward, from wherever its state is.

    Args:
        state (TrainingState): The state.
        splits (Splits): What to evaluate on.
        accelerator (Any): What runs backward passes.
        seed (int): The seed of all random draws.
        batch_size (int): The number of examples of a batch.
        precision (str): The precision of matrix products.
        on_nan (str): What to do with a batch whose loss or gradient is not
            finite.
        signals (Signals): What may interrupt, but not within a step.
        keeper (Keeper): What keeps the state.
        processes (Processes): The processes that train.
        progress (tqdm): The progress bar.
    """
    def __init__(self, state: TrainingState, splits: Splits, accelerator: Any,
                 seed: int, batch_size: int, precision: str, on_nan: str,
                 signals: Signals, keeper: Keeper, processes: Processes,
                 progress: tqdm):
        self.state = state
        self.splits = splits
        self.accelerator = accelerator
        self.device = state.device
        self.seed = seed
        self.batch_size = batch_size
        self.precision = precision
        self.on_nan = on_nan
        self.signals = signals
        self.keeper = keeper
        self.processes = processes
        self.progress = progress
        self._start = 0.

    def run_epoch(self) -> None:
        r"""Runs an epoch, or what is left of it."""
        state = self.state
        self._start = time.perf_counter() - state.seconds
        state.model.train()
        while state.phase < len(state.phases):
            self._run_phase(state.phases[state.phase],
                            state.optimizers[state.phase])
        embeddings = self._embed()
        metrics = {f'{name}/{k}': v for name in self.splits.watched
                   for k, v in self.splits.evaluate(name, *embeddings).items()}
        with self.signals.held():
            state.seconds = time.perf_counter() - self._start
            state.end_epoch(metrics, embeddings)
            self.keeper.keep_epoch()
        self._report(state.history[-1])

    def _run_phase(self, phase: Phase, optimizer: Any) -> None:
        state, key = self.state, (self.seed, self.state.epoch,
                                  self.state.phase)
        if phase.begin is not None:
            with autocast(self.device, self.precision):
                phase.begin(key)
        perm = torch.randperm(phase.num_examples,
                              generator=keyed_generator(*key))
        batches = perm.to(self.device).split(self.batch_size)
        state.losses.start(len(batches), self.device)
        for step in range(state.step, len(batches)):
            with self.signals.held():
                self._run_step(phase, optimizer, batches[step], (*key, step))
                state.step = step + 1
                state.seconds = time.perf_counter() - self._start
                self.keeper.keep_if_due()
                # Writing checkpoints is no part of the seconds:
                self._start = time.perf_counter() - state.seconds
            self.progress.set_description(
                f'{phase.name} {state.step}/{len(batches)}')
        with self.signals.held():
            self._end_phase(phase, len(batches))

    def _run_step(self, phase: Phase, optimizer: Any, index: Tensor,
                  key: Tuple[int, ...]) -> None:
        try:
            with autocast(self.device, self.precision):
                losses = phase.loss(index, self.batch_size, key)
            self.accelerator.backward(losses['loss'])
            losses = self._average(losses, phase)
            if self._is_usable(losses['loss'], phase):
                optimizer.step()
                self.state.losses.add(key[-1], losses)
            else:
                self.state.losses.num_skipped += 1
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e):
                raise
            raise RunError(f"Out of memory in batch {key[-1] + 1} of phase "
                           f"'{phase.name}', epoch {self.state.epoch + 1}; "
                           f"lower 'batch_size' ({self.batch_size}) and train "
                           f"again, or {self.keeper.advice()}") from e
        optimizer.zero_grad()  # Gradients are not to outlive their phase.

    def _average(self, losses: Dict[str, Tensor],
                 phase: Phase) -> Dict[str, Tensor]:
        r"""Makes losses and gradients the means of those of all processes."""
        if self.processes.size == 1:
            return losses
        values = torch.stack([value.detach() for value in losses.values()])
        self.processes.average_([values, *_gradients(phase)])
        return dict(zip(losses, values, strict=True))

    def _is_usable(self, loss: Tensor, phase: Phase) -> bool:
        r"""Whether a batch that may be skipped is finite, for which the host
        waits for the device.
        """
        if self.on_nan != 'skip':
            return True
        norm = torch.nn.utils.get_total_norm(_gradients(phase))
        return bool(torch.isfinite(loss) & torch.isfinite(norm))

    def _end_phase(self, phase: Phase, num_batches: int) -> None:
        losses = self.state.losses
        problem = self.state.not_finite()
        if losses.num_skipped == num_batches:
            problem = f"The losses of all batches of phase '{phase.name}' are"
        if problem is not None:
            raise self.keeper.not_finite(problem)
        row = losses.means(num_batches)
        if self.on_nan == 'skip':
            row['skipped'] = losses.num_skipped
        self.state.end_phase({f'{phase.name}/{k}': v for k, v in row.items()})

    @torch.no_grad()
    def _embed(self) -> Tuple[UserEmbedding, Tensor]:
        model = self.state.model.eval()
        with autocast(self.device, self.precision):
            user_emb, item_emb = model.embed(self.state.data)
        user_emb, item_emb = user_emb.float(), item_emb.float()
        tensors = [item_emb, *(user_emb.tensors.values() if isinstance(
            user_emb, RowEmbedding) else [user_emb])]
        if not all(torch.isfinite(x).all() for x in tensors):
            raise self.keeper.not_finite('The embeddings are')
        return user_emb, item_emb

    def _report(self, row: Dict[str, float]) -> None:
        if not self.processes.is_first:
            return
        shown = {name: value for name, value in row.items()
                 if name.endswith('/loss')
                 or name == self.state.best.metric}
        self.progress.set_postfix({name: f'{value:.4g}'
                                   for name, value in shown.items()})
        self.progress.update()
        logger.info('epoch %d: %s', row['epoch'], ', '.join(
            f'{name} {value:.4f}' for name, value in shown.items()))


def _gradients(phase: Phase) -> List[Tensor]:
    return [p.grad for p in phase.parameters if p.grad is not None]
