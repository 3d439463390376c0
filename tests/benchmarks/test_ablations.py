import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / 'benchmarks'), str(ROOT / 'tests')]

from _models import CLASSES, build, load_description, resolve  # noqa: E402
from _plan import FOLDER, read_plan  # noqa: E402
from oracle import assert_close, random_rows  # noqa: E402
from small import small_data, small_fit  # noqa: E402

from diffmm_pyg.diffusion import GraphDiffusion  # noqa: E402


def plan_of(name):
    return read_plan(FOLDER / f'{name}.json', seeds=1)


def flat(config, prefix=''):
    out = {}
    for key, value in config.items():
        out.update(flat(value, f'{prefix}{key}.') if isinstance(value, dict)
                   else {f'{prefix}{key}': value})
    return out


@pytest.mark.parametrize('name, base', [('ablations', 'strict'),
                                        ('released', 'reference')])
def test_variants_differ_in_nothing_but_what_is_set(name, base):
    plan = plan_of(name)
    whole = flat(resolve(load_description(base), 'tiktok'))
    assert plan.entries[0].description == load_description(base)
    assert plan.compare_with == [plan.entries[0].label]
    changes = {}
    for entry, cell in zip(plan.entries, plan.cells, strict=True):
        if entry.base != base:
            continue
        config = flat(cell.config)
        assert config.keys() == whole.keys()
        changes[entry.label] = {k: v for k, v in config.items()
                                if v != whole[k]}
        assert ('published' in entry.description) == (
            entry is plan.entries[0])
    noise = {'diffusion.corruption', 'diffusion.dropout'}
    for label, change in changes.items():
        assert len(change) <= 2 or noise < change.keys() <= {
            *noise, 'diffusion.num_steps', 'diffusion.noise_scale'}, label
    assert changes['random edges' + ' and scores' * (name == 'ablations')] == {
        'class': 'WithRandomEdges'}
    if name == 'ablations':
        assert changes['no MSI'] == {'diffusion.msi_weight': 0.}
        assert changes['audio alone'] == {'modalities': ['audio']}
        assert changes['no diffusion'].items() >= {
            'class': 'WithoutEdges'}.items()


def test_drift_is_all_that_the_other_fusion_has_more():
    fusion, other = [cell.config for cell in plan_of('ablations').cells
                     if cell.config['class'] == 'LateFusion']
    *models, drift = other['models']
    assert models == fusion['models'] and drift['class'] == 'Drift'
    assert other['model']['weights'][:3] == fusion['model']['weights']
    assert other['training'] == fusion['training']


@pytest.mark.parametrize('entry', [
    x for x in plan_of('ablations').entries[1:] if x.base == 'strict'
], ids=lambda entry: entry.label)
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
    losses = [diffusion.eval().loss(rows, *feat, seed=(seed, ))['elbo']
              for seed in range(3)]
    # That of Mult-DAE, whatever the seed is:
    x = torch.nn.functional.normalize(dense)
    logits = diffusion.denoiser(x, torch.zeros(9).long())[:, 0]
    expected = -(dense * logits.log_softmax(dim=1)).sum() / 9
    for loss in losses:
        assert_close(loss, expected, tolerance=1e-4)
