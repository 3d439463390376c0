r"""Finished trainings, in memory and in folders."""
from .from_training import describe_model, describe_training, to_run
from .load import load
from .run import Run, recorded_model
from .save import check_out, save_run

__all__ = [
    'Run',
    'check_out',
    'describe_model',
    'describe_training',
    'load',
    'recorded_model',
    'save_run',
    'to_run',
]
