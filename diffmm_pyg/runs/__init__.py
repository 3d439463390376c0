from .folder import check_out, load, save_run
from .from_training import describe_model, to_run
from .run import Recommendations, Run

__all__ = [
    'Recommendations',
    'Run',
    'check_out',
    'describe_model',
    'load',
    'save_run',
    'to_run',
]
