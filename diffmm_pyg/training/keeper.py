import logging
import time
from typing import Any, Dict, Optional

from diffmm_pyg.errors import DiffMMError, RunError
from diffmm_pyg.runs import Run, save_run
from diffmm_pyg.runs.save import reason
from diffmm_pyg.training.checkpoint import Checkpoint, Checkpoints
from diffmm_pyg.training.resume import check_same_training
from diffmm_pyg.training.state import TrainingState

logger = logging.getLogger(__name__)


class Keeper:
    r"""Keeps the state of a training in checkpoints, if it has a folder.

    Args:
        state (TrainingState): The state.
        config (Dict): What the training is made from.
        folder (str, optional): The folder of the run.
        minutes (float): The time between checkpoints within an epoch.
    """
    def __init__(self, state: TrainingState, config: Dict[str, Any],
                 folder: Optional[str], minutes: float):
        self.state = state
        self.config = config
        self.minutes = minutes
        self.checkpoints = None if folder is None else Checkpoints(folder)
        # Whether the run was written, and nothing has changed since:
        self.is_finished = False
        self._is_new = False
        self._time = time.monotonic()

    def __enter__(self) -> 'Keeper':
        if self.checkpoints is not None:
            self.checkpoints.__enter__()
        return self

    def __exit__(self, kind: Any, *args: Any) -> None:
        if self.checkpoints is None:
            return
        if kind is not None and self._is_new and self.checkpoints.is_at_start:
            self.checkpoints.clear()  # Nothing has been done yet.
        self.checkpoints.__exit__(kind, *args)

    def begin(self, resume: bool) -> None:
        r"""Sets the state to that of the last checkpoint if the training is
        to go on and there is one; otherwise, writes the first checkpoint.

        Raises:
            ConfigError: If data, model or options have changed meanwhile.
            RunError: If checkpoints are damaged, or cannot be written.
        """
        if self.checkpoints is None:
            return
        last = self.checkpoints.load() if resume else None
        if last is None:
            self.checkpoints.clear()
            self._is_new = True
            self.keep()
            return
        device = self.state.device
        try:
            check_same_training(last.values['config'], self.config)
            self.state.restore(last.values['state'], {
                name: x.to(device) for name, x in last.tensors.items()})
        except DiffMMError:
            raise
        except Exception as e:  # Any, as checksums guard from damage only.
            raise RunError(f"The checkpoint in '{self.checkpoints.path}' is "
                           f"not that of this training ({reason(e)}); train "
                           f"anew, with '--overwrite' (overwrite=True)") from e
        self.is_finished = last.values.get('finished', False)
        logger.info("Goes on in epoch %d from '%s'", self.state.epoch + 1,
                    self.checkpoints.path)

    def keep_if_due(self) -> None:
        r"""Writes a checkpoint if the last one is old."""
        if time.monotonic() - self._time >= 60 * self.minutes:
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
        save_run(run, folder, overwrite=True)
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
        if self.checkpoints is None:
            return 'train again'
        return self.checkpoints.advice()
