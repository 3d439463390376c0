r"""Changes one place of the package at a time (an operator, a number, a
comparison, a decorator, ...) and looks whether the tests notice.

    pip install 'cosmic-ray>=8.4,<9'
    python tests/mutants.py [--sample N] [--seed N] [--json FILE] \
        [--only N ...]

Places are drawn first and then one change for each, so that operators, which
may be changed in many ways, do not crowd out the rest. Works on a copy of what
git tracks.
"""
import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Dict, List, Optional

ROOT = Path(__file__).resolve().parents[1]
OTHERS = ['tests/docs/test_reference.py', 'tests/training/test_golden.py',
          'tests/training/test_fit.py', 'tests/test_memory.py']
# Modules, and the tests that should notice, quick to notice first:
TESTS = {
    'diffmm_pyg/diffusion': ['tests/diffusion', 'tests/nn/models', *OTHERS],
    'diffmm_pyg/nn': ['tests/nn', 'tests/diffusion', *OTHERS],
    'diffmm_pyg/evaluation.py': ['tests/test_evaluation.py', *OTHERS],
}
SECONDS = 900
# Changes that were looked at and change no result: files, lines, and why.
EQUIVALENT = ROOT / 'tests' / 'equivalent_mutants.json'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--sample', type=int, default=60, metavar='N')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', type=int, nargs='+', metavar='N',
                        help='only these of the sample, from 0 on')
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args()
    revision = git('rev-parse', 'HEAD').strip()
    numbers = range(args.sample) if args.only is None else args.only
    out = None if args.json is None else args.json.absolute()
    rows: List[Dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in git('ls-files').splitlines():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path)
        os.chdir(folder)
        os.environ['PYTHONPATH'] = os.pathsep.join([folder, *sys.path[1:]])
        mutants = draw(args.sample, args.seed)
        tests = [name for names in TESTS.values() for name in names]
        if subprocess.run(command(tests).split()).returncode != 0:
            sys.exit('The tests fail without a change')
        for number in numbers:
            rows.append({'number': number, **measure(mutants[number])})
            print('{number:3d} {outcome:9} {seconds:4d} s {place} {change}'
                  .format(**rows[-1]), flush=True)
            if out is not None:
                write(out, revision, args, rows)
    count = Counter(row['outcome'] for row in rows)
    print(dict(count))
    num_real = len(rows) - count['equivalent']
    return 0 if num_real - count['survived'] >= 0.9 * num_real else 1


def draw(num: int, seed: int) -> List[Any]:
    r"""Returns mutations of as many places."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB, use_db

    paths = [path for part in TESTS for path in
             (sorted(Path(part).rglob('*.py')) if Path(part).is_dir()
              else [Path(part)])]
    places = defaultdict(list)
    with use_db('mutants.sqlite', WorkDB.Mode.create) as db:
        init(paths, db, {})
        for item in db.work_items:
            mutation, = item.mutations
            places[str(mutation.module_path), mutation.start_pos] += [mutation]
    rng = random.Random(seed)
    return [rng.choice(sorted(places[place], key=lambda x: (x.operator_name,
                                                            x.occurrence)))
            for place in rng.sample(sorted(places), num)]


def measure(mutation: Any) -> Dict[str, Any]:
    r"""Returns whether the tests notice a mutation."""
    from cosmic_ray.mutating import mutate_and_test

    path = str(mutation.module_path)
    tests = next(tests for part, tests in TESTS.items()
                 if path.startswith(part))
    start = time.monotonic()
    result = mutate_and_test([mutation], command(tests), SECONDS)
    outcome = (result.test_outcome or result.worker_outcome).value
    if 'timeout' in (result.output or ''):
        outcome = 'too slow'
    if outcome == 'survived' and equivalent(path, result.diff) is not None:
        outcome = 'equivalent'
    return {
        'place': f'{path}:{mutation.start_pos[0]}',
        'change': mutation.operator_name.split('/')[-1],
        'outcome': outcome,
        'seconds': round(time.monotonic() - start),
        'diff': result.diff,
        'why': equivalent(path, result.diff),
        'noticed_by': [line for line in (result.output or '').splitlines()
                       if line.startswith(('FAILED', 'ERROR'))][:1],
    }


def equivalent(path: str, diff: str) -> Optional[str]:
    r"""Returns why a change changes no result, if that is known."""
    lines = [line[0] + ' '.join(line[1:].split()) for line in
             diff.splitlines() if re.match('[-+] ', line)]
    return next((known['why'] for known in json.loads(EQUIVALENT.read_text())
                 if known['file'] == path and known['lines'] == lines), None)


def command(tests: List[str]) -> str:
    return (f'{sys.executable} -m pytest -x -q -p no:cacheprovider '
            + ' '.join(dict.fromkeys(tests)))


def git(*args: str) -> str:
    return subprocess.run(['git', *args], cwd=ROOT, text=True, check=True,
                          capture_output=True).stdout


def write(path: Path, revision: str, args: argparse.Namespace,
          rows: List[Dict[str, Any]]) -> None:
    path.write_text(json.dumps({
        'revision': revision, 'sample': args.sample, 'seed': args.seed,
        **Counter(row['outcome'] for row in rows),
        'mutants': rows,
    }, indent=2) + '\n')


if __name__ == '__main__':
    sys.exit(main())
