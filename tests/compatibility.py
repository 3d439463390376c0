r"""Runs the tests with the oldest and the newest versions that `setup.cfg`
admits, each with and without torch-scatter and torch-sparse.

    python3 tests/compatibility.py --out FOLDER [--json FILE] [-- OPTIONS]

The environments are made in FOLDER, by `setup_env.py`, and kept; OPTIONS go to
`python -m pytest`. What is not to be installed is reported, and the rest goes
on. FILE gets a record of it.
"""
import argparse
import configparser
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ['train', 'plots', 'tune', 'parquet', 'test']
EXTENSIONS = ['torch-scatter', 'torch-sparse']


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER')
    parser.add_argument('--only', nargs='+', choices=['oldest', 'newest'],
                        default=['oldest', 'newest'])
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('options', nargs='*', metavar='OPTIONS')
    args = parser.parse_args()
    rows = []
    for age in args.only:
        venv = (args.out / age).absolute()
        problem = install(venv, age)
        for extensions in [True, False]:
            name = f"{age}, {'with' if extensions else 'without'} extensions"
            row = {'environment': name, 'result': problem}
            if problem is None:
                row = {'environment': name, **test(venv, extensions,
                                                   args.options)}
            rows.append(row)
            print(f"{name}: {row['result']}", flush=True)
            if args.json is not None:
                write(args.json, rows)
    return 0 if all(row.get('passed') for row in rows) else 1


def constraints(age: str) -> List[str]:
    r"""Returns the versions that pip may take: all that `setup.cfg` admits,
    or the lowest of them.
    """
    config = configparser.RawConfigParser()
    config.read(ROOT / 'setup.cfg')
    lines = [config['options']['install_requires'],
             *[config['options.extras_require'][name] for name in EXTRAS]]
    required = [line for line in '\n'.join(lines).split('\n')
                if re.match(r'[\w-]+>=', line)]
    if age == 'newest':
        return required
    return [f'{name}=={lowest(low)}' for name, low in
            (re.match(r'([\w-]+)>=([\d.]+)', line).groups()
             for line in required)]


def lowest(version: str) -> str:
    r"""Returns the releases of a minor version: those of 17 are 17.0.*."""
    return f'{version}.*' if '.' in version else f'{version}.0.*'


def install(venv: Path, age: str) -> Any:
    r"""Makes an environment and returns what was wrong, if anything."""
    venv.mkdir(parents=True, exist_ok=True)
    path = venv / 'constraints.txt'
    path.write_text('\n'.join(constraints(age)) + '\n')
    torch = next(x for x in constraints(age) if x.startswith('torch'))
    commands = [
        [sys.executable, '-m', 'venv', venv],
        [venv / 'bin' / 'python', '-m', 'pip', 'install', '-q', torch],
        # Sets the environment up, and collects the tests:
        [sys.executable, ROOT / 'setup_env.py', 'test', '--collect-only',
         '-q'],
    ]
    for command in commands:
        done = run(command, venv, PIP_CONSTRAINT=str(path))
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).splitlines() or ['?']
            errors = [line for line in lines if 'error' in line.lower()]
            return f'not installed: {(errors or lines)[-1].strip()[:200]}'
    return None


def test(venv: Path, extensions: bool, options: List[str]) -> Dict[str, Any]:
    r"""Runs the tests and returns what they showed, and with what."""
    python = venv / 'bin' / 'python'
    if not extensions:
        run([python, '-m', 'pip', 'uninstall', '-q', '-y', *EXTENSIONS], venv)
    for name in EXTENSIONS:  # Set-up goes on without them.
        found = run([python, '-c', f"import {name.replace('-', '_')}"],
                    venv).returncode == 0
        if found != extensions:
            return {'result': f'still installed: {name}' if found else
                    f'not installed: {name}'}
    versions = run([python, '-m', 'pip', 'list', '--format',
                    'freeze'], venv)
    names = {re.split('[=>]', line)[0] for line in constraints('newest')}
    done = run([python, '-m', 'pytest', '-q', *options], venv)
    return {
        'passed': done.returncode == 0,
        'result': (done.stdout.strip().split('\n') or ['?'])[-1],
        'failed': re.findall('^FAILED (.*)', done.stdout, re.M),
        'python': platform.python_version(),
        'versions': [line for line in versions.stdout.split('\n')
                     if line.split('==')[0].replace('_', '-')
                     in names | set(EXTENSIONS)],
    }


def run(command: List[Any], venv: Path,
        **variables: str) -> 'subprocess.CompletedProcess[str]':
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True,
                          env={**os.environ, 'DIFFMM_VENV': str(venv),
                               **variables})


def write(path: Path, rows: List[Dict[str, Any]]) -> None:
    revision = run(['git', 'rev-parse', 'HEAD'], ROOT).stdout.strip()
    path.write_text(json.dumps({'revision': revision, 'environments': rows},
                               indent=2) + '\n')


if __name__ == '__main__':
    sys.exit(main())
