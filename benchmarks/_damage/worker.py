r"""Reads damaged files, one after the other, in a process that may die of any
of them: what it knows by then is on the disk.
"""
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Set, Tuple

import diffmm_pyg
from _damage.mutations import mutate
from _damage.parsers import Files, Parser
from _measure import peak_memory, reset_peak_memory
from diffmm_pyg.errors import DiffMMError
from diffmm_pyg.utils.topk import is_out_of_memory

PACKAGE = os.path.dirname(diffmm_pyg.__file__)
# Whose lines are watched: a file that reaches a new one is damaged further.
WATCHED = tuple(os.path.join(PACKAGE, name)
                for name in ['datasets/', 'runs/', 'training/checkpoint.py'])
MAX_POOL = 2000
MAX_MESSAGE = 1000
FORBIDDEN = {'os.exec', 'os.fork', 'os.forkpty', 'os.kill', 'os.posix_spawn',
             'os.system', 'pty.spawn', 'socket.bind', 'socket.connect',
             'socket.getaddrinfo', 'subprocess.Popen'}
# What may happen within the folder, and how many paths it is told:
CHANGES = {'open': 1, 'os.chmod': 1, 'os.link': 2, 'os.mkdir': 1,
           'os.remove': 1, 'os.rename': 2, 'os.rmdir': 1, 'os.symlink': 2,
           'os.truncate': 1, 'shutil.rmtree': 1}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Limits(NamedTuple):
    r"""What reading files may take: memory in bytes, of which some for every
    byte of the files, and seconds of a processor.
    """
    memory: int
    memory_per_byte: int
    seconds: float


