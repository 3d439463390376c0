import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

from _checkout import git_revision  # noqa: E402
from _command import describe_command, interruptible  # noqa: E402


def test_commands_tell_no_places():
    assert describe_command(
        'run_all.py',
        ['--full', '--data', '/home/me/data', '--out=/x/x', '--only', 'a b',
         '--plan', str(BENCHMARKS / 'plans' / 'x.json')]) == (
        "python benchmarks/run_all.py --full --data data --out=x --only "
        "'a b' --plan benchmarks/plans/x.json")


def test_the_library_of_the_checkout_is_measured(tmp_path):
    (tmp_path / 'diffmm_pyg').mkdir()
    (tmp_path / 'diffmm_pyg' / '__init__.py').touch()
    out = subprocess.run(
        [sys.executable, '-c', 'import run_all, diffmm_pyg\n'
         'print(diffmm_pyg.__file__)'], env={
             **os.environ, 'PYTHONPATH': f'{tmp_path}:{BENCHMARKS}'},
        capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(
        BENCHMARKS.parent / 'diffmm_pyg' / '__init__.py')


def test_revision(tmp_path, monkeypatch):
    monkeypatch.setattr('_checkout.ROOT', tmp_path)
    assert git_revision() is None

    def git(*args):
        subprocess.run(['git', '-c', 'user.name=A', '-c', 'user.email=a@b',
                        *args], cwd=tmp_path, check=True, capture_output=True)

    git('init')
    for name in ['diffmm_pyg/a.py', 'benchmarks/b.py']:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    git('add', '.')
    git('commit', '-m', 'a')
    revision = git_revision()
    assert len(revision) == 40
    for name in ['README.md', 'benchmarks/README.md',
                 'benchmarks/results/x/c.html', 'benchmarks/models/d.json']:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('changed')
        assert git_revision() == revision
    git('add', '.')
    git('commit', '-m', 'No code')
    assert git_revision() == revision

    found = set()
    for name, text in [('benchmarks/b.py', 'changed'), ('diffmm_pyg/c.py', ''),
                       ('diffmm_pyg/c.py', 'new'),
                       ('benchmarks/b.py', 'changed again')]:
        (tmp_path / name).write_text(text)
        found.add(git_revision())
    assert len(found) == 4
    assert all(re.fullmatch(f'{revision}\\+[0-9a-f]{{8}}', x) for x in found)


def test_warnings_are_told_in_one_line(capsys):
    def work():
        for text in ['Beware', 'Sparse CSR tensor support is in beta state']:
            warnings.warn(text, stacklevel=1)
        return 3

    assert interruptible(work, Path('out')) == 3
    assert capsys.readouterr().err == 'warning: Beware\n'
