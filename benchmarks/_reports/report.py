r"""Writes the report of a plan."""
from collections import Counter
from typing import Any, Callable, Dict, List

import numpy as np

from _experiments.datasets import Facts, base_of, title_of
from _experiments.plan import Plan
from _experiments.runner import clock
from _experiments.significance import NUM_RESAMPLES
from _experiments.store import Row, Store
from _reports.document import (
    Block,
    Bullets,
    Data,
    Figure,
    Heading,
    Table,
    Text,
    to_html,
    to_markdown,
)
from _reports.groups import by_items, by_users, group_table
from _reports.headlines import headlines
from _reports.plots import draw_all
from _reports.summary import Result, Summary, summarize
from _reports.tables import (
    accuracy_table,
    cost_table,
    cutoff_table,
    graph_table,
    selection_table,
    significance_table,
    tuning_table,
)
from diffmm_pyg.utils.atomic import atomic_path

PUBLISHED = ('Published numbers are those of Table 1 of DiffMM (arXiv '
             '2406.11781), with all modalities of a dataset.')


def write_report(plan: Plan, keys: List[str], facts: Facts,
                 store: Store, command: str, name: str) -> None:
    r"""Writes a report as HTML and as Markdown.

    Args:
        plan (Plan): The plan.
        keys ([str]): The keys of its cells.
        facts (Facts): Hash and sizes of its datasets, by name and modalities.
        store (Store): The folder of results.
        command (str): What was called.
        name (str): The name of the files.
    """
    sizes = {dataset: size for (dataset, _), (_, size) in facts.items()}
    summaries = [summarize(plan, keys, dataset, size, store)
                 for dataset, size in sizes.items()]
    blocks: List[Block] = [Heading(1, plan.title)]
    if len(plan.notes) > 0:
        blocks.append(Bullets(plan.notes))
    for summary in summaries:
        blocks += report_dataset(plan, summary)
    blocks += report_origin(summaries, command)
    for suffix, text in [('html', to_html(plan.title, blocks)),
                         ('md', to_markdown(blocks, f'{name}.html'))]:
        with atomic_path(str(store.folder / f'{name}.{suffix}')) as path:
            with open(path, 'w', encoding='utf-8') as f:
                f.write(text)


def report_dataset(plan: Plan, summary: Summary) -> List[Block]:
    r"""Returns what there is to say of a dataset."""
    sizes = summary.sizes
    out: List[Block] = [
        Heading(2, title_of(summary.dataset)),
        Text(f"{sizes['users']:,} users, {sizes['items']:,} items, "
             f"{sizes['train']:,} training, {sizes['val']:,} validation and "
             f"{sizes['test']:,} test interactions. All items are ranked for "
             f"each of the {sizes['test_users']:,} users of the test split, "
             f"but for those known from training and validation."),
    ]
    if len(summary.results) > 0:
        out.append(Bullets(headlines(summary)))
    out += [Text(f"The same as {x.label}, as they differ in nothing here: "
                 f"{', '.join(x.labels[1:])}.")
            for x in summary.results if len(x.labels) > 1]
    out += _report_gaps(summary)
    if len(summary.results) == 0:
        return out
    out += _report_results(summary)
    tuned = tuning_table(plan, base_of(summary.dataset))
    if tuned is not None:
        out += [
            Heading(3, 'Tuning'),
            Text('What tune.py found on the validation split with one seed, '
                 'in so many trials of each model, of one search or of '
                 'several, and its recall there: a lucky one, if of trainings '
                 'that may have ended earlier. Models that are missing here '
                 'have nothing that was tuned, or the plan replaces it.'),
            tuned,
        ]
    return out


def _report_results(summary: Summary) -> List[Block]:
    figures = {name: Figure(svg, text)
               for name, (svg, text) in draw_all(summary).items()}
    out: List[Block] = [
        figures['overview'],
        *_report_accuracy(summary, figures),
        Heading(3, 'How many recommendations'),
        figures['cutoffs'], cutoff_table(summary),
        Heading(3, 'For whom, and which items'),
        figures['users'], group_table(summary, by_users(summary)),
        figures['items'], group_table(summary, by_items(summary)),
        Heading(3, 'Cost'),
        *_report_processors(summary),
        figures['cost'], cost_table(summary),
    ]
    if 'curves' in figures:
        out += [Heading(3, 'Learning curves'), figures['curves']]
    graphs = graph_table(summary)
    if graphs is not None:
        out += [
            Heading(3, 'Generated graphs'),
            Text('Of the best epoch, means over seeds. The overlap is the '
                 'size of the intersection over that of the union. The '
                 'recall is the share of validation edges that the graph '
                 'itself contains.'), graphs,
        ]
    return out


