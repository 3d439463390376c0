import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

from _models import load_description, resolve  # noqa: E402
from _spaces import space_names  # noqa: E402

RESULTS = ROOT / 'benchmarks' / 'results'


def read_lines(name):
    lines = (RESULTS / name).read_text().splitlines()
    return [json.loads(line) for line in lines]


def flat(config, prefix=''):
    items = enumerate(config) if isinstance(config, list) else config.items()
    out = {}
    for key, value in items:
        out.update(flat(value, f'{prefix}{key}.')
                   if isinstance(value, (dict, list)) else
                   {f'{prefix}{key}': value})
    return out


@pytest.mark.parametrize('name', space_names())
def test_models_are_as_the_best_trial_was(name):
    trials = [row for row in read_lines('tiktok-tuning.jsonl')
              if row['model'] == name and 'error' not in row]
    description = load_description(name)
    tuned = description['tuned']['tiktok']
    best = max(trials, key=lambda row: row['value'])
    assert tuned['value'] == round(best['value'], 4)
    config = flat(resolve(description, 'tiktok'))
    then = flat(best['config'])
    # Of noise, which `strict` has none of any more:
    differs = {key for key in then if then[key] != config[key]}
    assert differs <= {'diffusion.loss_weighting'} if name == 'strict' \
        else not differs
