import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / 'benchmarks'), str(ROOT / 'tests')]

from _models import CLASSES, build, load_description, resolve  # noqa: E402
from _plan import FOLDER, read_plan  # noqa: E402
from oracle import assert_close, generator, random_rows  # noqa: E402
from small import small_data, small_fit  # noqa: E402

from diffmm_pyg.diffusion import GraphDiffusion  # noqa: E402

NO_DRIFT = {'model.drift_weight': 0.}
WITHOUT_EDGES = {'class': 'WithoutEdges', 'model.denoiser_weight': 0.}
NOISE = {'diffusion.corruption': 'noise', 'diffusion.dropout': 0.5}
MULT_DAE = {**NOISE, 'diffusion.num_steps': 1, 'diffusion.noise_scale': 1e-6,
            'diffusion.msi_weight': 0.}
EDGES_ONLY = {'model.denoiser_weight': 0., 'model.drift_weight': 0.1}
CHANGES = {
    'ablations': {
        'no diffusion': {**WITHOUT_EDGES, 'model.drift_weight': 0.1},
        'no diffusion, drift of 0.5': WITHOUT_EDGES,
        'random edges and scores': {'class': 'WithRandomEdges'},
        'random edges only': {'class': 'WithRandomEdges', **EDGES_ONLY},
        'edges only': EDGES_ONLY,
        'scores only': {'class': 'WithoutEdges'},
        'no embeddings in the ranking': {'class': 'WithoutEmbeddings'},
        'denoisers alone': {'class': 'WithoutEmbeddings', **NO_DRIFT},
        'no drift': NO_DRIFT,
        'Mult-DAE as denoiser': MULT_DAE,
        'Mult-DAE as denoiser, no drift': {**MULT_DAE, **NO_DRIFT},
        'Mult-DAE as tuned as denoiser': {
            **MULT_DAE, 'diffusion.dropout': 0.4011, 'training.lr': 0.003516,
            'training.epochs': 50, 'training.patience': 10},
        'noise instead of a mask': NOISE,
        'dropout of 0.5': {'diffusion.dropout': 0.5},
        'no MSI': {'diffusion.msi_weight': 0.},
        'no contrastive loss': {'model.ssl_weight': 0.},
        'image alone': {'modalities': ['image']},
        'audio alone': {'modalities': ['audio']},
        'binary weights': {'model.weighting': 'binary'},
        'denoised weights': {},
        'k = 1': {'model.k': 1},
        'k = 5': {},
        'k = 20': {'model.k': 20},
        'anchor: main': {},
        'anchor: modality': {'model.anchor': 'modality'},
        'observed items allowed': {'model.candidates': 'all'},
        'observed items masked': {},
    },
    'released': {
        'uniformly random edges': {'class': 'WithUniformEdges'},
        'random edges': {'class': 'WithRandomEdges'},
        'edges of EASE': {'class': 'WithEASEEdges'},
        'no generated edges': {'class': 'WithoutEdges'},
    },
    'random_split': {
        'DiffMM strict, no drift': NO_DRIFT,
        'Mult-DAE as denoiser, no drift': {**MULT_DAE, **NO_DRIFT},
        'edges only, no drift': {**EDGES_ONLY, **NO_DRIFT},
        'no diffusion, no drift': {**WITHOUT_EDGES, **NO_DRIFT},
    },
}


def plan_of(name):
    return read_plan(FOLDER / f'{name}.json', seeds=1)


def flat(config, prefix=''):
    out = {}
    for key, value in config.items():
        out.update(flat(value, f'{prefix}{key}.') if isinstance(value, dict)
                   else {f'{prefix}{key}': value})
    return out


@pytest.mark.parametrize('name, base, yardstick', [
    ('ablations', 'strict', 'DiffMM strict'),
    ('released', 'reference', 'DiffMM reference'),
    ('random_split', 'strict', 'DiffMM strict, no drift'),
])
def test_variants_differ_in_nothing_but_what_is_set(name, base, yardstick):
    plan = plan_of(name)
    whole = flat(resolve(load_description(base), 'tiktok'))
    assert plan.entries[0].description == load_description(base)
    assert plan.compare_with[0] == yardstick
    changes = {}
    for entry, cell in zip(plan.entries, plan.cells, strict=True):
        if entry.base != base:
            continue
        config = flat(cell.config)
        assert config.keys() == whole.keys()
        changes[entry.label] = {k: v for k, v in config.items()
                                if v != whole[k]}
        assert ('published' in entry.description) == (
            entry.label == 'DiffMM reference')
    del changes[plan.entries[0].label]
    assert changes == CHANGES[name]


def test_fusions_with_drift_add_nothing_else():
    parts = {cell.label: [x['class'] for x in cell.config['models']]
             for cell in plan_of('ablations').cells
             if cell.config['class'] == 'LateFusion'}
    assert parts == {
        'Late fusion': ['LightGCN', 'EASE', 'MultDAE'],
        'Late fusion with drift': ['LightGCN', 'EASE', 'MultDAE', 'Drift'],
        'Mult-DAE with drift': ['MultDAE', 'Drift']}


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


@pytest.mark.parametrize('label, dropout', [
    ('Mult-DAE as denoiser', 0.5), ('Mult-DAE as tuned as denoiser', 0.4011)])
def test_mult_dae_has_neither_noise_nor_timesteps(label, dropout):
    entry, = [x for x in plan_of('ablations').entries if x.label == label]
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
    x = torch.nn.functional.normalize(dense) * mask / (1 - dropout)
    diffusion.eval().denoiser.normalize = False
    logits = diffusion.denoiser(x, torch.zeros(9).long())[:, 0]
    expected = -(dense * logits.log_softmax(dim=1)).sum() / 9
    for loss in losses:
        assert_close(loss, expected, tolerance=1e-4)