class Guard:
    r"""Notes what readers must not do: run programs, open connections, change
    anything outside a folder.
    """
    def __init__(self, folder: Path):
        self.folder = f'{folder}{os.sep}'
        self.offence: Optional[str] = None
        self.is_on = False
        sys.addaudithook(self)

    def __call__(self, event: str, args: Tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in FORBIDDEN:
            self.offence = f'{event}{args}'
        elif event in CHANGES and (event != 'open' or args[2] & WRITING):
            if not all(map(self._is_inside, args[:CHANGES[event]])):
                self.offence = f'{event}{args}'

    def _is_inside(self, path: Any) -> bool:
        if isinstance(path, int):  # A file that is open already
            return True
        return os.path.realpath(os.fsdecode(path)).startswith(self.folder)


class Worker:
    r"""Reads damaged files of one kind.

    Args:
        parser (Parser): What reads them.
        folder (Path): Where they are written to.
        limits (Limits): What reading may take.
    """
    def __init__(self, parser: Parser, folder: Path, limits: Limits):
        self.parser, self.folder, self.limits = parser, folder, limits
        self.files: Files = {}  # What is in the folder.
        self.pool: List[Files] = []
        self.lines: Set[Tuple[str, int, int]] = set()
        self.num_refused = self.peak = 0
        self._refusals = 0  # By the calls that read one folder.
        self._found: Set[Tuple[str, int, int]] = set()

    def start(self) -> None:
        r"""Reads whole files, which have to be read without an error by one
        of the calls, and which everything that is imported late is for.
        """
        warnings.simplefilter('ignore')
        logging.disable()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.guard = Guard(self.folder)
        for seed in self.parser.seeds * 2:
            failure = self.read(seed)
            if failure is not None or self.num_refused > 0:
                raise RuntimeError(f'A whole file is not read: {failure}')
        self.peak = 0

    def next_files(self, rng: random.Random) -> Files:
        r"""Returns damaged files."""
        base = rng.choice(self.parser.seeds)
        if len(self.pool) > 0 and rng.random() < 0.5:
            base = rng.choice(self.pool)
        out = dict(base)
        if len(out) > 1 and rng.random() < 0.02:
            del out[rng.choice(list(out))]
        names = [name for name in out
                 if name.rpartition('.')[2] in self.parser.damaged]
        for name in rng.sample(names, min(len(names), rng.choice([1, 1, 2]))):
            others = [seed[name] for seed in self.parser.seeds if name in seed]
            out[name] = mutate(rng, name, out[name], others)
        return self.parser.mend(out)

    def read(self, files: Files) -> Optional[Tuple[str, str]]:
        r"""Returns what went wrong and how, if anything did."""
        self._write(files)
        size = sum(map(len, files.values()))
        limit = self.limits.memory + self.limits.memory_per_byte * size
        failure = None
        self._found = set()
        calls = self.parser.calls(self.folder)
        self._refusals = 0
        for call in calls:
            failure = failure or self._call(call, limit)
        self.num_refused += self._refusals == len(calls)
        if not self._found <= self.lines:
            self.lines |= self._found
            if len(self.pool) < MAX_POOL:
                self.pool.append(files)
        return failure

    def _call(self, call: Any, limit: int) -> Optional[Tuple[str, str]]:
        reset_peak_memory()
        before, failure = resident_memory(), None
        resource.setrlimit(resource.RLIMIT_AS, (
            address_space() + limit, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, self.limits.seconds)
        self.guard.offence, self.guard.is_on = None, True
        sys.settrace(self._trace)
        try:
            call()
        except BaseException as e:
            sys.settrace(None)
            self._refusals += isinstance(e, DiffMMError)
            failure = find_fault(e)
        finally:
            sys.settrace(None)
            self.guard.is_on = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, ) *
                               2)
        peak = peak_memory() - before
        self.peak = max(self.peak, peak)
        if self.guard.offence is not None:
            return 'offence', self.guard.offence
        if failure is None and peak > limit:
            failure = 'memory', f'{peak} bytes, where {limit} are allowed'
        return failure

    def _write(self, files: Files) -> None:
        there = {path.name for path in self.folder.iterdir()}
        for name in {name.split('/')[0] for name in self.files} | there:
            if not any(f'{new}/'.startswith(f'{name}/') for new in files):
                path = self.folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(True)
                self.files.pop(name, None)
        for name, content in files.items():
            if self.files.get(name) != content:
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        self.files = dict(files)

    def _trace(self, frame: Any, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(WATCHED):
            return None
        found, last = self._found, 0

        def trace_line(frame: Any, event: str, arg: Any) -> Any:
            nonlocal last
            found.add((name, last, frame.f_lineno))
            last = frame.f_lineno
            return trace_line

        return trace_line


def find_fault(error: BaseException) -> Optional[Tuple[str, str]]:
    r"""Returns what is wrong with an error, if it is not what a reader may
    say of a file.
    """
    cause: Optional[BaseException] = error
    while cause is not None:
        if is_out_of_memory(cause) or 'Cannot allocate' in str(cause):
            return 'memory', describe(cause)
        cause = cause.__cause__ or cause.__context__
    if not isinstance(error, DiffMMError):
        return 'error', describe(error)
    if '\n' in str(error) or len(str(error)) > MAX_MESSAGE:
        return 'message', describe(error)
    return None


def describe(error: BaseException) -> str:
    r"""Returns the type of an error and where in the package it comes from,
    by which failures are told apart.
    """
    place = ''
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(PACKAGE):
            name = os.path.relpath(frame.filename, PACKAGE)
            place = f' in {name}:{frame.lineno}'
    return f'{type(error).__name__}{place}'


def address_space() -> int:
    return _statm(0)


def resident_memory() -> int:
    return _statm(1)


def _statm(field: int) -> int:
    pages = int(Path('/proc/self/statm').read_text().split()[field])
    return pages * resource.getpagesize()


def work(worker: Worker, seed: str, stop: int, deadline: float,
         out: Path) -> None:
    r"""Reads files up to number :obj:`stop`, from that on which
    :obj:`out/state.json` names and which is brought up to date before every
    one. Failures are added to :obj:`out/failures.jsonl`.
    """
    worker.start()
    with (out / 'state.json').open('r+') as f:
        number = json.load(f)['files']
        rng = random.Random(f'{seed}-{number}')
        while True:
            f.seek(0)
            f.write(json.dumps({
                'files': number, 'refused': worker.num_refused,
                'peak': worker.peak, 'lines': len(worker.lines),
            }).ljust(200))
            f.flush()
            if number == stop or time.monotonic() > deadline:
                return
            failure = worker.read(worker.next_files(rng))
            if failure is not None:
                note_failure(out, number, *failure, worker.folder)
            number += 1


def note_failure(out: Path, number: int, kind: str, what: str,
                 folder: Path) -> None:
    r"""Keeps a failure and the files that led to it."""
    with (out / 'failures.jsonl').open('a') as f:
        f.write(json.dumps({'number': number, 'kind': kind,
                            'what': what}) + '\n')
    shutil.copytree(folder, out / str(number))
