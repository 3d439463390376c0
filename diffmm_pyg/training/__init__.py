r"""The training of a recommender."""
from .checkpoint import Checkpoint, Checkpoints
from .fit import check_config, fit

__all__ = [
    'Checkpoint',
    'Checkpoints',
    'check_config',
    'fit',
]
