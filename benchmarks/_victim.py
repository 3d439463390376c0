r"""A tiny training in processes that may be killed. They are forked from this
one, so that none of them imports anything anew.
"""
import json
import mmap
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch

import diffmm_pyg
from diffmm_pyg.datasets import FakeMultiModalRec
from diffmm_pyg.nn import DiffMM, Phase
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints
from diffmm_pyg.utils.interrupt import Interrupted
from torch_geometric import seed_everything

OPERATIONS = ['fsync', 'remove', 'rename', 'replace']


class Victim:
    r"""Trains in a folder, where nothing but the run is to be left.

    Args:
        folder (Path): The folder.
        epochs (int): The number of epochs.
    """
    def __init__(self, folder: Path, epochs: int):
        self.folder = folder
        self.epochs = epochs
        self.run = folder / 'run'
        self.data = FakeMultiModalRec(60, 40, num_blocks=4)
        # Shared with the processes: the epoch they are in.
        self._epoch = mmap.mmap(-1, 4)
        folder.mkdir()

    def start(self, operation: Optional[int] = None) -> int:
        r"""Starts the training, or goes on with it, and returns the id of the
        process, which kills itself before an operation on files if that has
        a number.
        """
        self._set_epoch(0)
        sys.stdout.flush(), sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._train(operation)
        return pid

    @staticmethod
    def wait(pid: int) -> bool:
        r"""Returns whether a process has finished, or was killed."""
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # Negative is the signal of a process that did not handle it.
        if code in [-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM]:
            return False
        if code != 0:
            raise RuntimeError(f'A training failed (exit code {code})')
        return True

    def lost_epochs(self) -> int:
        r"""Returns how many epochs were finished and cannot be gone on from.
        """
        checkpoints = Checkpoints(str(self.run))
        last = None
        if os.path.exists(checkpoints.path):
            last = checkpoints.load()
        kept = 0 if last is None else last.values['state']['position'][0]
        return max(0, int.from_bytes(self._epoch[:], 'little') - kept)

    def result(self) -> Dict[str, Any]:
        r"""Returns all that a finished run consists of, but for the time that
        its epochs took.
        """
        files = {path.name: path.read_bytes() for path in self.run.iterdir()
                 if path.suffix == '.safetensors'}
        history: List[Dict[str, float]] = load(str(self.run)).history
        for row in history:
            del row['seconds']
        return {
            **files,
            'history': history,
            **{name: json.loads((self.run / name).read_text())
               for name in ['config.json', 'metrics.json', 'ids.json']},
        }

    def stray_files(self) -> List[str]:
        r"""Returns what lies beside the run, or was left unfinished in it."""
        return [str(path.relative_to(self.folder))
                for path in self.folder.rglob('*') if path.is_file()
                and (self.run not in path.parents
                     or any(name.startswith('.') for name in path.parts))]

    def _train(self, operation: Optional[int]) -> None:
        try:
            os.chdir(self.folder)
            os.environ.update({name: str(self.folder)
                               for name in ['HOME', 'TMPDIR']})
            if operation is not None:
                _kill_before(operation)
            seed_everything(0)
            model = diffmm_pyg.build_model(
                self.data[0], diffusion={'hidden_channels': 16})
            self._watch(model)
            diffmm_pyg.fit(model, self.data, epochs=self.epochs,
                           batch_size=64, top_k=5, device='cpu',
                           out=str(self.run), resume=True, progress=False)
            os._exit(0)
        except Interrupted as e:
            os._exit(128 + e.signum)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _watch(self, model: DiffMM) -> None:
        r"""Lets the training tell which epoch it is in."""
        phases = model.phases

        def watched(phase: Phase) -> Phase:
            def loss(index: torch.Tensor, batch_size: int,
                     key: Any) -> Dict[str, torch.Tensor]:
                self._set_epoch(key[1])
                return phase.loss(index, batch_size, key)

            return phase._replace(loss=loss)

        model.phases = lambda data: [watched(phase) for phase in phases(data)]

    def _set_epoch(self, epoch: int) -> None:
        self._epoch[:] = epoch.to_bytes(4, 'little')


def _kill_before(number: int) -> None:
    r"""Makes this process kill itself before an operation on files."""
    count = 0

    def patched(fn: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return fn(*args, **kwargs)

        return call

    for name in OPERATIONS:
        setattr(os, name, patched(getattr(os, name)))
