from typing import Any, Sequence

from diffmm_pyg.errors import ConfigError


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    r"""Checks that an argument has one of the values that it may have.

    Raises:
        ValueError: If it has not.
    """
    if value not in choices:
        raise ValueError(f"'{name}' must be one of {list(choices)} "
                         f"(got {value!r})")


def check_range(name: str, value: float, low: float,
                high: float = float('inf'), open_low: bool = False) -> None:
    r"""Checks that an argument lies in :obj:`[low, high)`, or in
    :obj:`(low, high)` if :obj:`open_low` is :obj:`True`.

    Raises:
        ValueError: If it does not.
    """
    if not (low < value if open_low else low <= value) or not value < high:
        left = '(' if open_low else '['
        raise ValueError(f"'{name}' must lie in {left}{low}, {high}) "
                         f"(got {value})")


def check_names(name: str, value: Sequence[str]) -> None:
    r"""Checks that an argument is a list of different names.

    Raises:
        ConfigError: If it is not.
    """
    if (not isinstance(value, (list, tuple))
            or not all(isinstance(x, str) and x for x in value)
            or len(set(value)) < len(value)):
        raise ConfigError(f"'{name}' must be a list of different names "
                          f"(got {value!r})")


def check_k(k: int, num_items: int) -> None:
    r"""Checks that there are :obj:`k` items to choose.

    Raises:
        ConfigError: If there are not.
    """
    if not 0 < k <= num_items:
        raise ConfigError(f"'k' must lie in 1..{num_items}, the number of "
                          f"items (got {k})")
