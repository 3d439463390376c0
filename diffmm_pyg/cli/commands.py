import argparse
import csv
import json
import os
import shlex
import sys
import time
from typing import Any, Dict, Iterator, Tuple

from diffmm_pyg.build import build_model
from diffmm_pyg.cli.data import load_data
from diffmm_pyg.cli.options import given_hyper_parameters
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.doctor import format_report, report
from diffmm_pyg.errors import ConfigError, MissingExtraError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.presets import load_preset
from diffmm_pyg.recommendation import Recommendations
from diffmm_pyg.runs import check_out, load
from diffmm_pyg.training import check_config, fit
from diffmm_pyg.utils.atomic import atomic_path
from diffmm_pyg.utils.hyper_parameters import hyper_parameters
from torch_geometric import seed_everything

COLUMNS = ['user', 'item', 'rank', 'score']


def train(args: argparse.Namespace) -> None:
    r"""Trains a model and writes a run."""
    training = load_preset(args.preset, args.data)['training']
    training.update(given_hyper_parameters(args, fit))
    check_config({**{name: option.default for name, option
                     in hyper_parameters(fit).items()}, **training})
    name = os.path.basename(os.path.abspath(args.data))
    if training.get('out') is None:
        now = time.strftime('%Y%m%d-%H%M%S')
        training['out'] = os.path.join('runs', f'{name}-{args.preset}-{now}')
    check_out(training['out'], training.get('overwrite', False))

    data = load_data(args.data, args.root, args.source, args.modalities)
    seed_everything(training.get('seed', 0))
    model = build_model(
        data[0], args.preset, args.data, given_hyper_parameters(args, DiffMM),
        given_hyper_parameters(args, GraphDiffusion, 'diffusion_'))
    run = fit(model, data, **training, origin={
        'data': args.data,
        'preset': args.preset,
        'command': shlex.join(['diffmm-pyg', *args.argv]),
    })
    _print_metrics(run.metrics)
    sys.stderr.write(f"The run is in '{run.folder}'\n")


def evaluate(args: argparse.Namespace) -> None:
    r"""Prints the metrics of a run."""
    _print_metrics(load(args.run).evaluate(args.k))


def recommend(args: argparse.Namespace) -> None:
    r"""Writes the recommendations of a run."""
    ending = os.path.splitext(args.output or 'stdout.csv')[1]
    if ending not in ['.csv', '.parquet']:
        raise ConfigError(f"'--output' must end in '.csv' or '.parquet' "
                          f"(got '{args.output}')")
    result = load(args.run).recommend(args.users, args.k)
    if args.output is None:
        _write_csv(result, sys.stdout)
        return
    folder = os.path.dirname(os.path.abspath(args.output))
    if not os.path.isdir(folder):
        raise ConfigError(f"The folder '{folder}' does not exist; create it, "
                          f"or name another file")
    with atomic_path(args.output) as path:
        if ending == '.parquet':
            _write_parquet(result, path)
        else:
            with open(path, 'w', newline='') as f:
                _write_csv(result, f)


def doctor(args: argparse.Namespace) -> None:
    r"""Prints versions and backends."""
    sys.stdout.write(format_report(report()).rstrip('\n') + '\n')


def _rows(result: Recommendations) -> Iterator[Tuple[Any, ...]]:
    for user, items, scores in zip(result.user, result.item,
                                   result.score.tolist(), strict=True):
        for rank, (item, score) in enumerate(
                zip(items, scores, strict=False), start=1):
            yield user, item, rank, score


def _write_csv(result: Recommendations, file: Any) -> None:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(COLUMNS)
    writer.writerows(_rows(result))


def _write_parquet(result: Recommendations, path: str) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise MissingExtraError('pyarrow', 'parquet',
                                'to write Parquet') from e
    columns = list(zip(*_rows(result), strict=True)) or [()] * 4
    pq.write_table(pa.table(columns, COLUMNS), path)


def _print_metrics(metrics: Dict[str, Any]) -> None:
    # Further digits are noise; 'metrics.json' has them.
    rounded = {name: {k: round(x, 4) for k, x in value.items()}
               if isinstance(value, dict) else value
               for name, value in metrics.items()}
    sys.stdout.write(json.dumps(rounded, indent=2) + '\n')
