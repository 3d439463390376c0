from .from_training import describe_model, to_run
from .load import load
from .run import Recommendations, Run
from .save import check_out, save_run

__all__ = [
    'Recommendations',
    'Run',
    'check_out',
    'describe_model',
    'load',
    'save_run',
    'to_run',
]
