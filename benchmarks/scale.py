r"""Times epochs of growing size, each in a process of its own, and fits how
time and memory grow. See the README beside this file.
"""
import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch

from _checkout import git_revision
from _command import describe_command
from _timing.problem import PRESET, add_arguments, make_config, set_up
from _timing.scale_report import (
    fit_exponents,
    plot_scale,
    print_exponents,
    print_row,
)
from _timing.scale_runs import measure_size


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--users', type=int, nargs='+',
                        default=[10_000, 30_000, 100_000])
    parser.add_argument('--items', type=int, nargs='+',
                        default=[10_000, 30_000, 100_000])
    add_arguments(parser)
    parser.add_argument('--precision', choices=['fp32', 'bf16'],
                        default='fp32')
    parser.add_argument('--num-contrasts', type=int, metavar='N',
                        help='nodes drawn for the denominators of the '
                        'contrastive loss (default: all)')
    parser.add_argument('--num-neighbors', type=int, nargs='+', metavar='N',
                        help='train the recommender on subgraphs, with so '
                        'many neighbors in each hop (default: on all edges)')
    parser.add_argument('--embedding-channels', type=int, metavar='D',
                        help='width of the embeddings (default: the '
                        'preset\'s)')
    parser.add_argument('--num-sampled-items', type=int, metavar='N',
                        help='items drawn for the training of the denoisers '
                        '(default: all)')
    parser.add_argument('--steps', type=int, default=20, metavar='N',
                        help='batches, or blocks of users, that are timed per '
                        'phase; more are extrapolated')
    parser.add_argument('--full-epoch', action='store_true',
                        help='extrapolate nothing, and report the recall')
    parser.add_argument('--out', default='scale.jsonl', metavar='FILE.jsonl',
                        help='results, one per line; a size that is in there '
                        'is not measured again')
    parser.add_argument('--plot', metavar='FILE.png')
    parser.add_argument('--size', type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name in ['steps', 'batch_size']:
        if getattr(args, name) < 1:
            parser.error(f"'{name}' must be at least 1")
    return args


def main(argv: Optional[Sequence[str]] = None) -> List[Dict[str, Any]]:
    args = parse_args(argv)
    set_up(args)
    if args.size is not None:
        print(json.dumps(measure_size(args, *args.size)))
        return []

    path = Path(args.out)
    results = read_results(path)
    chosen = settings(args)
    own = sys.argv[1:] if argv is None else argv
    record = {'command': describe_command('scale.py', own),
              'git': git_revision()}
    mine = []
    for users, items in sorted(product(args.users, args.items), key=sum):
        wanted = {**chosen, 'users': users, 'items': items}
        row = next((r for r in results
                    if {**r, **wanted} == r), None)
        if row is None:
            row = {**record, **wanted, **run_size(own, users, items)}
            if 'failed' not in row:  # The next run may have more memory.
                with path.open('a') as f:
                    f.write(json.dumps(row) + '\n')
        print_row(row)
        mine.append(row)

    done = [row for row in mine if 'failed' not in row]
    if len(done) > 1:
        print_exponents(fit_exponents(done))
    if args.plot is not None and len(done) > 0:
        plot_scale(done, args.plot)
    return mine


def settings(args: argparse.Namespace) -> Dict[str, Any]:
    r"""Returns what, beside its size, tells a measurement from others."""
    names = ['likelihood', 'normalize', 'modalities', 'degree', 'batch_size',
             'seed', 'device', 'precision', 'num_contrasts',
             'num_sampled_items', 'steps', 'full_epoch']
    # Records from before there were these options do not name them:
    names += [name for name in ['num_neighbors', 'embedding_channels']
              if getattr(args, name) is not None]
    config = make_config(args)
    return {
        'preset': PRESET,
        'hidden_channels': config['diffusion']['hidden_channels'],
        'threads': torch.get_num_threads(),
        **{name: getattr(args, name) for name in names},
    }


def read_results(path: Path) -> List[Dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_size(argv: Sequence[str], users: int, items: int) -> Dict[str, Any]:
    r"""Measures one size in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, *argv, '--size', str(users), str(items)],
        stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        # Negative is the signal, such as 9 of a system without memory left.
        return {'failed': done.returncode}
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
    main()
