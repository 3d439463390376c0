from .checkpoint import Checkpoints
from .fit import check_config, fit

__all__ = [
    'Checkpoints',
    'check_config',
    'fit',
]
