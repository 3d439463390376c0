r"""Reads damaged files of every kind that may come from a stranger. See the
README beside this file.
"""
import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

# Threads and pools take addresses that they never use:
os.environ.update(ARROW_DEFAULT_MEMORY_POOL='system', MALLOC_ARENA_MAX='1')

import torch  # noqa: E402

from _checkout import git_revision  # noqa: E402
from _command import describe_command, positive  # noqa: E402
from _damage.parsers import PARSERS  # noqa: E402
from _damage.worker import Limits, Worker, note_failure, work  # noqa: E402
from _measure import describe_machine  # noqa: E402

LIMITS = Limits(memory=64 * 2**20, memory_per_byte=1000, seconds=10.)


def main(argv: Optional[Sequence[str]] = None) -> int:
    r"""Runs the campaign and returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--files', type=positive, default=10_000, metavar='N',
                        help='damaged files of each kind (default: 10000)')
    parser.add_argument('--minutes', type=float, default=float('inf'),
                        metavar='M', help='the time for each kind')
    parser.add_argument('--only', choices=list(PARSERS), nargs='+',
                        metavar='KIND', default=list(PARSERS),
                        help=f"of {', '.join(PARSERS)} (default: all)")
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, metavar='FOLDER',
                        help='where files that failed are kept')
    parser.add_argument('--json', type=Path, metavar='FILE.json')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # Others do not outlive a fork.
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        print('| input | files | refused | failures | largest memory |\n'
              '|---|---|---|---|---|')
        for kind in args.only:
            rows.append(run(args, kind, Path(folder, kind.strip('.'))))
            print_row(rows[-1])
    if args.json is not None:
        args.json.write_text(json.dumps({
            'command': describe_command('fuzz.py', sys.argv[1:]
                                        if argv is None else argv),
            'revision': git_revision(),
            'machine': describe_machine('cpu'),
            'limits': LIMITS._asdict(),
            'inputs': rows,
        }, indent=2) + '\n')
    return 0 if all(len(row['failures']) == 0 for row in rows) else 1


def run(args: argparse.Namespace, kind: str, folder: Path) -> Dict[str, Any]:
    r"""Reads the damaged files of one kind, by as many processes as it takes.
    """
    worker = Worker(PARSERS[kind](), folder / 'read', LIMITS)
    start = time.monotonic()
    deadline = start + 60 * args.minutes
    state = folder / 'state.json'
    (folder / 'read').mkdir(parents=True)
    state.write_text(json.dumps({'files': 0}).ljust(200))
    totals = {'files': 0, 'refused': 0, 'peak': 0, 'lines': 0}
    while totals['files'] < args.files and time.monotonic() < deadline:
        code = in_child(lambda: work(worker, f'{args.seed}-{kind}',
                                     args.files, deadline, folder))
        last = json.loads(state.read_text())
        if 'refused' not in last and code != 0:
            raise RuntimeError(f"Whole files of kind '{kind}' are not read")
        totals = {
            'files': last['files'],
            'refused': totals['refused'] + last['refused'],
            'peak': max(totals['peak'], last['peak']),
            'lines': max(totals['lines'], last['lines']),
        }
        if code != 0:
            died = 'time' if code == -signal.SIGPROF else 'crash'
            note_failure(folder, last['files'], died, f'exit code {code}',
                         folder / 'read')
            totals['files'] += 1
            state.write_text(json.dumps({'files': totals['files']}).ljust(200))
    return {
        'input': kind, **totals,
        'seconds': round(time.monotonic() - start, 1),
        'failures': distinct_failures(folder, args.out
                                      and args.out / folder.name),
    }


def in_child(call: Any) -> int:
    r"""Returns the exit code of a process that is forked for a call, or that
    of the signal that ended it, negative.
    """
    sys.stdout.flush(), sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            call()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def distinct_failures(folder: Path,
                      out: Optional[Path]) -> List[Dict[str, Any]]:
    r"""Returns the failures that differ, each with how often it came, and
    keeps the files of the first.
    """
    path, found = folder / 'failures.jsonl', {}
    for line in path.read_text().splitlines() if path.exists() else []:
        failure = json.loads(line)
        key = failure['kind'], failure['what']
        if key in found:
            found[key]['times'] += 1
            continue
        found[key] = {**failure, 'times': 1}
        if out is not None:
            shutil.copytree(folder / str(failure['number']),
                            out / str(failure['number']), dirs_exist_ok=True)
    return list(found.values())


def print_row(row: Dict[str, Any]) -> None:
    print(f"| {row['input']} | {row['files']:,} | {row['refused']:,} | "
          f"{len(row['failures'])} | {row['peak'] / 2**20:.0f} MiB |",
          flush=True)
    for failure in row['failures']:
        print(f"  {failure['times']} times {failure['kind']}: "
              f"{failure['what']} (file {failure['number']})",
              file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
