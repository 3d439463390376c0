import json
import sys
from typing import Any, Dict


def print_metrics(metrics: Dict[str, Any]) -> None:
    r"""Writes metrics, with four digits, to standard output."""
    # Further digits are noise; 'metrics.json' has them.
    rounded = {name: {k: round(x, 4) for k, x in value.items()}
               if isinstance(value, dict) else value
               for name, value in metrics.items()}
    sys.stdout.write(json.dumps(rounded, indent=2) + '\n')
