r"""The checkout that is measured. Whatever imports this first measures its
library, whichever is installed.
"""
import subprocess
import sys
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def git_revision() -> Optional[str]:
    r"""Returns the revision of the checkout, with a plus sign where the code
    differs from it; :obj:`None` where there is no checkout.
    """
    def git(*args: str) -> str:
        return subprocess.run(['git', '-C', str(ROOT), *args], text=True,
                              capture_output=True, check=True).stdout.strip()
    try:
        changed = git('status', '--porcelain', '--', 'diffmm_pyg',
                      'benchmarks', ':!benchmarks/results')
        return git('rev-parse', 'HEAD') + ('+' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return None
