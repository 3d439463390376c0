r"""The checkout that is measured. Whatever imports this first measures its
library, whichever is installed.
"""
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

# What numbers depend on. Descriptions of models are part of every row.
CODE = ['diffmm_pyg', 'benchmarks', ':!*.md', *(
    f':!benchmarks/{name}' for name in ['results', 'models', 'plans', 'spaces']
)]


def git_revision() -> Optional[str]:
    r"""Returns the last revision of the checkout that changed the code, with
    a plus sign and a hash of the difference where the code differs from it;
    :obj:`None` where there is no checkout.
    """
    def git(*args: str) -> str:
        return subprocess.run(['git', '-C', str(ROOT), *args], text=True,
                              capture_output=True, check=True).stdout.strip()
    try:
        revision = git('log', '-1', '--format=%H', '--', *CODE)
        changed = git('status', '--porcelain', '--', *CODE)
        if changed == '':
            return revision or None
        text = changed + git('diff', 'HEAD', '--', *CODE)
        new = git('ls-files', '--others', '--exclude-standard', '--', *CODE)
        for name in new.splitlines():
            text += (ROOT / name).read_text(errors='replace')
        return f'{revision}+{hashlib.sha256(text.encode()).hexdigest()[:8]}'
    except (OSError, subprocess.CalledProcessError):
        return None
