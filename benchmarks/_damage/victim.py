r"""A tiny training in processes that may be killed. They are forked from this
one, so that none of them imports anything anew.
"""
import json
import mmap
import os
import signal
import struct
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

import diffmm_pyg
from diffmm_pyg.datasets import FakeMultiModalRec
from diffmm_pyg.nn import DiffMM, Phase
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints
from diffmm_pyg.utils.interrupt import Interrupted
from torch_geometric import seed_everything

STEP = struct.Struct('4i')  # Whether there was one; epoch, phase, batch.
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
        # Shared with the processes: the step they are in.
        self._step = mmap.mmap(-1, STEP.size)
        folder.mkdir()
        # PyG leaves a module of every convolution among temporary files, once
        # in each process that does not inherit it.
        self._model()

    def start(self, operation: Optional[int] = None) -> int:
        r"""Starts the training, or goes on with it, and returns the id of the
        process, which kills itself before an operation on files if that has
        a number.
        """
        self._set_step(0, 0, 0, 0)
        sys.stdout.flush(), sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._train(operation)
        return pid

    @staticmethod
    def wait(pid: int) -> int:
        r"""Returns 0 if a process has finished, or the exit code of one that
        was killed: the negative signal if it did not handle it.
        """
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code not in [0, -signal.SIGKILL, -signal.SIGTERM,
                        128 + signal.SIGTERM]:
            raise RuntimeError(f'A training failed (exit code {code})')
        return code

    def lost_epochs(self) -> int:
        r"""Returns how many epochs were finished and cannot be gone on from.
        """
        return max(0, STEP.unpack(self._step[:])[1] - self._position()[0])

    def is_orderly(self, code: int) -> bool:
        r"""Whether a process that SIGTERM ended has, once it trained, saved
        its last step and told so by its exit code.
        """
        has_begun, epoch, phase, step = STEP.unpack(self._step[:])
        position = self._position()
        if not has_begun or position[0] == self.epochs:
            return True
        return (code == 128 + signal.SIGTERM
                and position >= (epoch, phase, step + 1))

    def _position(self) -> Tuple[int, ...]:
        r"""Returns the step that the training goes on with."""
        checkpoints = Checkpoints(str(self.run))
        last = None
        if os.path.exists(checkpoints.path):
            last = checkpoints.load()
        return (0, 0, 0) if last is None else tuple(
            last.values['state']['position'])

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
            tempfile.tempdir = None  # It was looked up before the fork.
            if operation is not None:
                _kill_before(operation)
            model = self._model()
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

    def _model(self) -> DiffMM:
        seed_everything(0)
        return diffmm_pyg.build_model(self.data[0],
                                      diffusion={'hidden_channels': 16})

    def _watch(self, model: DiffMM) -> None:
        r"""Lets the training tell which step it is in."""
        phases = model.phases

        def watched(phase: Phase) -> Phase:
            def loss(index: torch.Tensor, batch_size: int,
                     key: Any) -> Dict[str, torch.Tensor]:
                self._set_step(1, *key[1:])
                return phase.loss(index, batch_size, key)

            return phase._replace(loss=loss)

        model.phases = lambda data: [watched(phase) for phase in phases(data)]

    def _set_step(self, *step: int) -> None:
        self._step[:] = STEP.pack(*step)


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
