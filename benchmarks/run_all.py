r"""Runs every model of a plan on every dataset with every seed, and reports.
See the README beside this file.
"""
import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from _checkout import git_revision
from _command import describe_command, interruptible, positive
from _experiments.cell import run_cell
from _experiments.datasets import (
    Facts,
    check_dataset,
    count,
    describe_test,
    hash_of,
    load_dataset,
)
from _experiments.plan import FOLDER, Cell, Plan, read_plan, select
from _experiments.processes import Job
from _experiments.runner import num_cores, run_jobs
from _experiments.store import Row, Store, save_tensors
from _reports.figures import import_pyplot
from _reports.report import write_report
from diffmm_pyg.cli.options import Parser
from diffmm_pyg.errors import ConfigError


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(prog='run_all.py', description=__doc__)
    plans = parser.add_mutually_exclusive_group(required=True)
    plans.add_argument('--quick', action='store_true',
                       help='all models on generated data, for minutes')
    plans.add_argument('--full', action='store_true',
                       help='all models on TikTok, for hours')
    plans.add_argument('--plan', metavar='FILE', help='a plan of your own')
    parser.add_argument('--only', action='append', default=[],
                        metavar='MODEL_OR_DATASET',
                        help='run only this model or dataset (repeatable); '
                        'the report shows all that is finished')
    parser.add_argument('--data', default=os.environ.get('DIFFMM_DATA'),
                        metavar='FOLDER', help='folder with the published '
                        'datasets (default: $DIFFMM_DATA)')
    parser.add_argument('--seeds', type=positive, metavar='N',
                        help='number of seeds (default: the plan\'s)')
    parser.add_argument('--jobs', type=positive, metavar='N',
                        help='processes at a time, which share the cores '
                        '(default: 1; with --quick, one per core)')
    parser.add_argument('--out', metavar='DIR', help='folder for results '
                        '(default: runs/benchmark-PLAN)')
    parser.add_argument('--report', metavar='NAME',
                        help='name of the report (default: that of the plan; '
                        'with --quick and --full, report)')
    parser.add_argument('--report-only', action='store_true',
                        help='run nothing, and report what is finished')
    args = parser.parse_args(argv)
    name = ('quick' if args.quick else 'full' if args.full else
            Path(args.plan).stem)
    args.report = args.report or (name if args.plan else 'report')
    args.plan = Path(args.plan or FOLDER / f'{name}.json')
    args.out = Path(args.out or f'runs/benchmark-{name}')
    args.jobs = args.jobs or (num_cores() if args.quick else 1)
    return args


def main(argv: Optional[Sequence[str]] = None) -> int:
    r"""Returns the exit code: 0, 1 if a cell or the report failed, 2 if an
    option is wrong, 130 if it was interrupted.
    """
    args = parse_args(argv)
    command = describe_command('run_all.py',
                               sys.argv[1:] if argv is None else argv)
    return interruptible(lambda: run(args, command), args.out)


def run(args: argparse.Namespace, command: str) -> int:
    import_pyplot()  # It is to be known now that it is missing.
    plan = read_plan(args.plan, args.seeds)
    chosen = select(plan, args.only)
    for name in sorted({cell.dataset for cell in plan.cells}):
        check_dataset(name, args.data)
    if args.report_only and not (args.out / Store.FILE).exists():
        raise ConfigError(f"'{args.out}' holds no results to report; name "
                          f"their folder by '--out'")
    store = Store(args.out)
    with nullcontext() if args.report_only else store.locked():
        facts = read_data(plan, args.data, store)
        keys = [cell.key(facts[_data_of(cell)][0]) for cell in plan.cells]
        done = store.finished()
        revision = git_revision()
        record = {'command': command, 'git': revision, 'jobs': args.jobs}
        cells: Dict[str, Cell] = {}
        for key, cell in zip(keys, plan.cells, strict=True):
            if cell in chosen:  # Several labels may stand for the same.
                cells.setdefault(key, cell)
        jobs = [make_job(cell, key, args, record)
                for key, cell in cells.items() if key not in done]
        num_done = len(cells) - len(jobs)
        num_other = sum(done[key]['git'] != revision for key in cells
                        if key in done)
        print(f'{plan.title}: {num_done} of {num_done + len(jobs)} cells are '
              f'finished' + (f', {num_other} of them with code of other '
                             f'revisions (for this one, name another '
                             f"'--out')" if num_other > 0 else ''),
              flush=True)
        if args.report_only and store.rows().keys().isdisjoint(keys):
            raise ConfigError(f"'{args.out}' holds no results of this plan to "
                              f"report; run it without '--report-only'")
        failed: List[Row] = []
        if not args.report_only:
            failed = run_jobs(run_cell, jobs, store, args.jobs, num_done)
        write_report(plan, keys, facts, store, command, args.report)
    print(f"The report is '{args.out / args.report}.html'")
    for row in failed:
        print(f"FAILED: {row['dataset']}, {row['label']}, seed "
              f"{row['seed']}; see '{store.log_of(row['key'])}'")
    return 1 if len(failed) > 0 else 0


def read_data(plan: Plan, folder: Optional[str], store: Store) -> Facts:
    r"""Returns hash and sizes of what the cells run on, and keeps what the
    report needs of it.
    """
    out: Facts = {}
    for cell in plan.cells:
        if _data_of(cell) in out:
            continue
        data = load_dataset(cell.dataset, folder, cell.config['modalities'])
        out[_data_of(cell)] = hash_of(data), count(data)
        path = store.positives_of(out[_data_of(cell)][0])
        if not path.exists():
            save_tensors(path, describe_test(data))
    return out


def _data_of(cell: Cell) -> Tuple[str, Any]:
    return cell.dataset, tuple(cell.config['modalities'] or [])


def make_job(cell: Cell, key: str, args: argparse.Namespace,
             record: Dict[str, Any]) -> Job:
    r"""Returns what the process of a cell is told."""
    return {
        **cell._asdict(),
        'key': key,
        'folder': args.data,
        'out': str(args.out),
        'record': record,
    }


if __name__ == '__main__':
    sys.exit(main())
