import logging
import time
from contextlib import suppress
from typing import Any, Dict, Optional, Union

import torch

from diffmm_pyg.errors import DiffMMError, RunError
from diffmm_pyg.runs import Run
from diffmm_pyg.runs.save import reason, write_run
from diffmm_pyg.training.checkpoint import Checkpoint, Checkpoints
from diffmm_pyg.training.resume import check_same_training
from diffmm_pyg.training.state import Tensors, TrainingState
from diffmm_pyg.utils.processes import Processes

logger = logging.getLogger(__name__)


class Keeper:
    r"""Keeps the state of a training in checkpoints, if it has a folder. The
    first one of several processes does.

    Args:
        state (TrainingState): The state.
        config (Dict): What the training is made from.
        folder (str, optional): The folder of the run.
        minutes (float): The time between checkpoints within an epoch.
        epochs (bool): Whether every epoch ends with a checkpoint.
        processes (Processes): The processes that train.
    """
    def __init__(self, state: TrainingState, config: Dict[str, Any],
                 folder: Optional[str], minutes: float, epochs: bool,
                 processes: Processes):
        self.state = state
        self.config = config
        self.folder = folder
        self.minutes = minutes
        self.epochs = epochs
        self.processes = processes
        self.checkpoints: Optional[Checkpoints] = None
        if folder is not None and processes.is_first:
            self.checkpoints = Checkpoints(folder)
        # Whether the run was written, and nothing has changed since:
        self.is_finished = False
        self._is_new = False
        self._is_kept = True  # Whether no epoch has ended since
        self._time = time.monotonic()

    def __enter__(self) -> 'Keeper':
        if self.checkpoints is not None:
            self.checkpoints.__enter__()
        return self

    def __exit__(self, kind: Any, *args: Any) -> None:
        if self.checkpoints is None:
            return
        if kind is not None and self._is_new and self.checkpoints.is_at_start:
            with suppress(RunError):  # What has happened matters more.
                self.checkpoints.clear()  # Nothing has been done yet.
        self.checkpoints.__exit__(kind, *args)

    def begin(self, resume: bool) -> None:
        r"""Sets the state to that of the last checkpoint if the training is
        to go on and there is one; otherwise, writes the first checkpoint. All
        processes begin with the state of the first one.

        Raises:
            ConfigError: If data, model or options have changed meanwhile.
            RunError: If checkpoints are damaged, or cannot be written.
        """
        if self.checkpoints is not None:
            self._begin(self.checkpoints, resume)
        if self.processes.size > 1:
            values, tensors = self.processes.from_first(
                (self.state.values(), _to(self.state.tensors(), 'cpu')))
            self.state.restore(values, _to(tensors, self.state.device))

    def _begin(self, checkpoints: Checkpoints, resume: bool) -> None:
        last = checkpoints.load() if resume else None
        if last is None:
            if resume:
                logger.info("Begins anew, as there is no training in '%s'",
                            checkpoints.folder)
            checkpoints.clear()
            self._is_new = True
            self.keep()
            return
        try:
            check_same_training(last.values['config'], self.config)
            self.state.restore(last.values['state'],
                               _to(last.tensors, self.state.device))
        except DiffMMError:
            raise
        except Exception as e:  # Any, as checksums guard from damage only.
            raise RunError(f"The checkpoint in '{checkpoints.path}' is not "
                           f"that of this training ({reason(e)}); train anew, "
                           f"with '--overwrite' (overwrite=True)") from e
        self.is_finished = last.values.get('finished', False)
        logger.info("Goes on in epoch %d from '%s'", self.state.epoch + 1,
                    checkpoints.path)

    def keep_if_due(self) -> None:
        r"""Writes a checkpoint if the last one is old."""
        if time.monotonic() - self._time >= 60 * self.minutes:
            self.keep()

    def keep_epoch(self) -> None:
        r"""Writes a checkpoint at the end of an epoch, or if the last one is
        old.
        """
        self._is_kept = False
        if self.epochs:
            self.keep()
        else:
            self.keep_if_due()

    def keep_last(self) -> None:
        r"""Writes a checkpoint if there is none of the last epoch."""
        if not self._is_kept:
            self.keep()

    def keep(self) -> None:
        r"""Writes a checkpoint.

        Raises:
            RunError: If it cannot be written, or the state is not finite.
        """
        if self.checkpoints is None:
            return
        problem = self.state.not_finite()
        if problem is not None:
            raise self.not_finite(problem)
        self.is_finished = False
        self.checkpoints.save(Checkpoint(
            {'config': self.config, 'state': self.state.values()},
            self.state.tensors()))
        self._is_kept = True
        self._time = time.monotonic()

    def finish(self, run: Run) -> None:
        r"""Writes the run, unless that was done before.

        Raises:
            RunError: If it cannot be written.
        """
        if self.checkpoints is None:
            return
        folder = self.checkpoints.folder
        if self.is_finished:
            run.folder = folder
            logger.warning("The training in '%s' has finished, after %d "
                           "epochs; it only goes on with more 'epochs' or "
                           "'patience'", folder, len(run.history))
            return
        write_run(run, folder)
        self.checkpoints.finish()

    def not_finite(self, what: str) -> RunError:
        r"""Returns the error that tells what is not finite, and what to do.
        """
        return RunError(f"{what} not finite in epoch {self.state.epoch + 1}; "
                        f"lower 'lr' (or look for extreme features) and "
                        f"train anew, or drop such batches ('--on-nan skip') "
                        f"and {self.advice()}")

    def advice(self) -> str:
        r"""Returns how the training can go on."""
        if self.checkpoints is not None:
            return self.checkpoints.advice()
        if self.folder is not None:
            return f"go on by '--resume {self.folder}'"
        return 'train again'


def _to(tensors: Tensors, device: Union[str, torch.device]) -> Tensors:
    return {name: x.to(device) for name, x in tensors.items()}
