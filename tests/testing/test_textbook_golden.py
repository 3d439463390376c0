from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from diffmm_pyg.testing import textbook

PATH = Path(__file__).parents[1] / 'golden' / 'diffmm_reference.npz'
GOLDEN = {k: torch.from_numpy(v) for k, v in np.load(PATH).items()}
NUM_USERS, NUM_ITEMS = 12, 9
MODALITIES = ['image', 'text', 'audio']
LAYOUTS = [torch.strided, torch.sparse_coo, torch.sparse_csr]
DENOISER_NAMES = {
    'emb_layer.weight': 'time.weight',
    'emb_layer.bias': 'time.bias',
    'in_layers.0.bias': 'in.bias',
    'out_layers.0.weight': 'out.weight',
    'out_layers.0.bias': 'out.bias',
}


def assert_golden(actual, key):
    expected = GOLDEN[key].double()
    error = (actual.detach().double() - expected).abs().max()
    assert actual.shape == expected.shape
    assert error <= 1e-5 * expected.abs().max(), (key, float(error))


def part(prefix):
    return {
        k.removeprefix(prefix): v
        for k, v in GOLDEN.items() if k.startswith(prefix)
    }


def forward(param, modalities, num_layers, layout=torch.strided,
            dtype=torch.float):
    features = {}
    for m in modalities:
        weight = param.get(f'{m}_trans.weight')
        if weight is None:
            weight = param[f'{m}_trans'].t()
        features[m] = textbook.project(GOLDEN[f'features_{m}'].to(dtype),
                                       weight, param.get(f'{m}_trans.bias'))
    adj, *generated = [
        textbook.normalized_adjacency(GOLDEN[key], NUM_USERS, NUM_ITEMS,
                                      dtype=dtype, layout=layout) for key in
        ['interactions', *(f'generated_edges_{m}' for m in modalities)]
    ]
    return textbook.diffmm_embeddings(
        adj, dict(zip(modalities, generated)), param['uEmbeds'],
        param['iEmbeds'], features, param['modal_weight'],
        num_layers=num_layers, adj_weight=0.2, residual_weight=0.5)


@pytest.mark.parametrize('dtype', [torch.float, torch.double])
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('num_modalities,trans,num_layers',
                         list(product([2, 3], [0, 1], [1, 2])))
def test_recommender(num_modalities, trans, num_layers, layout, dtype):
    key = f'm{num_modalities}_trans{trans}_layers{num_layers}/'
    param = {k: v.to(dtype) for k, v in part(key + 'param/').items()}
    modalities = MODALITIES[:num_modalities]
    user, item, views = forward(param, modalities, num_layers, layout, dtype)

    assert user.dtype == item.dtype == dtype
    assert_golden(user, key + 'user')
    assert_golden(item, key + 'item')
    assert list(views) == modalities
    for m in modalities:
        assert_golden(views[m][0], f'{key}view_user_{m}')
        assert_golden(views[m][1], f'{key}view_item_{m}')

    users, pos, neg = GOLDEN['batch']
    bpr = textbook.bpr_loss(user, item, users, pos, neg, batch_size=1)
    assert_golden(bpr, key + 'bpr_sum')
    reg = textbook.l2_loss(param['uEmbeds'], param['iEmbeds'])
    assert_golden(reg, key + 'reg')
    for tau, anchor in product([0.1, 0.5], ['main', 'modality']):
        loss = textbook.contrastive_loss(user, item, views, users, pos, tau,
                                         anchor)
        assert_golden(loss, f'{key}cl_{anchor}_anchor_tau{tau}')


def leaves(prefix):
    return {k: v.clone().requires_grad_() for k, v in part(prefix).items()}


def two_adam_steps(param, loss_fn, prefix):
    optimizer = torch.optim.Adam(param.values(), lr=1e-3)
    for step in [1, 2]:
        optimizer.zero_grad()
        loss = loss_fn(param)
        assert_golden(loss, f'{prefix}loss{step}')
        loss.backward()
        if step == 1:
            grad = {k: v.grad.clone() for k, v in param.items()}
        optimizer.step()
    return grad


