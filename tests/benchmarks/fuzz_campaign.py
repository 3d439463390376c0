r"""The campaign of damaged files in short, and that it would find faults. It
forks, which only works where PyTorch has no threads yet:
`test_campaigns.py` runs these tests in a process of their own.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

import fuzz  # noqa: E402
from _damage.parsers import PARSERS, Parser  # noqa: E402
from _damage.worker import Limits  # noqa: E402
from diffmm_pyg.errors import DataError  # noqa: E402


def test_nothing_fails(tmp_path, capsys):
    path = tmp_path / 'fuzz.json'
    code = fuzz.main(['--files', '15', '--out', str(tmp_path / 'out'),
                      '--json', str(path)])
    rows = json.loads(path.read_text())['inputs']
    assert [row['failures'] for row in rows] == [[]] * len(PARSERS)
    assert code == 0
    assert [row['input'] for row in rows] == list(PARSERS)
    for row in rows:
        assert row['files'] == 15 and 5 < row['refused'] <= 15
        assert row['lines'] > 20
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(PARSERS)
    assert not (tmp_path / 'out').exists()


def write_outside(folder):
    (folder.parent / 'evil').write_text('')


FAULTS = {
    'error': lambda folder: {}['a'],
    'message': lambda folder: (_ for _ in ()).throw(DataError('a\nb')),
    'memory': lambda folder: bytes(2**30),
    'time': lambda folder: any(iter(int, 1)),
    'crash': lambda folder: os.abort(),
    'offence': write_outside,
    'offence ': lambda folder: subprocess.run(['true']),
}


@pytest.mark.parametrize('kind', FAULTS)
def test_faults_are_found(tmp_path, monkeypatch, capfd, kind):
    def read(folder):
        if (folder / 'x.csv').read_bytes() == b'a,b\n':
            return
        try:
            FAULTS[kind](folder)
        except MemoryError as e:
            raise DataError('refused, for want of memory') from e

    monkeypatch.setitem(PARSERS, '.csv', lambda: Parser(
        [{'x.csv': b'a,b\n'}], ['csv'], lambda folder: [
            lambda: read(folder)]))
    monkeypatch.setattr(fuzz, 'LIMITS', Limits(2**26, 1000, 0.2))
    monkeypatch.chdir(tmp_path)
    code = fuzz.main(['--files', '4', '--only', '.csv', '--out', 'out',
                      '--json', 'fuzz.json'])
    row, = json.loads(Path('fuzz.json').read_text())['inputs']
    assert code == 1 and row['files'] == 4
    failure, = row['failures']
    assert failure['kind'] == kind.strip() and failure['times'] >= 2
    # Files to try again with are kept:
    kept, = Path('out', 'csv').iterdir()
    assert (kept / 'x.csv').read_bytes() != b'a,b\n'


def test_new_lines_are_reached(tmp_path, monkeypatch):
    # Steps that a file must take one after the other, which is more than luck
    # without going on from those that took one.
    steps = ['train', 'None', 'true']
    code = ['def read(text):']
    for i, word in enumerate(steps):
        code.append(f"{' ' * 4 * (i + 1)}if {word!r} in text:")
    path = tmp_path / 'steps.py'
    path.write_text('\n'.join([*code, ' ' * 16 + 'raise KeyError']))
    names = {}
    exec(compile(path.read_text(), str(path), 'exec'), names)
    monkeypatch.setitem(PARSERS, '.csv', lambda: Parser(
        [{'x.csv': b'a,b\n'}], ['csv'], lambda folder: [
            lambda: names['read']((folder / 'x.csv').read_text(
                errors='replace'))]))
    monkeypatch.chdir(tmp_path)
    for watched, has_failed in [((), False), ((str(tmp_path), ), True)]:
        monkeypatch.setattr('_damage.worker.WATCHED', watched)
        fuzz.main(['--files', '1500', '--only', '.csv',
                   '--json', 'fuzz.json'])
        row, = json.loads(Path('fuzz.json').read_text())['inputs']
        assert (len(row['failures']) > 0) == has_failed
