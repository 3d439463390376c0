r"""What may be tuned: `spaces/<name>.json` holds the values that the
hyper-parameters of a model may have.
"""
import json
from pathlib import Path
from typing import Any, Dict, List

from _experiments.models import (
    GROUPS,
    Config,
    Description,
    load_description,
    override,
    resolve,
)
from diffmm_pyg.errors import ConfigError

FOLDER = Path(__file__).parents[1] / 'spaces'
KINDS = ['log', 'uniform', 'log_int', 'int', 'choice']

Space = Dict[str, Dict[str, List[Any]]]


def space_names() -> List[str]:
    r"""Returns the names of all models that have something to tune."""
    return sorted(path.stem for path in FOLDER.glob('*.json'))


def find_model(text: str) -> str:
    r"""Returns the name of the model that has a name, or a title.

    Raises:
        ConfigError: If there is none, or nothing to tune in it.
    """
    for name in space_names():
        if text.lower() in [name, load_description(name)['title'].lower()]:
            return name
    raise ConfigError(f"There is nothing to tune in a model '{text}'; choose "
                      f"among {', '.join(space_names())}")


def load_space(name: str) -> Space:
    r"""Reads the space of a model that has one."""
    return json.loads((FOLDER / f'{name}.json').read_text())


def check_space(space: Space, description: Description, dataset: str) -> None:
    r"""Checks, before any work is done, that all that a space names is there
    and can have these values.

    Raises:
        ConfigError: If it is not.
    """
    for key, option in space.items():
        if key.split('.')[0] not in [*GROUPS, 'models']:
            raise ConfigError(f"'{key}' is no hyper-parameter; the names of "
                              f"a space begin with {', '.join(GROUPS)} or "
                              f"models")
        (kind, values), *others = option.items()
        if kind not in KINDS or len(others) > 0 or len(values) == 0:
            raise ConfigError(f"'{key}' must have the values of one of "
                              f"{', '.join(KINDS)} (got {option})")
        if kind != 'choice' and not (len(values) == 2 and
                                     values[0] < values[1]):
            raise ConfigError(f"'{key}' must lie between two numbers, the "
                              f"smaller one first (got {values})")
        for value in values:
            resolve(override(description, {key: value}), dataset)


def values_of(config: Config, space: Space) -> Dict[str, Any]:
    r"""Returns the values that a configuration has for what can be tuned."""
    out = {}
    for key in space:
        place: Any = config
        for part in key.split('.'):
            place = place[int(part) if isinstance(place, list) else part]
        out[key] = place
    return out


def contains(space: Space, values: Dict[str, Any]) -> bool:
    r"""Returns whether values lie within a space."""
    for key, option in space.items():
        (kind, allowed), = option.items()
        value = values[key]
        if kind == 'choice':
            if value not in allowed:
                return False
        elif value is None or not allowed[0] <= value <= allowed[1]:
            return False
    return True


def rounded(space: Space, values: Dict[str, Any]) -> Dict[str, Any]:
    r"""Returns values with four digits, within their bounds: nothing depends
    on the others, and presets are read by people.
    """
    out = {}
    for key, value in values.items():
        (kind, allowed), = space[key].items()
        if kind in ['log', 'uniform']:
            value = min(max(float(f'{value:.4g}'), allowed[0]), allowed[1])
        out[key] = value
    return out
