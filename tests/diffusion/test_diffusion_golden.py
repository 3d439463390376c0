import pytest
import torch
from oracle import GOLDEN, assert_golden

from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.diffusion.reverse import HiddenReverse
from diffmm_pyg.utils import SparseRows

NUM_USERS, NUM_ITEMS = 12, 9
# The parameters of the denoiser, and what turns them into the golden layout:
LAYOUT = {
    'emb_layer.weight': lambda d: d.weight_code[0].t(),
    'emb_layer.bias': lambda d: d.bias_code[0],
    'in_layers.0.weight':
    lambda d: torch.cat([d.weight_in[:, 0], d.weight_time[0]]).t(),
    'in_layers.0.bias': lambda d: d.bias_in[0],
    'out_layers.0.weight': lambda d: d.weight_out[:, 0],
    'out_layers.0.bias': lambda d: d.bias_out[:, 0],
}


class Grads:
    r"""The gradients of a module under the names of its parameters."""
    def __init__(self, module):
        for name, param in module.named_parameters():
            setattr(self, name, param.grad)


@pytest.fixture
def rows():
    return SparseRows.from_edge_index(GOLDEN['interactions'], NUM_USERS,
                                      NUM_ITEMS)


@pytest.fixture
def diffusion():
    out = GraphDiffusion(NUM_ITEMS, ['x'], hidden_channels=16, dropout=0.,
                         first_beta=1e-4, msi_weight=0.1)
    param = {k: GOLDEN[f'diffusion/param/{k}'] for k in LAYOUT}
    denoiser = out.denoiser
    first = param['in_layers.0.weight'].t()
    with torch.no_grad():
        denoiser.weight_code[0] = param['emb_layer.weight'].t()
        denoiser.bias_code[0] = param['emb_layer.bias']
        denoiser.weight_in[:, 0] = first[:NUM_ITEMS]
        denoiser.weight_time[0] = first[NUM_ITEMS:]
        denoiser.bias_in[0] = param['in_layers.0.bias']
        denoiser.weight_out[:, 0] = param['out_layers.0.weight']
        denoiser.bias_out[:, 0] = param['out_layers.0.bias']
    return out


def loss(diffusion, rows, index=slice(None)):
    return diffusion.loss(
        rows, {'x': GOLDEN['diffusion/modality_item_features']},
        GOLDEN['diffusion/item_embeddings'],
        timestep=GOLDEN['diffusion/t'][index],
        noise=GOLDEN['diffusion/noise'][index])


@pytest.mark.parametrize('name', [
    'betas', 'alphas_cumprod', 'posterior_mean_coef1', 'posterior_mean_coef2',
    'posterior_variance'
])
def test_schedule(diffusion, name):
    assert_golden(getattr(diffusion.process, name), f'diffusion/{name}')


def test_schedule_log_variance(diffusion):
    # That of t = 0 is zero; the released code takes its neighbor's.
    variance = diffusion.process.posterior_variance
    assert variance[0] == 0
    assert_golden(variance[[1, 1, 2, 3, 4]].log(),
                  'diffusion/posterior_log_variance_clipped')


def test_prediction(diffusion, rows):
    t = GOLDEN['diffusion/t']
    x_t = diffusion.process.add_noise(rows.to_dense(),
                                      GOLDEN['diffusion/noise'], t)
    assert_golden(x_t, 'diffusion/x_t')
    assert_golden(diffusion.denoiser(x_t, t)[:, 0], 'diffusion/x0_prediction')


def test_loss_per_user(diffusion, rows):
    diffusion.msi_weight = 1.0
    out = [
        loss(diffusion, rows.narrow(u, u + 1), slice(u, u + 1))
        for u in range(NUM_USERS)
    ]
    assert_golden(torch.stack([x['elbo'] for x in out]),
                  'diffusion/elbo_per_user')
    assert_golden(torch.stack([x['msi'] for x in out]),
                  'diffusion/msi_per_user')


@pytest.mark.parametrize('key,noise_step', [('sample_from_clean', None),
                                            ('sample_from_step3', 2)])
def test_samples(diffusion, rows, key, noise_step):
    denoiser = diffusion.denoiser
    hidden = HiddenReverse(denoiser, diffusion.process)(
        rows, noise_step, GOLDEN['diffusion/noise'])
    out = hidden[:, 0] @ denoiser.weight_out[:, 0].t() + \
        denoiser.bias_out[:, 0]
    assert_golden(out, f'diffusion/{key}')


def test_two_training_steps(diffusion, rows):
    denoiser = diffusion.denoiser
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-3)
    for step in [1, 2]:
        optimizer.zero_grad()
        out = loss(diffusion, rows)
        assert_golden(out['loss'], f'diffusion/train/loss{step}')
        out['loss'].backward()
        if step == 1:
            for name, layout in LAYOUT.items():
                assert_golden(layout(Grads(denoiser)),
                              f'diffusion/train/grad1/{name}')
        optimizer.step()
    for name, layout in LAYOUT.items():
        assert_golden(layout(denoiser), f'diffusion/train/param2/{name}')
