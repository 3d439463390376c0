import argparse
import csv
import os
import sys
from typing import Any, Iterator, Tuple

from diffmm_pyg.cli.output import print_metrics
from diffmm_pyg.doctor import format_report, report
from diffmm_pyg.errors import ConfigError, MissingExtraError
from diffmm_pyg.recommendation import Recommendations
from diffmm_pyg.runs import load
from diffmm_pyg.utils.atomic import atomic_path

COLUMNS = ['user', 'item', 'rank', 'score']


def evaluate(args: argparse.Namespace) -> None:
    r"""Prints the metrics of a run."""
    print_metrics(load(args.run).evaluate(args.k))


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
