import inspect

import pytest

from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.presets import load_preset, presets
from diffmm_pyg.training import fit


def test_presets():
    assert presets() == ['reference', 'strict']
    with pytest.raises(ConfigError, match="no preset 'best'; choose one of "
                       "reference, strict"):
        load_preset('best')


@pytest.mark.parametrize('name', presets())
@pytest.mark.parametrize('data', [None, 'tiktok', 'baby', 'sports', 'mine'])
def test_presets_build_models(name, data):
    config = load_preset(name, data)
    assert list(config) == ['model', 'diffusion', 'training']
    # Names that are none, and values that are refused, fail here:
    inspect.signature(fit).bind(None, None, **config['training'])
    config['diffusion']['hidden_channels'] = 4
    diffusion = GraphDiffusion(5, ['image'], **config['diffusion'])
    DiffMM(4, 5, {'image': 2}, diffusion, **config['model'])


# The commands of the authors: regularization, contrastive weight,
# temperature, keep probability, MSI weight, residual weight, projection,
# what is contrasted
AUTHORS = {
    'tiktok': (1e-4, 1e-2, 0.5, 0.5, 0.1, 0.5, 'linear', 'main'),
    'baby': (1e-5, 1e-1, 0.5, 1., 0.01, 0.5, 'leaky_relu', 'modality'),
    'sports': (1e-6, 1e-2, 0.1, 1., 0.5, 0.1, 'linear', 'modality'),
}


@pytest.mark.parametrize('data', AUTHORS)
def test_reference_is_what_the_authors_ran(data):
    config = load_preset('reference', data)
    model, diffusion = config['model'], config['diffusion']
    assert AUTHORS[data] == (
        model['reg_weight'], model['ssl_weight'], model['temperature'],
        1 - model['edge_dropout'], diffusion['msi_weight'],
        model['residual_weight'], model['projection'], model['anchor'])
    assert config['training'] == {'epochs': 50, 'batch_size': 1024,
                                  'lr': 1e-3}
    assert model.items() >= {
        'hidden_channels': 64, 'num_layers': 1, 'adj_weight': 0.2, 'k': 1,
        'candidates': 'all', 'weighting': 'binary', 'dropout_at_test': True,
        'normalize_msi': False
    }.items()
    assert diffusion.items() >= {
        'hidden_channels': 1000, 'time_channels': 10, 'dropout': 0.5,
        'normalize': False, 'likelihood': 'gaussian', 'num_steps': 5,
        'noise_scale': 0.1, 'noise_min': 1e-4, 'noise_max': 0.02,
        'first_beta': 1e-4, 'loss_weighting': 'snr'
    }.items()


@pytest.mark.parametrize('data', [None, *AUTHORS])
def test_strict_is_not_random_at_test_time(data):
    model = load_preset('strict', data)['model']
    assert model['dropout_at_test'] is False
    assert model['weighting'] == 'score'


def test_other_data_gets_the_values_of_none():
    for name in presets():
        assert load_preset(name, 'mine') == load_preset(name)


def test_presets_are_not_shared():
    config = load_preset('strict')
    config['model']['hidden_channels'] = -1
    assert load_preset('strict')['model']['hidden_channels'] > 0
