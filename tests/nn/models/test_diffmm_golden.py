from itertools import product

import pytest
import torch
from oracle import GOLDEN, MODALITIES, assert_golden

from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn import DiffMM, StackedAdj, contrastive_loss

NUM_USERS, NUM_ITEMS = 12, 9


def parameters(model):
    r"""The parameters under their golden names, transposed where needed."""
    out = {
        'uEmbeds': model.user_embedding.weight,
        'iEmbeds': model.item_embedding.weight,
        'modal_weight': model.fusion.logits,
    }
    for m, encoder in model.encoders.items():
        if encoder.projection == 'leaky_relu':
            out[f'{m}_trans'] = encoder.lin.weight.t()
        else:
            out[f'{m}_trans.weight'] = encoder.lin.weight
            out[f'{m}_trans.bias'] = encoder.lin.bias
    return out


def make_model(prefix, num_modalities, trans, num_layers):
    modalities = MODALITIES[:num_modalities]
    model = DiffMM(
        NUM_USERS, NUM_ITEMS,
        {m: GOLDEN[f'features_{m}'].size(1) for m in modalities},
        GraphDiffusion(NUM_ITEMS, modalities, hidden_channels=4),
        hidden_channels=8, num_layers=num_layers,
        projection=['leaky_relu', 'linear'][trans], reg_weight=1e-4,
        ssl_weight=1e-2, temperature=0.5)
    with torch.no_grad():
        for name, param in parameters(model).items():
            param.copy_(GOLDEN[prefix + name])
    return model


def make_adj(key, sparse):
    return StackedAdj.from_edge_index(GOLDEN[key], NUM_USERS, NUM_ITEMS,
                                        sparse=sparse)


def forward(model, sparse):
    return model(
        {m: GOLDEN[f'features_{m}'] for m in model.modalities},
        make_adj('interactions', sparse), {
            m: make_adj(f'generated_edges_{m}', sparse)
            for m in model.modalities
        })


@pytest.mark.parametrize('num_modalities,trans,num_layers',
                         list(product([2, 3], [0, 1], [1, 2])))
def test_outputs_and_losses(num_modalities, trans, num_layers, sparse):
    key = f'm{num_modalities}_trans{trans}_layers{num_layers}/'
    model = make_model(f'{key}param/', num_modalities, trans, num_layers)
    out = forward(model, sparse)

    assert_golden(out.user, f'{key}user')
    assert_golden(out.item, f'{key}item')
    assert list(out.views) == MODALITIES[:num_modalities]
    for m, (user, item) in out.views.items():
        assert_golden(user, f'{key}view_user_{m}')
        assert_golden(item, f'{key}view_item_{m}')

    users, pos, neg = GOLDEN['batch']
    model.reg_weight = 1.
    losses = model.loss(out, users, pos, neg, batch_size=1)
    assert_golden(losses['bpr'], f'{key}bpr_sum')
    assert_golden(losses['reg'], f'{key}reg')
    for tau, anchor in product([0.1, 0.5], ['main', 'modality']):
        loss = contrastive_loss((out.user, out.item), out.views, users, pos,
                                tau, anchor)
        assert_golden(loss, f'{key}cl_{anchor}_anchor_tau{tau}')


def test_two_training_steps(sparse):
    model = make_model('train/param0/', 2, trans=1, num_layers=1)
    params = parameters(model)
    assert len(params) == 7
    optimizer = torch.optim.Adam(params.values(), lr=1e-3)
    for step in [1, 2]:
        optimizer.zero_grad()
        out = model.loss(forward(model, sparse), *GOLDEN['batch'],
                         batch_size=6)
        assert_golden(out['loss'], f'train/loss{step}')
        out['loss'].backward()
        if step == 1:
            for name, param in params.items():
                assert_golden(param.grad, f'train/grad1/{name}')
        optimizer.step()
    for name, param in params.items():
        assert_golden(param, f'train/param2/{name}')
