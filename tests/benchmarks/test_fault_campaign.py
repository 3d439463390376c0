import subprocess
import sys
from pathlib import Path


def test_campaign():
    path = Path(__file__).with_name('fault_campaign.py')
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', path],
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert '3 passed' in done.stdout
