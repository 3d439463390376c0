r"""The folder of results: `results.jsonl` with one line per cell, and, as
safetensors, the ranks that every cell gave to the positives of the test
split, and what these positives are.
"""
import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import numpy as np
from torch import Tensor

from diffmm_pyg.errors import RunError
from diffmm_pyg.runs.save import import_safetensors
from diffmm_pyg.utils.atomic import atomic_path

Row = Dict[str, Any]
TOO_LONG = 'took longer than'  # How the error of what was ended begins.


class Store:
    r"""Reads and writes a folder of results.

    Args:
        folder (Path): The folder, which is made where there is none.
    """
    FILE = 'results.jsonl'
    FOLDERS = ['cells', 'data', 'logs']

    def __init__(self, folder: Path):
        self.folder = folder
        self.results = folder / self.FILE
        try:
            for name in self.FOLDERS:
                (folder / name).mkdir(parents=True, exist_ok=True)
            self.results.touch()
        except OSError as e:
            raise RunError(f"Results cannot be written to '{folder}' "
                           f"({e.strerror}); name another folder by "
                           f"'--out'") from e

    def ranks_of(self, key: str) -> Path:
        r"""Returns where the ranks are that a cell gave to the positives."""
        return self.folder / 'cells' / f'{key}.safetensors'

    def positives_of(self, data_hash: str) -> Path:
        r"""Returns where the positives of a dataset are."""
        return self.folder / 'data' / f'{data_hash[:24]}.safetensors'

    def log_of(self, key: str) -> Path:
        r"""Returns where the process of a cell writes what it has to say."""
        return self.folder / 'logs' / f'{key}.log'

    def training_of(self, key: str) -> Path:
        r"""Returns where a training is kept until it has finished."""
        return self.folder / 'trainings' / key

    @contextmanager
    def locked(self) -> Iterator[None]:
        r"""Keeps other runners away, and removes what a crash of the machine
        left of a line; one that lacks nothing but its end is completed.
        """
        with self.results.open('rb+') as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise RunError(f"Another run writes to '{self.folder}'; wait "
                               f"for it, or name another folder by "
                               f"'--out'") from e
            text = f.read()
            begun = text[text.rfind(b'\n') + 1:]
            if _is_json(begun):
                f.write(b'\n')
            else:
                f.truncate(len(text) - len(begun))
            f.flush()
            yield

    def append(self, row: Row) -> None:
        r"""Adds a line, as a whole or not at all."""
        line = (json.dumps(row) + '\n').encode()
        fd = os.open(self.results, os.O_WRONLY | os.O_APPEND)
        try:
            written = os.write(fd, line)
            if written < len(line):  # Others may have added lines before it.
                os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR) - written)
                raise RunError(f"There is no space for '{self.results}'; "
                               f"free some, and start again")
            os.fsync(fd)
        finally:
            os.close(fd)

    def rows(self) -> Dict[str, Row]:
        r"""Returns the last line of every cell by its key."""
        return read_rows(self.results)

    def finished(self) -> Dict[str, Row]:
        r"""Returns the cells that need not be run again."""
        return {key: row for key, row in self.rows().items()
                if 'error' not in row and self.ranks_of(key).exists()}


class Trials(Store):
    r"""The same for a search, of which nothing is kept but the lines, in
    `trials.jsonl`.
    """
    FILE = 'trials.jsonl'
    FOLDERS = ['logs']

    def finished(self) -> Dict[str, Row]:
        r"""Returns the trials that need not be run again, among them those
        that took too long.
        """
        return {key: row for key, row in self.rows().items()
                if row.get('error', TOO_LONG).startswith(TOO_LONG)}


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
        return True
    except ValueError:
        return False


def read_rows(path: Path) -> Dict[str, Row]:
    r"""Returns the last line of every cell, or trial, of a file by its key.

    Raises:
        RunError: If it cannot be read, or holds something else.
    """
    try:
        text = path.read_text()
    except (OSError, ValueError) as e:
        raise RunError(f"'{path}' cannot be read ({e}); name a file of "
                       f"results") from e
    out, lines = {}, text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            out[row['key']] = row
        except (ValueError, TypeError, KeyError) as e:
            if number == len(lines) and not text.endswith('\n'):
                break  # Another process writes it.
            raise RunError(f"Line {number} of '{path}' is no result; remove "
                           f"it, and start again") from e
    return out


def save_tensors(path: Path, tensors: Dict[str, Tensor]) -> None:
    r"""Writes tensors to a file that appears when it is whole."""
    module = import_safetensors()
    with atomic_path(str(path)) as tmp:
        module.torch.save_file({k: x.contiguous() for k, x in tensors.items()},
                               tmp)


def load_arrays(path: Path) -> Optional[Dict[str, np.ndarray]]:
    r"""Reads what :meth:`save_tensors` wrote, if it is there."""
    if not path.exists():
        return None
    module = import_safetensors()
    return {k: x.numpy() for k, x in module.torch.load_file(path).items()}
