r"""Searches for the hyper-parameters of every model, with the same number of
trials and on validation splits only. See the README beside this file.
"""
import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from _checkout import git_revision
from _command import describe_command, interruptible, positive
from _experiments.datasets import NAMES, check_dataset
from _experiments.folds import MAX_FOLDS
from _experiments.plan import FIRST_SEED
from _experiments.runner import clock, num_cores
from _experiments.store import Trials
from _tuning.propose import import_optuna
from _tuning.search import make_searches, run_finals, run_searches, summarize
from _tuning.spaces import find_model, space_names
from diffmm_pyg.cli.options import Parser
from diffmm_pyg.utils.atomic import atomic_path

QUICK = {'training.epochs': 5, 'training.batch_size': 256,
         'training.lr': 0.01}


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(prog='tune.py', description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument('--dataset', choices=NAMES, default='tiktok',
                       help='what to search on (default: tiktok)')
    where.add_argument('--quick', action='store_true',
                       help='few trials of few epochs on generated data')
    parser.add_argument('--only', action='append', default=[],
                        metavar='MODEL', help='tune only this model, by name '
                        'or title (repeatable)')
    parser.add_argument('--data', default=os.environ.get('DIFFMM_DATA'),
                        metavar='FOLDER', help='folder with the published '
                        'datasets (default: $DIFFMM_DATA)')
    parser.add_argument('--trials', type=positive, metavar='N',
                        help='trials of every model (default: 30; with '
                        '--quick, 3)')
    parser.add_argument('--finalists', type=positive, metavar='N',
                        help='train the N best trials of every model, and the '
                        'model as it is, with five more seeds, and find what '
                        'is best on average (default: none)')
    parser.add_argument('--folds', type=int, default=1, metavar='N',
                        choices=range(1, MAX_FOLDS + 1),
                        help='the validation split, and N - 1 more that are '
                        'cut from the training edges (default: 1)')
    parser.add_argument('--timeout-per-trial', type=positive,
                        metavar='SECONDS', help='a trial that takes longer, '
                        'all folds together, has failed (default: none)')
    parser.add_argument('--seed', type=int, default=0, metavar='N',
                        help='seed of proposals and trainings (default: 0)')
    parser.add_argument('--learn-from', type=Path, metavar='FILE',
                        help='log of earlier searches (trials.jsonl), whose '
                        'trials of the same model and folds are learned from, '
                        'however long they trained (default: none)')
    parser.add_argument('--jobs', type=positive, metavar='N',
                        help='processes at a time, which share the cores '
                        '(default: 1; with --quick, one per core)')
    parser.add_argument('--out', metavar='DIR', help='folder for the log and '
                        'for what is found (default: runs/tune-DATASET)')
    args = parser.parse_args(argv)
    if not 0 <= args.seed < FIRST_SEED:
        parser.error(f"'--seed' must lie in 0..{FIRST_SEED - 1}, as plans "
                     f"report larger ones (got {args.seed})")
    args.dataset = 'fake' if args.quick else args.dataset
    args.trials = args.trials or (3 if args.quick else 30)
    args.jobs = args.jobs or (num_cores() if args.quick else 1)
    args.out = Path(args.out or f'runs/tune-{args.dataset}')
    return args


def main(argv: Optional[Sequence[str]] = None) -> int:
    r"""Returns the exit code: 0, 1 if there is a model of which no trial
    succeeded or a finalist failed, 2 if an option is wrong, 130 if it was
    interrupted.
    """
    args = parse_args(argv)
    command = describe_command('tune.py',
                               sys.argv[1:] if argv is None else argv)
    return interruptible(lambda: run(args, command), args.out)


def run(args: argparse.Namespace, command: str) -> int:
    optuna = import_optuna()
    check_dataset(args.dataset, args.data)
    names = sorted({find_model(x) for x in args.only}) or space_names()
    searches = make_searches(names, args.dataset, args.data,
                             QUICK if args.quick else {}, args.folds,
                             args.seed, args.learn_from)
    store = Trials(args.out)
    record = {'command': command, 'git': git_revision(), 'jobs': args.jobs,
              'optuna': optuna.__version__, 'timeout': args.timeout_per_trial}
    common = {'folder': args.data, 'out': str(args.out), 'record': record,
              'timeout': args.timeout_per_trial}
    failed: List[Dict[str, Any]] = []
    with store.locked():
        run_searches(searches, store, args.trials, args.jobs, common)
        if args.finalists is not None:
            failed = run_finals(searches, store, args.trials, args.finalists,
                                args.jobs, common)
        found = {x.name: summarize(x, store, args.trials,
                                   args.finalists or 0) for x in searches}
        for name, result in found.items():
            if result is not None:
                write(args.out / 'tuned' / f'{name}.json', result)
    print_table([x for x in found.values() if x is not None])
    print(f"The best trials are in '{args.out / 'tuned'}'")
    for name in [name for name, result in found.items() if result is None]:
        print(f"FAILED: no trial of '{name}' succeeded; see "
              f"'{store.results}'")
    for row in failed:
        print(f"FAILED: {row['label']}, trial {row['trial']}, seed "
              f"{row['seed']}: no finals of that model are judged; see "
              f"'{store.log_of(row['key'])}'")
    return 1 if None in found.values() or len(failed) > 0 else 0


def write(path: Path, result: Dict[str, Any]) -> None:
    r"""Writes what was found for a model."""
    with atomic_path(str(path)) as tmp:
        Path(tmp).write_text(json.dumps(result, indent=2) + '\n')


def print_table(results: List[Dict[str, Any]]) -> None:
    r"""Prints what was found, the best models first, by the finals where
    there were some.
    """
    print(f"{'validation recall@20':24} {'finals':>8} {'trial':>8} "
          f"{'error':>8} {'as is':>8} {'trials':>7} {'failed':>7} "
          f"{'time':>12}")

    def final(x: Dict[str, Any]) -> Optional[float]:
        return x['finals'][0]['value'] if x['finals'] else None

    for x in sorted(results, key=lambda x: -(final(x) or x['value'])):
        numbers = [f'{value:.4f}' if value is not None else '-' for value in
                   [final(x), x['value'], x['standard_error'],
                    x['as_described']]]
        budget = x['budget']
        seconds = budget['seconds'] + budget['seconds_of_finals']
        print(f"{x['title']:24} " + ' '.join(f'{n:>8}' for n in numbers) +
              f" {budget['trials']:>7} {budget['failed']:>7} "
              f"{clock(seconds):>12}")


if __name__ == '__main__':
    sys.exit(main())
