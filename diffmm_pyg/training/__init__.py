r"""The training of a recommender."""
from .fit import check_config, fit

__all__ = [
    'check_config',
    'fit',
]
