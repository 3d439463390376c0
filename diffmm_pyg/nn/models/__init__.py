from .diffmm import DiffMM
from .diffmm_output import DiffMMOutput
from .recommender import Phase, Recommender

# Those that a run can build again, by name:
MODELS = {cls.__name__: cls for cls in [DiffMM]}

__all__ = [
    'MODELS',
    'DiffMM',
    'DiffMMOutput',
    'Phase',
    'Recommender',
]
