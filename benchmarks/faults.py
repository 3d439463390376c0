r"""Kills tiny trainings, goes on with them, and compares what they leave with
what an undisturbed one leaves. See the README beside this file.
"""
import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
)

import torch

from _checkout import git_revision
from _command import describe_command, positive
from _damage.victim import Victim
from _measure import describe_machine


class Attempt(NamedTuple):
    r"""What one process left that was killed, or that finished."""
    killed: bool
    lost_epochs: int
    orderly: bool
    identical: bool
    stray_files: List[str]


def main(argv: Optional[Sequence[str]] = None) -> int:
    r"""Runs the campaign and returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=positive, default=200, metavar='N',
                        help='trainings that signals end at random moments, '
                        'of each kind (default: 200)')
    parser.add_argument('--every', type=positive, default=1, metavar='N',
                        help='kill before every N-th operation on files, one '
                        'after the other (default: 1)')
    parser.add_argument('--epochs', type=positive, default=4)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', metavar='FILE.json')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # Others do not outlive a fork.
    _import_what_children_need()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(args, Path(folder))
    print_table(rows)
    if args.json is not None:
        Path(args.json).write_text(json.dumps({
            'command': describe_command('faults.py', sys.argv[1:]
                                        if argv is None else argv),
            'revision': git_revision(),
            'machine': describe_machine('cpu'),
            'faults': rows,
        }, indent=2) + '\n')
    return 0 if all(row['passed'] for row in rows) else 1


def run(args: argparse.Namespace, folder: Path) -> List[Dict[str, Any]]:
    r"""Runs the campaign in a folder."""
    victim = Victim(folder / 'undisturbed', args.epochs)
    start = time.perf_counter()
    victim.wait(victim.start())
    seconds, expected = time.perf_counter() - start, victim.result()

    rng = random.Random(args.seed)
    faults = {
        'SIGKILL at a random moment':
            at_moments(folder, args, expected, rng, seconds, signal.SIGKILL),
        'SIGTERM at a random moment':
            at_moments(folder, args, expected, rng, seconds, signal.SIGTERM),
        'SIGKILL before an operation on files':
            at_operations(folder, args, expected),
    }
    return [summarize(name, list(attempts))
            for name, attempts in faults.items()]


def at_moments(folder: Path, args: argparse.Namespace, expected: Any,
               rng: random.Random, seconds: float,
               signum: signal.Signals) -> Iterator[Attempt]:
    r"""Kills trainings once or more, and goes on with each until it has
    finished. One that was faster than the signal does not count.
    """
    trainings, done = count(), 0
    while done < args.kills:
        victim = Victim(folder / f'{signum.name}-{next(trainings)}',
                        args.epochs)
        kills, finished = 0, False
        while not finished:
            pid = victim.start()
            if kills == 0 or rng.random() < 0.5:
                time.sleep(rng.uniform(0, seconds))
                with suppress(ProcessLookupError):
                    os.kill(pid, signum)
            attempt = look_at(victim, pid, expected)
            finished = not attempt.killed
            kills += attempt.killed
            if kills > 0:
                yield attempt
        done += kills > 0


def at_operations(folder: Path, args: argparse.Namespace,
                  expected: Any) -> Iterator[Attempt]:
    r"""Kills a training before its first operation on files, another one
    before its second, and so on, and goes on with each.
    """
    number = 1
    while True:
        victim = Victim(folder / f'operation-{number}', args.epochs)
        attempt = look_at(victim, victim.start(number), expected)
        yield attempt
        if not attempt.killed:
            return
        yield look_at(victim, victim.start(), expected)
        number += args.every


def look_at(victim: Victim, pid: int, expected: Any) -> Attempt:
    r"""Waits for a process and looks at what it left."""
    code = victim.wait(pid)
    if code != 0:
        return Attempt(True, victim.lost_epochs(), code == -signal.SIGKILL
                       or victim.is_orderly(code), True, [])
    return Attempt(False, 0, True, victim.result() == expected,
                   victim.stray_files())


def summarize(name: str, attempts: List[Attempt]) -> Dict[str, Any]:
    finished = [attempt for attempt in attempts if not attempt.killed]
    row = {
        'fault': name,
        'times': sum(attempt.killed for attempt in attempts),
        'lost_epochs': sum(attempt.lost_epochs for attempt in attempts),
        'disorderly': sum(not attempt.orderly for attempt in attempts),
        'finished': len(finished),
        'identical': sum(attempt.identical for attempt in finished),
        'stray_files': sum((attempt.stray_files for attempt in finished), []),
    }
    row['passed'] = (row['lost_epochs'] == row['disorderly'] == 0
                     and row['stray_files'] == []
                     and row['identical'] == row['finished'])
    return row


def print_table(rows: List[Dict[str, Any]]) -> None:
    print('| fault | times tried | result |\n|---|---|---|')
    for row in rows:
        print(f"| {row['fault']} | {row['times']} | {row['lost_epochs']} "
              f"epochs lost beyond the current one, {row['disorderly']} "
              f"stopped by SIGTERM without saving, {row['identical']} of "
              f"{row['finished']} finished runs identical to the undisturbed "
              f"one, {len(row['stray_files'])} files outside the run |")


def _import_what_children_need() -> None:
    import accelerate  # noqa: F401
    import safetensors.torch  # noqa: F401
    with suppress(ImportError):
        import matplotlib.backends.backend_agg  # noqa: F401
        import matplotlib.figure  # noqa: F401


if __name__ == '__main__':
    sys.exit(main())
