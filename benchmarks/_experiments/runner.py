r"""Runs the cells of a plan, each in a process of its own."""
import math
import os
import shutil
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from tqdm import tqdm

from _experiments.processes import Job, start
from _experiments.store import TOO_LONG, Row, Store

PATIENCE = 60  # The seconds in which a process is to end in order.


class Running(NamedTuple):
    r"""A process at work."""
    job: Job
    process: BaseProcess


def num_cores() -> int:
    r"""Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run_jobs(work: Callable[[Job], None], jobs: List[Job], store: Store,
             num_jobs: int, num_done: int = 0,
             prepare: Optional[Callable[[Job], Job]] = None) -> List[Row]:
    r"""Runs all jobs, :obj:`num_jobs` at a time, and returns the rows of
    those that failed. However it ends, it leaves no process behind.

    Args:
        work (callable): What a process does.
        jobs ([Job]): What to run, in this order. Those with the same
            :obj:`turn`, if they have one, run one after the other. A job that
            takes longer than its :obj:`timeout`, in seconds, is ended.
        store (Store): Where results go.
        num_jobs (int): The number of processes. They share the cores, as
            multi-threaded processes on the same cores wait for each other.
        num_done (int, optional): The number of cells of the plan that need
            not be run. (default: :obj:`0`)
        prepare (callable, optional): What completes a job when it is about to
            start. (default: :obj:`None`)
    """
    threads = max(1, num_cores() // num_jobs)
    waiting, running, failed = list(jobs), [], []
    rows = list(store.finished().values())
    bar = tqdm(total=num_done + len(jobs), initial=num_done, unit='cell',
               disable=None, bar_format='{n_fmt}/{total_fmt} |{bar}| {desc}')
    number = num_done

    def left() -> str:
        return time_left(waiting, [x.job for x in running], rows, num_jobs)

    try:
        while len(waiting) + len(running) > 0:
            for job in _next(waiting, running, num_jobs):
                waiting.remove(job)
                running.append(_start(work, prepare(job) if prepare else job,
                                      store, threads))
            _wait(running, bar, left)
            for x in [x for x in running if not x.process.is_alive()]:
                running.remove(x)
                row = _finish(x, store)
                (failed if 'error' in row else rows).append(row)
                number += 1
                bar.update()
                tqdm.write(f'{number}/{bar.total} {_tell(row)}; {left()} left',
                           file=sys.stdout)
                sys.stdout.flush()
    finally:
        _stop(running)
        bar.close()
    return failed


def _next(waiting: List[Job], running: List[Running],
          num_jobs: int) -> List[Job]:
    r"""Returns the jobs to start now, of no turn more than one."""
    turns = {x.job['turn'] for x in running if 'turn' in x.job}
    out: List[Job] = []
    for job in waiting:
        if len(running) + len(out) < num_jobs and job.get('turn') not in turns:
            out.append(job)
            turns |= {job['turn']} if 'turn' in job else set()
    return out


def _wait(running: List[Running], bar: tqdm,
          left: Callable[[], str]) -> None:
    ticks = 0
    while all(x.process.is_alive() for x in running):
        for x in running:
            if _is_late(x):
                x.process.kill()
        if ticks % 10 == 0:
            names = ', '.join(x.job['label'] for x in running)
            bar.set_description_str(f'{names}, {left()} left')
        time.sleep(0.1)
        ticks += 1


def _is_late(running: Running) -> bool:
    job = running.job
    return time.time() - job['start'] > (job.get('timeout') or math.inf)


def _stop(running: List[Running]) -> None:
    r"""Ends processes, which first write down how far they are."""
    for x in running:
        x.process.terminate()
    for x in running:
        x.process.join(PATIENCE)
        x.process.kill()
        x.process.join()


def _start(work: Callable[[Job], None], job: Job, store: Store,
           threads: int) -> Running:
    job = {**job, 'threads': threads, 'start': time.time()}
    return Running(job, start(work, job, store.log_of(job['key'])))


def _finish(running: Running, store: Store) -> Row:
    job, code = running.job, running.process.exitcode
    assert code is not None
    row = store.finished().get(job['key'])
    if row is not None:  # Whatever it died of afterwards.
        return row
    late = code == -signal.SIGKILL and _is_late(running)
    if late:  # It is not run again.
        shutil.rmtree(store.training_of(job['key']), ignore_errors=True)
    row = {
        **{k: job[k] for k in ['key', 'label', 'dataset', 'seed', 'config']},
        **job['record'],
        'seconds': time.time() - job['start'],
        'error': (f"{TOO_LONG} {job['timeout']} s" if late else
                  _error(code, store.log_of(job['key']))),
    }
    store.append(row)
    return row


def _error(code: int, log: Path) -> str:
    if code < 0:
        return (f'killed by signal {-code}' +
                (', most often for want of memory' if code == -9 else ''))
    lines = [x for x in log.read_text(errors='replace').splitlines() if x]
    return lines[-1] if len(lines) > 0 else f'ended with status {code}'


def _tell(row: Row) -> str:
    which = [f"trial {row['trial']}"] if 'trial' in row else []
    if 'trial' not in row or 'final' in row:  # Trials share theirs.
        which.append(f"seed {row['seed']}")
    text = f"{', '.join([row['dataset'], row['label'], *which])}: "
    if 'error' in row:
        return text + f"FAILED, {row['error']}"
    val = row['metrics']['val']['recall@20']
    return text + f"val recall@20 {val:.4f} in {clock(row['seconds'])}"


def time_left(waiting: List[Job], running: List[Job], rows: List[Row],
              num_jobs: int) -> str:
    r"""Tells how long a plan still takes, judging by what is finished: the
    same model on the same dataset, or others there, or anything.
    """
    if len(waiting) + len(running) == 0:
        return clock(0)
    guess = _guesser(rows)
    if guess is None:
        return 'unknown time'
    now = time.time()
    begun = [max(0., guess(job) + job['start'] - now) for job in running]
    total = sum(begun) + sum(map(guess, waiting))
    return clock(max([total / num_jobs, *begun]))


def _guesser(rows: List[Row]) -> Optional[Callable[[Job], float]]:
    if len(rows) == 0:
        return None
    known: Dict[Any, List[float]] = {}
    for row in rows:
        for name in [(row['dataset'], row['label']), row['dataset'], None]:
            known.setdefault(name, []).append(row['seconds'])

    def guess(job: Job) -> float:
        names = [(job['dataset'], job['label']), job['dataset'], None]
        seconds = next(known[name] for name in names if name in known)
        return sum(seconds) / len(seconds)

    return guess


def clock(seconds: float) -> str:
    r"""Returns seconds as people read them."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f'{hours}:{minutes:02}:{s:02} h' if hours > 0 else
            f'{minutes}:{s:02} min' if minutes > 0 else f'{s} s')
