r"""The command line: :obj:`python -m diffmm_pyg`."""
from diffmm_pyg.cli.main import main

__all__ = [
    'main',
]
