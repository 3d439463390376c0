r"""Processes that need not import anything: they are forked from one that has,
which takes longer than many a training.
"""
import logging
import multiprocessing
import os
import sys
import threading
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Callable, Dict
from unittest.mock import patch

import torch

Job = Dict[str, Any]
CONTEXT = multiprocessing.get_context('forkserver')
MODULES = ['__main__', '_experiments.cell', '_tuning.trial']
# What libraries read when they are imported:
THREADS = ['OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS']


def start(work: Callable[[Job], None], job: Job, log: Path) -> BaseProcess:
    r"""Runs :obj:`work` in a process of its own, which writes what it has to
    say to :obj:`log`, and ends with this one.

    Args:
        work (callable): A function of one of the modules.
        job (Dict): What it is told, and the number of :obj:`threads`.
        log (Path): A file, which is emptied first.
    """
    _start_server(str(job['threads']))
    log.write_text('')
    process = CONTEXT.Process(target=_run, args=(work, job, str(log),
                                                 dict(os.environ)))
    process.start()
    return process


def _start_server(threads: str) -> None:
    # Where it runs already, it stays as it is.
    with patch.dict(os.environ, dict.fromkeys(THREADS, threads),
                    # It is not told otherwise before Python 3.13.
                    PYTHONPATH=os.pathsep.join(sys.path)):
        CONTEXT.set_forkserver_preload(MODULES)
        forkserver.ensure_running()


def _run(work: Callable[[Job], None], job: Job, log: str,
         environ: Dict[str, str]) -> None:
    os.setsid()  # Ctrl-C is for the runner, which ends this process.
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in [sys.stdout, sys.stderr]:
        os.dup2(file, stream.fileno())
    os.environ.update(environ)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    torch.set_num_threads(job['threads'])
    work(job)


def _end_with_parent() -> None:
    # Nobody is to read the results if there is no runner any more:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
