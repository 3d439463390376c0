import json
import sys
import warnings
from contextlib import contextmanager
from typing import Any, Dict, Iterator

# Warnings of torch and PyG that a user can do nothing about:
UNHELPFUL = ['Sparse invariant checks', 'Sparse CSR tensor support',
             r".*without a 'pyg-lib'|.*without 'pyg-lib'"]


def print_metrics(metrics: Dict[str, Any]) -> None:
    r"""Writes metrics, with four digits, to standard output."""
    # Further digits are noise; 'metrics.json' has them.
    rounded = {name: {k: round(x, 4) for k, x in value.items()}
               if isinstance(value, dict) else value
               for name, value in metrics.items()}
    sys.stdout.write(json.dumps(rounded, indent=2) + '\n')


@contextmanager
def plain_warnings() -> Iterator[None]:
    r"""Writes warnings without the line of code that they came from, and
    leaves out those that a user can do nothing about.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        for text in UNHELPFUL:
            warnings.filterwarnings('ignore', text)
        yield


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    sys.stderr.write(f'warning: {message}\n')
