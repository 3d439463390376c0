r"""The tables of the report."""
import math
from typing import Dict, List, Optional

import numpy as np

from _experiments.models import load_description
from _experiments.plan import Plan
from _experiments.ranks import KS
from _experiments.runner import clock
from _experiments.significance import standard_error
from _reports.document import Table
from _reports.summary import METRICS, Comparison, K, Result, Summary


def number(value: Optional[float]) -> str:
    r"""Returns a metric as tables print it."""
    return '' if value is None or math.isnan(value) else f'{value:.4f}'


def _spread(mean: float, deviation: float) -> str:
    return number(mean) + ('' if math.isnan(deviation) else
                           f' ± {deviation:.4f}')


def p_value(value: float) -> str:
    r"""Returns a p-value as tables print it."""
    return f'{value:.4f}' if value < 0.001 else f'{value:.3f}'


def model_table(header: List[str], rows: List[List[str]],
                results: List[Result]) -> Table:
    r"""Returns a table with a row per model, where ours among others are bold.
    """
    ours = [i for i, result in enumerate(results) if result.is_ours]
    if len(ours) in [0, len(results)]:
        return Table(header, rows)
    return Table(header, rows, ours, 'Bold: our models.')


def accuracy_table(summary: Summary) -> Table:
    r"""Means, deviations over seeds, and standard errors over users."""
    header = ['Model', 'Seeds', f'Recall@{K} val']
    for name in METRICS:
        header += [f'{METRICS[name]}@{K} test', 'standard error']
    rows = []
    for result in summary.results:
        key = f'recall@{K}'
        row = [result.label, str(len(result.rows)),
               _spread(result.mean(key, 'val'), result.deviation(key, 'val'))]
        for name in METRICS:
            key = f'{name}@{K}'
            row += [_spread(result.mean(key), result.deviation(key)),
                    number(standard_error(result.users[name]))]
        rows.append(row)
    return model_table(header, rows, summary.results)


def tuning_table(plan: Plan, dataset: str) -> Optional[Table]:
    r"""The budgets of the searches, and what they found, of models in which
    the plan replaces none of it.
    """
    found = {}
    for entry in plan.entries:
        base = load_description(entry.base)
        tuned = base.get('tuned', {}).get(dataset)
        if tuned and tuned == entry.description['tuned'][dataset]:
            values = ', '.join(f'{k} = {v}' for k, v in tuned['set'].items())
            found[base['title']] = [
                str(tuned['trials']), number(tuned['value']),
                values or 'as described']
    if len(found) == 0:
        return None
    return Table(['Model', 'Trials', f'Recall@{K} val', 'Values'],
                 [[title, *row] for title, row in found.items()])


def significance_table(summary: Summary, comparison: Comparison) -> Table:
    r"""Differences to a model."""
    base = comparison.base
    header = ['Model']
    for name in METRICS:
        header += [f'{METRICS[name]}@{K}, difference', 'in %', '95% interval',
                   'p (Holm)']
    rows = []
    for result in summary.results:
        row = [result.label]
        for name in METRICS:
            if result is base:
                row += ['0', '0', '', '']
                continue
            mean, low, high, p = comparison.values[name][result.label]
            whole = base.mean(f'{name}@{K}')
            percent = f'{100 * mean / whole:+.1f}' if whole > 0 else ''
            row += [f'{mean:+.4f}', percent, f'{low:+.4f} to {high:+.4f}',
                    p_value(p)]
        rows.append(row)
    return model_table(header, rows, summary.results)


def selection_table(summary: Summary) -> Optional[Table]:
    r"""What the choice of the epoch is worth, and what was published, where
    either is known.
    """
    values: Dict[str, List[str]] = {}
    for name in METRICS:
        key, title = f'{name}@{K}', f'{METRICS[name]}@{K}'
        results = summary.results
        values[f'{title}, epoch chosen on validation'] = [
            number(x.mean(key)) for x in results]
        on_test = [x.best_on_test(key) for x in results]
        values[f'{title}, chosen on TEST (for comparison only)'] = [
            '' if x is None else number(x.mean()) for x in on_test]
        values[f'{title}, published'] = [
            number(x.published(summary.dataset, key)) for x in results]
    known = {title: column for title, column in values.items() if any(column)}
    if len(known) == len(METRICS):
        return None
    labels = [x.label for x in summary.results]
    rows = [list(row) for row in zip(labels, *known.values(), strict=True)]
    return model_table(['Model', *known], rows, summary.results)


def cutoff_table(summary: Summary) -> Table:
    r"""Recall and NDCG for several numbers of recommendations."""
    keys = [f'{name}@{k}' for name in METRICS for k in KS
            if f'{name}@{k}' in summary.results[0].rows[0]['metrics']['test']]
    header = ['Model', *[f'{METRICS[key.split("@")[0]]}@{key.split("@")[1]}'
                         for key in keys]]
    rows = [[result.label, *[number(result.mean(key)) for key in keys]]
            for result in summary.results]
    return model_table(header, rows, summary.results)


def cost_table(summary: Summary) -> Table:
    r"""Time, memory and size."""
    header = ['Model', 'training', 'precision', 'seconds per epoch',
              'kept epoch / epochs, by seed', 'peak memory (MiB)',
              'parameters']
    rows = []
    for result in summary.results:
        epochs = np.mean([number for _, number in result.epochs])
        seconds = result.field('training_seconds')
        in_epochs = np.mean([sum(epoch['seconds'] for epoch in row['history'])
                             for row in result.rows])
        rows.append([
            result.label,
            clock(seconds) if seconds >= 10 else f'{seconds:.2f} s',
            result.rows[0]['config']['training']['precision'],
            f'{in_epochs / epochs:.2f}',
            ', '.join(f'{kept}/{number}' for kept, number in result.epochs),
            f"{result.field('peak_bytes') / 2**20:.0f}",
            f"{result.field('parameters'):,.0f}",
        ])
    return model_table(header, rows, summary.results)


def graph_table(summary: Summary) -> Optional[Table]:
    r"""What generated graphs are made of."""
    header = ['Model', 'Modality', 'edges', 'of them training edges',
              'distinct items', 'overlap with other modalities',
              'recall of validation edges']
    rows = []
    for result in summary.results:
        graphs = [row['graphs'] for row in result.rows]
        for modality in graphs[0]:
            mean = {
                key: np.mean([g[modality][key] for g in graphs])
                for key, value in graphs[0][modality].items()
                if value is not None
            }
            rows.append([
                result.label, modality, f"{mean['edges']:,.0f}",
                f"{mean['known']:.1%}", f"{mean['items']:,.0f}",
                f"{mean['overlap']:.1%}" if 'overlap' in mean else '',
                f"{mean['val_recall']:.4f}" if 'val_recall' in mean else ''
            ])
    return Table(header, rows) if len(rows) > 0 else None
