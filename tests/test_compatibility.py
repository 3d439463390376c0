r"""What the record of versions says of an environment is true of it."""
import subprocess

import compatibility
import pytest


@pytest.mark.parametrize('installed, extensions, result', [
    (['torch_scatter', 'torch_sparse'], True, '3 passed'),
    (['torch_scatter'], True, 'not installed: torch-sparse'),
    ([], True, 'not installed: torch-scatter'),
    ([], False, '3 passed'),
    (['torch_sparse'], False, 'still installed: torch-sparse'),
])
def test_label(tmp_path, monkeypatch, installed, extensions, result):
    def run(command, venv, **variables):
        name = str(command[-1]).removeprefix('import ')
        missing = command[1] == '-c' and name not in installed
        return subprocess.CompletedProcess(command, int(missing), '3 passed')

    monkeypatch.setattr(compatibility, 'run', run)
    row = compatibility.test(tmp_path, extensions, [])
    assert row['result'] == result
    assert row.get('passed', False) == (result == '3 passed')
