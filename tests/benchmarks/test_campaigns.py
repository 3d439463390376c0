r"""The short forms of the campaigns, in processes of their own."""
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize('name,count', [('fault', 7), ('fuzz', 9)])
def test_campaign(name, count):
    path = Path(__file__).with_name(f'{name}_campaign.py')
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', path],
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert f'{count} passed' in done.stdout
