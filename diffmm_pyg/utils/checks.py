from typing import Any, Sequence


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    r"""Checks that an argument has one of the values that it may have.

    Raises:
        ValueError: If it has not.
    """
    if value not in choices:
        raise ValueError(f"'{name}' must be one of {list(choices)} "
                         f"(got {value!r})")