def _report_accuracy(summary: Summary,
                     figures: Dict[str, Figure]) -> List[Block]:
    out: List[Block] = [
        Heading(3, 'Accuracy'),
        Text('Means and standard deviations over seeds, of the epoch with '
             'the best validation recall. The standard error is that of the '
             'mean over users, each with the mean of the own seeds: it is '
             'how far another draw of test users might be off, the deviation '
             'how far another seed. Tables and pictures are in the order of '
             'validation recall: nothing is chosen on the test split.'),
        accuracy_table(summary),
    ]
    least = (len(summary.results) - 1) / (NUM_RESAMPLES + 1)
    for comparison in summary.comparisons:
        out += [
            Heading(3, f'Differences to {comparison.base.label}'),
            Text(f'Paired by users, whose hits are averaged over seeds; '
                 f'{NUM_RESAMPLES:,} bootstrap draws of users, two-sided; '
                 f'p-values corrected by Holm for all models of the table, '
                 f'separately for each metric, of which {least:.4f} is the '
                 f'least that so many draws can show. That seeds differ is '
                 f'not part of these intervals: see the deviations above.'),
            figures[f'differences to {comparison.base.label}'],
            significance_table(summary, comparison),
        ]
    selection = selection_table(summary)
    if selection is not None:
        out += [
            Heading(3, 'Chosen on validation, chosen on test, published'),
            Text('Choosing the epoch on the test split overestimates; it is '
                 'common in what is published, stands here for comparison '
                 'only, and decides nothing.' +
                 (f' {PUBLISHED}' if any('published' in x for x in
                                         selection.header) else '')),
            selection,
        ]
    return out


def _report_processors(summary: Summary) -> List[Block]:
    used = _by_origin(summary.results, _speed)
    if len(used) == 1:
        return []
    return [Text('Times on different processors, or with other numbers of '
                 'threads or processes, do not compare:'),
            Bullets(used)]


def _speed(row: Row) -> str:
    machine = row['machine']
    return f"{machine.get('gpu', machine['cpu'])}, {_share(row)}"


def _share(row: Row) -> str:
    return (f"{count(row['machine']['threads'], 'thread')} per process, "
            f"{count(row['jobs'], 'process')} at a time")


def _by_origin(results: List[Result],
               origin: Callable[[Row], str]) -> List[str]:
    r"""Tells which models have rows of one origin, which of others or of
    several.
    """
    labels: Dict[str, List[str]] = {}
    for result in results:
        origins = ' and '.join(sorted({origin(row) for row in result.rows}))
        if result.label not in labels.setdefault(origins, []):
            labels[origins].append(result.label)
    return [f"{origins}: {', '.join(x)}" for origins, x in labels.items()]


def _report_gaps(summary: Summary) -> List[Block]:
    out: List[Block] = []
    if len(summary.failed) > 0:
        out += [
            Heading(3, 'FAILED'),
            Table(['Model', 'Seed', 'Error'],
                  [[row['label'], str(row['seed']), row['error']]
                   for row in summary.failed]),
        ]
    if len(summary.missing) > 0:
        missing = [f"{label} (seed {', '.join(map(str, seeds))})"
                   for label, seeds in summary.missing.items()]
        out.append(Text(f"Not run yet: {', '.join(missing)}."))
    return out


def report_origin(summaries: List[Summary], command: str) -> List[Block]:
    r"""Returns where the numbers come from."""
    rows = [row for summary in summaries for result in summary.results
            for row in result.rows]
    if len(rows) == 0:
        return []
    machines = Counter(map(_machine, rows))
    versions = {', '.join(f'{k} {v}' for k, v in row['versions'].items())
                for row in rows}
    revisions = _by_origin([x for summary in summaries
                            for x in summary.results],
                           lambda row: row['git'] or 'no checkout')
    commands = {row['command'] for row in rows}
    seconds = sum(row['seconds'] for row in rows)
    out: List[Block] = [
        Heading(2, 'Where this comes from'),
        Bullets([
            f'Command of this report: {command}',
            *[f'Command of trainings: {x}' for x in sorted(commands)],
            f"{count(len(rows), 'training')}, which took {clock(seconds)} "
            f"one after the other",
            *[f"Machine of {count(n, 'training')}: {x}"
              for x, n in sorted(machines.items())],
            *[f'Versions: {x}' for x in sorted(versions)],
            *[f'Revision {x}' for x in revisions],
        ]),
    ]
    for summary in summaries:
        out += [Data(f'{title_of(summary.dataset)}: hyper-parameters of '
                     f'{result.label}', result.rows[0]['config'])
                for result in summary.results]
    return out


def _machine(row: Dict[str, Any]) -> str:
    machine = row['machine']
    gpu = f", {machine['gpu']}" if 'gpu' in machine else ''
    memory = np.round(machine['memory_bytes'] / 2**30)
    variables = ''.join(f'; {name}={value}' for name, value in
                        machine.get('environment', {}).items())
    return (f"{machine['cpu']}, {count(machine['cores'], 'core')}, "
            f"{memory:.0f} GiB"
            f"{gpu}; {_share(row)}{variables}")


def count(number: int, noun: str) -> str:
    r"""Returns a number of things as people write it."""
    plural = noun + ('es' if noun.endswith('s') else 's')
    return f'{number:,} {noun if number == 1 else plural}'
