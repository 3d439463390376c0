from .diffmm import DiffMM, DiffMMOutput
from .recommender import Phase, Recommender

__all__ = [
    'DiffMM',
    'DiffMMOutput',
    'Phase',
    'Recommender',
]
