r"""Finished trainings, in memory and in folders."""
from .from_training import describe_model, to_run
from .load import load
from .run import Run
from .save import check_out, free_folder, save_run

__all__ = [
    'Run',
    'check_out',
    'describe_model',
    'free_folder',
    'load',
    'save_run',
    'to_run',
]
