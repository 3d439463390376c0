r"""The training of a recommender."""
from .checkpoint import Checkpoints
from .fit import check_config, fit

__all__ = [
    'Checkpoints',
    'check_config',
    'fit',
]
