import fcntl
import hashlib
import json
import logging
import os
import re
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional, Set

from torch import Tensor

from diffmm_pyg.errors import RunError
from diffmm_pyg.runs.save import (
    CHECKPOINTS,
    import_safetensors,
    is_checkpoint,
    reason,
)
from diffmm_pyg.utils.atomic import atomic_path

logger = logging.getLogger(__name__)

FORMAT = 1
NUM_KEPT = 2

class Checkpoint(NamedTuple):
    r"""What a training goes on from.

    Args:
        values (Dict): All that is not a tensor.
        tensors (Dict[str, torch.Tensor]): The tensors.
    """
    values: Dict[str, Any]
    tensors: Dict[str, Tensor]


class Checkpoints:
    r"""The folder :obj:`checkpoints` of a run: tensors as
    :obj:`<number>.safetensors` and, with their checksum and one of its own,
    :obj:`<number>.json`, which is written last and makes a checkpoint of the
    two. Every file is on the disk before it gets its name, and the two last
    checkpoints are kept.

    While it is entered, no other process can enter it.

    Args:
        folder (str): The folder of the run.
    """
    def __init__(self, folder: str):
        self.folder = folder
        self.path = os.path.join(folder, CHECKPOINTS)
        self._lock: Optional[int] = None
        # The numbers of what is known as whole, and where the last one is.
        self._whole: List[int] = []
        self._position: List[int] = []

    def __enter__(self) -> 'Checkpoints':
        try:
            os.makedirs(self.path, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            self._unlock()
            raise RunError(f"Another process trains in '{self.folder}'; wait "
                           f"for it, or name another folder") from e
        except OSError as e:
            raise RunError(f"'{self.path}' cannot be used ({reason(e)}); name "
                           f"another folder for the run") from e
        return self

    def __exit__(self, *_: Any) -> None:
        with suppress(OSError):  # They hold something.
            os.rmdir(self.path)
            os.rmdir(self.folder)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def save(self, checkpoint: Checkpoint) -> None:
        r"""Writes a checkpoint.

        Raises:
            RunError: If it cannot be written; those before it stay.
        """
        safetensors = import_safetensors()
        try:
            number = max([0, *self._numbers()]) + 1
            with atomic_path(self._file(number, 'safetensors')) as path:
                safetensors.torch.save_file(_unshared(checkpoint.tensors),
                                            path)
                checksum = _file_checksum(path)
            self._write_values(number, {
                'format': FORMAT, 'tensors': checksum, **checkpoint.values})
            self._position = checkpoint.values['state']['position']
            self._keep_only([*self._whole, number][-NUM_KEPT:])
        except (OSError, safetensors.SafetensorError) as e:
            raise RunError(f"A checkpoint could not be written to "
                           f"'{self.path}' ({reason(e)}); free some space, "
                           f"then {self.advice()}") from e

    def finish(self) -> None:
        r"""Notes in the last checkpoint that its training has left a run, and
        keeps none but that one.

        Raises:
            RunError: If the disk is full, or the checkpoint is damaged.
        """
        number = self._whole[-1]
        try:
            values = self._read_values(number)
            self._write_values(number, {**values, 'finished': True})
            self._keep_only([number])
        except (OSError, ValueError, LookupError, TypeError,
                AttributeError) as e:
            raise RunError(f"The run in '{self.folder}' is whole, but its "
                           f"last checkpoint is damaged or could not be "
                           f"written to ({reason(e)}); only to go on with "
                           f"more epochs, train anew") from e

    def load(self) -> Optional[Checkpoint]:
        r"""Reads the last checkpoint, or, if it is damaged, the one before.
        Returns :obj:`None` if there is none.

        Raises:
            RunError: If all are damaged.
        """
        numbers = sorted(self._numbers(), reverse=True)
        for number in numbers:
            try:
                values = self._read_values(number)
                tensors = self._read_tensors(number, values['tensors'])
            except Exception as e:  # The errors have no common base.
                logger.warning("Checkpoint %d of '%s' is damaged (%s)",
                               number, self.folder, reason(e))
                continue
            self._position = values['state']['position']
            self._whole = [number]
            # The file is not to be mapped any longer.
            return Checkpoint(values, {name: x.clone()
                                       for name, x in tensors.items()})
        if len(numbers) > 0:
            raise RunError(f"No checkpoint in '{self.path}' is whole; train "
                           f"anew, with '--overwrite' (overwrite=True)")
        return None

    def config(self) -> Dict[str, Any]:
        r"""Returns what the training is made from.

        Raises:
            RunError: If there is no training, or no file that tells.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            for number in sorted(self._numbers(), reverse=True):
                with suppress(Exception):
                    return self._read_values(number)['config']
        raise RunError(f"'{self.folder}' holds no training to go on with; "
                       f"name a folder that 'train' wrote")

    def clear(self) -> None:
        r"""Removes all checkpoints.

        Raises:
            RunError: If one cannot be removed.
        """
        try:
            self._keep([])
        except OSError as e:
            raise RunError(f"Checkpoints in '{self.path}' cannot be removed "
                           f"({reason(e)}); name another folder for the "
                           f"run") from e

    @property
    def is_at_start(self) -> bool:
        r"""Whether no checkpoint has seen a step of training."""
        return len(self._whole) == 0 or not any(self._position)

    def advice(self) -> str:
        r"""Returns how the training can go on."""
        if self.is_at_start:
            return 'train again'
        epoch, phase, step = self._position
        return (f"go on by '--resume {self.folder}' from the last good "
                f"checkpoint (epoch {epoch + 1}, phase {phase + 1}, batch "
                f"{step + 1})")

    def _file(self, number: int, ending: str) -> str:
        return os.path.join(self.path, f'{number}.{ending}')

    def _numbers(self) -> Set[int]:
        matches = (re.fullmatch(r'(\d+)\.json', name)
                   for name in os.listdir(self.path))
        return {int(match[1]) for match in matches if match is not None}

    def _keep_only(self, numbers: List[int]) -> None:
        try:
            self._keep(numbers)
        except OSError as e:  # What is to be kept is whole nevertheless.
            logger.warning("Old checkpoints in '%s' cannot be removed (%s)",
                           self.path, reason(e))

    def _keep(self, numbers: List[int]) -> None:
        self._whole = numbers
        kept = {os.path.basename(self._file(number, ending))
                for number in numbers for ending in ['json', 'safetensors']}
        problem = None
        # With what was left by processes that were killed:
        for name in set(os.listdir(self.path)) - kept:
            if is_checkpoint(name):
                try:
                    os.remove(os.path.join(self.path, name))
                except OSError as e:  # The others can be, perhaps.
                    problem = e
        if problem is not None:
            raise problem

    def _write_values(self, number: int, values: Dict[str, Any]) -> None:
        with atomic_path(self._file(number, 'json')) as path:
            with open(path, 'w') as f:
                json.dump({'checksum': _checksum(values), **values}, f)

    def _read_tensors(self, number: int, checksum: str) -> Dict[str, Tensor]:
        path = self._file(number, 'safetensors')
        if _file_checksum(path) != checksum:
            raise ValueError('its checksum is another one')
        return dict(import_safetensors().torch.load_file(path))

    def _read_values(self, number: int) -> Dict[str, Any]:
        with open(self._file(number, 'json'), encoding='utf-8') as f:
            values = json.load(f)
        if values.pop('checksum') != _checksum(values):
            raise ValueError('its checksum is another one')
        if values['format'] != FORMAT:
            raise ValueError(f"it is not of format {FORMAT}")
        position = values['state']['position']
        if (not isinstance(values['config'], dict) or len(position) != 3
                or not all(type(n) is int and n >= 0 for n in position)):
            raise ValueError('it describes no training')
        return values


def _checksum(values: Dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _file_checksum(path: str) -> str:
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()


def _unshared(tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
    r"""Returns tensors on the CPU of which no two share memory, which
    :obj:`safetensors` does not write.
    """
    out, seen = {}, set()
    for name, x in tensors.items():
        x = x.detach().cpu().contiguous()
        pointer = x.untyped_storage().data_ptr()
        out[name] = x.clone() if pointer in seen else x
        seen.add(pointer)
    return out
