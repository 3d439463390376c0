import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / 'benchmarks'), str(ROOT / 'tests')]

from flat_config import flat  # noqa: E402
from oracle import assert_close, generator, random_rows  # noqa: E402
from small import small_data, small_fit  # noqa: E402

from _experiments.models import CLASSES, build, load_description, resolve  # noqa: E402
from _experiments.plan import FOLDER, read_plan  # noqa: E402
from diffmm_pyg.diffusion import GraphDiffusion  # noqa: E402

# Variants that are named for completeness, as the preset is like that:
SAME = ['denoised weights', 'k = 5', 'anchor: main', 'observed items masked']


def plan_of(name):
    return read_plan(FOLDER / f'{name}.json', seeds=1)


@pytest.mark.parametrize('name, base, yardstick', [
    ('ablations', 'strict', 'DiffMM strict'),
    ('variants', 'strict', 'DiffMM strict'),
    ('released', 'reference', 'DiffMM reference'),
    ('random_split', 'strict', 'DiffMM strict, no drift'),
])
def test_variants_differ_in_nothing_but_what_is_set(name, base, yardstick):
    plan = plan_of(name)
    whole = resolve(load_description(base), 'tiktok')
    assert plan.compare_with[0] == yardstick
    items = {x['label']: x['set'] for x in json.loads(
        (FOLDER / f'{name}.json').read_text())['models'] if 'set' in x}
    cells = {cell.label: cell.config for cell in plan.cells}
    first = plan.entries[0].label
    assert first in items or cells[first] == whole
    same = []
    for entry in plan.entries:
        if entry.label not in items:
            continue
        assert entry.base == base and 'published' not in entry.description
        expected = flat(whole)
        for key, value in items[entry.label].items():
            assert key in expected
            expected[key] = value
        assert flat(cells[entry.label]) == expected
        if cells[entry.label] == whole:
            same.append(entry.label)
    assert same == [label for label in SAME if label in items]


def test_fusions_with_drift_add_nothing_else():
    parts = {cell.label: [x['class'] for x in cell.config['models']]
             for cell in plan_of('ablations').cells
             if cell.config['class'] == 'LateFusion'}
    assert parts == {
        'Late fusion': ['LightGCN', 'EASE', 'MultDAE'],
        'Late fusion with drift': ['LightGCN', 'EASE', 'MultDAE', 'Drift'],
        'Mult-DAE with drift': ['MultDAE', 'Drift']}


@pytest.mark.parametrize('entry', {
    x.label: x for name in ['ablations', 'variants']
    for x in plan_of(name).entries[1:] if x.base == 'strict'
}.values(), ids=lambda entry: entry.label)
def test_every_variant_trains(entry):
    description = entry.description
    config = resolve(description, 'tiktok')
    config['diffusion']['hidden_channels'] = 8
    config['model']['k'] = min(config['model']['k'], 10)  # Of 40 items
    data = small_data({m: 4 for m in description.get('modalities') or
                       ['image', 'audio']})
    torch.manual_seed(0)
    model = build(config, data[0])
    assert type(model) is CLASSES[description['class']]
    run = small_fit(data, model, epochs=1)
    k = 0 if description['class'] == 'WithoutEdges' else config['model']['k']
    for m in model.modalities:
        graph = run.graphs[f'denoised_{m}.edge_index']
        assert graph.size(1) <= 60 * k and (graph.size(1) > 0) == (k > 0)


def test_mult_dae_has_neither_noise_nor_timesteps():
    entry, = [x for x in plan_of('ablations').entries
              if x.label == 'Mult-DAE as denoiser']
    config = resolve(entry.description, 'tiktok')['diffusion']
    diffusion = GraphDiffusion(12, ['image'], **{**config,
                                                 'hidden_channels': 5})
    assert diffusion.process.num_steps == 1
    rows, dense = random_rows(9, 12, seed=0)
    feat = {'image': torch.randn(12, 3)}, torch.randn(12, 3)
    mask = (torch.rand(9, 12, generator=generator(0)) < 0.6).float()
    losses = [diffusion.train().loss(rows, *feat, seed=(seed, ),
                                     mask=mask)['loss'] for seed in range(3)]
    # That of Mult-DAE, whatever the seed is:
    assert config['dropout'] == 0.5
    x = torch.nn.functional.normalize(dense) * mask / 0.5
    diffusion.eval().denoiser.normalize = False
    logits = diffusion.denoiser(x, torch.zeros(9).long())[:, 0]
    expected = -(dense * logits.log_softmax(dim=1)).sum() / 9
    for loss in losses:
        assert_close(loss, expected, tolerance=1e-4)
