r"""The errors that a user can mend."""
__all__ = [
    'ConfigError',
    'DataError',
    'DiffMMError',
    'LostProcessError',
    'MissingExtraError',
    'RunError',
]

class DiffMMError(ValueError):
    r"""Base class of every error that a user can mend: its message is one
    line that says what is wrong, where, and what to do.
    """


class DataError(DiffMMError):
    r"""A file, an array or a graph does not hold what it must hold."""


class ConfigError(DiffMMError):
    r"""An option or a preset is unknown or has an unusable value."""


class RunError(DiffMMError):
    r"""A run folder cannot be written, or is not a readable run."""


class LostProcessError(RunError):
    r"""Another process of the training has ended."""


class MissingExtraError(DiffMMError, ImportError):
    r"""An optional package is needed and not installed.

    Args:
        package (str): The package that is missing.
        extra (str): The extra of :obj:`diffmm_pyg` that installs it.
        purpose (str): What it is needed for.
    """
    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f"'{package}' is needed {purpose}; install it with: "
                         f"pip install 'diffmm_pyg[{extra}]'")
