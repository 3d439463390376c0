import json
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

from flat_config import flat  # noqa: E402

from _experiments.models import load_description, model_names, resolve  # noqa: E402
from _experiments.plan import FIRST_SEED, FOLDER, read_plan  # noqa: E402
from _tuning.spaces import space_names  # noqa: E402

RESULTS = ROOT / 'benchmarks' / 'results'


@cache
def read_lines(name):
    lines = (RESULTS / name).read_text().splitlines()
    return [json.loads(line) for line in lines]


def results():
    return [row for row in read_lines('tiktok/results.jsonl')
            if row['dataset'] == 'tiktok']


def mean_over_seeds(config):
    r"""What settings may be judged by, with the patience of the searches: five
    seeds that are not reported; :obj:`None` where they did not run.
    """
    def judged(config):
        values = flat(config)
        if 'training.patience' in values:
            values['training.patience'] = min(30, values['training.patience'])
        return values

    wanted = judged(config)
    values = [row['metrics']['val']['recall@20'] for row in results()
              if row['seed'] < FIRST_SEED and judged(row['config']) == wanted]
    return np.mean(values) if len(values) >= 5 else None


def is_worse(config, other):
    means = mean_over_seeds(config), mean_over_seeds(other)
    return None not in means and means[0] < means[1]


def finals_of(name):
    r"""The means of the finalists of the last search that had some."""
    found = {}
    for row in read_lines('tiktok-tuning.jsonl'):
        if row['model'] == name and 'final' in row:
            found.setdefault(row['search'], {}).setdefault(
                (row['search'], row['trial']), []).append(row['value'])
    last = list(found.values())[-1] if found else {}
    assert all(len(values) == 5 for values in last.values())
    return {key: np.mean(values) for key, values in last.items()}


@pytest.mark.parametrize('name', space_names())
def test_models_are_as_the_best_trial_was_that_holds_over_seeds(name):
    trials = [row for row in read_lines('tiktok-tuning.jsonl')
              if row['model'] == name and 'final' not in row]
    description = load_description(name)
    tuned = description['tuned']['tiktok']
    assert tuned['trials'] == len(trials)
    finals = finals_of(name)
    # Unless five seeds of a better trial are worse than those of a lesser one.
    current = resolve(description, 'tiktok')
    best = max((row for row in trials if 'error' not in row
                and not is_worse(row['config'], current)),
               key=lambda row: row['value'])
    if len(finals) > 0:
        best = max((row for row in trials
                    if (row['search'], row['trial']) in finals),
                   key=lambda row: finals[row['search'], row['trial']])
    assert tuned['value'] == round(best['value'], 4)
    config = flat(current)
    then = flat(best['config'])
    if config.get('diffusion.corruption') == 'mask':  # It has no noise.
        del then['diffusion.loss_weighting']
    # Searches may end trainings earlier, and never later.
    assert then.pop('training.patience') <= config['training.patience']
    assert {key: config[key] for key in then} == then


def test_two_layers_are_as_the_trial_was_that_holds_over_seeds():
    finals = finals_of('light_gcn_2')
    search, trial = max(finals, key=finals.get)
    best = next(row for row in read_lines('tiktok-tuning.jsonl')
                if row['search'] == search and row['trial'] == trial)
    configs = [cell.config for cell in read_plan(FOLDER / 'known.json').cells
               if cell.label == 'LightGCN, 2 layers']
    assert configs == [best['config']] * 5


def metrics_of(name):
    r"""By label, the metrics of all seeds of a plan."""
    found = {(json.dumps(row['config'], sort_keys=True), row['seed']):
             row['metrics'] for row in results()}
    out = {}
    for cell in read_plan(FOLDER / f'{name}.json').cells:
        key = json.dumps(cell.config, sort_keys=True), cell.seed
        out.setdefault(cell.label, []).append(found[key])
    return out


def printed_as(values):
    r"""Mean and, of several seeds, standard deviation."""
    out = [np.mean(values)] + ([np.std(values, ddof=1)] if len(values) > 1
                               else [])
    return ' ± '.join(f'{x:.4f}'[1:] for x in out)


def printed_means(metrics):
    return ', '.join(printed_as([np.mean([x['test'][name] for x in metrics])])
                     for name in ['recall@20', 'ndcg@20'])


def test_readme_prints_what_was_measured():
    text = (ROOT / 'README.md').read_text().split('\n## Results\n')[1]
    found = metrics_of('full')
    printed = 0
    for line in text.split('\n## ')[0].splitlines():
        label, *cells = re.sub(r'[*`]', '', line).strip('| ').split(' | ')
        if label not in found:
            continue
        for cell, (split, name) in zip(cells, [
            ('val', 'recall@20'), ('test', 'recall@20'), ('test', 'ndcg@20')
        ], strict=False):
            assert cell == printed_as([x[split][name]
                                       for x in found[label]]), label
        printed += 1
    assert printed == len(model_names())


def test_readme_prints_what_is_to_agree_with_others():
    text = ' '.join((ROOT / 'README.md').read_text().split())
    for label, metrics in metrics_of('known').items():
        recall, ndcg = [printed_as([x['test'][name] for x in metrics])
                        for name in ['recall@20', 'ndcg@20']]
        assert f'{recall} and {ndcg}' in text, label


def test_readme_compares_strict_with_itself():
    text = (ROOT / 'README.md').read_text()
    found = metrics_of('ablations')
    for words, label in [('random edges and scores', ) * 2,
                         ('Mult-DAE for denoisers', 'Mult-DAE as denoiser')]:
        means = printed_means(found[label])
        assert f'\n| above itself with {words} | {means} |' in text
    whole = printed_means(found['DiffMM strict']).replace(', ', ' and ')
    assert f'with which it has {whole}' in ' '.join(text.split())
    named = {label: values for values, label in re.findall(
        r'(\.\d{4}, \.\d{4}) \(([^)]+)\)', text) if label in found}
    assert len(named) == 8
    for label, values in named.items():
        assert values == printed_means(found[label]), label