@pytest.mark.parametrize('layout', LAYOUTS)
def test_recommender_training(layout):
    param = leaves('train/param0/')
    users, pos, neg = GOLDEN['batch']

    def loss_fn(param):
        user, item, views = forward(param, ['image', 'text'], 1, layout)
        return (textbook.bpr_loss(user, item, users, pos, neg, 6) +
                1e-4 * textbook.l2_loss(param['uEmbeds'], param['iEmbeds']) +
                1e-2 * textbook.contrastive_loss(user, item, views, users, pos,
                                                 temperature=0.5))

    grad = two_adam_steps(param, loss_fn, 'train/')
    assert len(param) == 7
    for k in param:
        assert_golden(grad[k], f'train/grad1/{k}')
        assert_golden(param[k], f'train/param2/{k}')


def denoiser_params(param):
    weight = param['in_layers.0.weight']
    out = {new: param[old] for old, new in DENOISER_NAMES.items()}
    out['in.weight'] = weight[:, :NUM_ITEMS]
    out['in.time_weight'] = weight[:, NUM_ITEMS:]
    return out


def schedule():
    return textbook.noise_schedule(
        textbook.linear_variance_betas(5, 0.1, 1e-4, 0.02, first_beta=1e-4))


def rows(dtype=torch.float):
    x0 = torch.zeros(NUM_USERS, NUM_ITEMS, dtype=dtype)
    x0[tuple(GOLDEN['interactions'])] = 1
    return x0


def test_schedule():
    out = schedule()
    for k in part('diffusion/'):
        if k in ('betas', 'alphas_cumprod') or k.startswith('posterior'):
            torch.testing.assert_close(out[k], GOLDEN[f'diffusion/{k}'],
                                       rtol=1e-12, atol=0)


@pytest.mark.parametrize('dtype', [torch.float, torch.double])
def test_denoiser(dtype):
    golden = part('diffusion/')
    golden = {
        k: v.to(dtype) if v.is_floating_point() else v
        for k, v in golden.items()
    }
    param = denoiser_params(
        {k.removeprefix('param/'): v
         for k, v in golden.items()})
    x0, t, noise = rows(dtype), golden['t'], golden['noise']

    x_t = textbook.add_noise(x0, t, noise, schedule())
    assert_golden(x_t, 'diffusion/x_t')
    out = textbook.denoise(param, x_t, t)
    assert out.dtype == dtype
    assert_golden(out, 'diffusion/x0_prediction')

    error, msi = textbook.denoiser_loss(param, x0, t, noise, schedule(),
                                        golden['modality_item_features'],
                                        golden['item_embeddings'])
    assert_golden(error, 'diffusion/elbo_per_user')
    assert_golden(msi, 'diffusion/msi_per_user')

    out = textbook.sample(param, x0, schedule())
    assert_golden(out, 'diffusion/sample_from_clean')
    out = textbook.sample(param, x0, schedule(), noised_steps=3, noise=noise)
    assert_golden(out, 'diffusion/sample_from_step3')


def test_denoiser_training():
    param = leaves('diffusion/param/')

    def loss_fn(param):
        error, msi = textbook.denoiser_loss(
            denoiser_params(param), rows(), GOLDEN['diffusion/t'],
            GOLDEN['diffusion/noise'], schedule(),
            GOLDEN['diffusion/modality_item_features'],
            GOLDEN['diffusion/item_embeddings'])
        return error.mean() + 0.1 * msi.mean()

    grad = two_adam_steps(param, loss_fn, 'diffusion/train/')
    assert len(param) == 6
    for k in param:
        assert_golden(grad[k], f'diffusion/train/grad1/{k}')
        assert_golden(param[k], f'diffusion/train/param2/{k}')
