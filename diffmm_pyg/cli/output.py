import json
import sys
from typing import Any


def print_json(content: Any) -> None:
    r"""Writes to standard output."""
    sys.stdout.write(json.dumps(content, indent=2) + '\n')
