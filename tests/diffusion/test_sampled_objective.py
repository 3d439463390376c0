from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_inputs import assert_losses, make_inputs
from oracle import (
    MODALITIES,
    assert_close,
    assert_grads_close,
    generator,
    precision,
    random_diffusion,
    random_rows,
    textbook_params,
    textbook_schedule,
)

from diffmm_pyg.diffusion import objective, sampled_objective
from diffmm_pyg.diffusion.sampled_items import SampledItems
from diffmm_pyg.diffusion.sampled_objective import (
    sampled_gaussian_objective,
    sampled_multinomial_objective,
)
from diffmm_pyg.testing import textbook
from diffmm_pyg.utils import SparseRows, keyed_generator

LIKELIHOODS = ['gaussian', 'multinomial']
EXACT = {
    'gaussian': objective.gaussian_objective,
    'multinomial': objective.multinomial_objective,
}
SAMPLED = {
    'gaussian': sampled_gaussian_objective,
    'multinomial': sampled_multinomial_objective,
}


def dense_loss(diffusion, x0, sample, features, item_emb, masks, draws):
    r"""The estimate, from dense rows: every entry has a weight, 0 where a zero
    is not in the sample.
    """
    denoiser, num_items = diffusion.denoiser, x0.size(1)
    schedule, t = textbook_schedule(diffusion.process), draws['timestep']
    inside = torch.zeros_like(x0)
    inside[:, sample] = 1
    noise = (num_items / sample.numel())**0.5 * inside * draws['noise']
    x_t = textbook.add_noise(x0, t, noise, schedule)
    keep = None
    if diffusion.training:
        keep = draws['mask'] / (1 - denoiser.dropout)

    zeros = (1 - x0) * inside
    factor = (1 - x0).sum(dim=1) / zeros.sum(dim=1).clamp(min=1)
    entry_weight = x0 + zeros * factor.view(-1, 1)
    elbo, msi = 0., 0.
    for m, modality in enumerate(diffusion.modalities):
        out = textbook.denoise(textbook_params(denoiser, m), x_t, t,
                               normalize=denoiser.normalize, dropout_mask=keep)
        if diffusion.likelihood == 'gaussian':
            error = (entry_weight * (x0 - out)**2).sum(dim=1) / num_items
        else:
            prob = entry_weight * out.exp()
            norm = prob.sum(dim=1, keepdim=True)
            error = -(x0 * (out - norm.log())).sum(dim=1)
            out = x0.sum(dim=1, keepdim=True) * prob / norm
        elbo = elbo + (schedule['loss_weight'][t] * error).mean()
        has = (masks or {}).get(modality, torch.ones(num_items))[:, None]
        predicted = out @ (features[modality] * has)
        msi_error = (predicted - x0 @ (item_emb * has)).square().mean(dim=1)
        msi = msi + diffusion.msi_weight * msi_error.mean()
    return elbo, msi


def check(likelihood, num_rows, num_items, num_sampled, num_modalities,
          normalize, training, with_masks, seed, **kwargs):
    diffusion = random_diffusion(
        num_items, num_modalities, seed, likelihood=likelihood,
        normalize=normalize, dropout=0.3, num_sampled_items=num_sampled,
        **kwargs).train(training)
    rows, x0 = random_rows(num_rows, num_items, seed)
    features, item_emb, masks, draws = make_inputs(diffusion, num_rows, seed,
                                                   with_masks)
    out = diffusion.loss(rows, features, item_emb, masks, (seed, ), **draws)
    items = SampledItems.draw(rows, num_sampled, keyed_generator(seed))
    elbo, msi = dense_loss(diffusion, x0, items.touched[:num_sampled],
                           features, item_emb, masks, draws)
    assert_losses(out, elbo, msi, diffusion)


@pytest.mark.parametrize('likelihood', LIKELIHOODS)
@given(
    num_rows=st.integers(1, 8),
    num_items=st.integers(1, 12),
    num_sampled=st.integers(1, 12),
    num_modalities=st.integers(1, 3),
    normalize=st.booleans(),
    training=st.booleans(),
    with_masks=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_loss_equals_dense(double, likelihood, num_items, num_sampled,
                           **kwargs):
    check(likelihood, num_items=num_items,
          num_sampled=min(num_sampled, num_items), **kwargs)


@pytest.mark.parametrize('likelihood', LIKELIHOODS)
def test_chunks_and_options(double, monkeypatch, likelihood):
    monkeypatch.setattr(sampled_objective, 'MAX_BLOCK_NUMEL', 30)
    for kwargs in [{}, {'msi_weight': 0.}, {'loss_weighting': 'uniform'}]:
        check(likelihood, 8, 12, 5, 2, normalize=True, training=True,
              with_masks=True, seed=0, **kwargs)


@pytest.mark.parametrize('likelihood', LIKELIHOODS)
@pytest.mark.parametrize('dtype', [torch.double, torch.float])
@pytest.mark.parametrize('normalize', [False, True])
def test_all_items_equal_exact(dtype, likelihood, normalize):
    with precision(dtype):
        rows, _ = random_rows(8, 30, seed=0)
        diffusion = random_diffusion(30, 2, 0, likelihood=likelihood,
                                     normalize=normalize, dropout=0.3)
        features, item_emb, masks, _ = make_inputs(diffusion, 8, 0, True)
        losses = []
        for num_sampled in [30, None]:
            diffusion.num_sampled_items = num_sampled
            # Timesteps, noise and dropout are those of the seed.
            losses.append(diffusion.loss(rows, features, item_emb, masks,
                                         seed=(3, 4)))
        for name in ['loss', 'elbo', 'msi']:
            assert_close(losses[0][name], losses[1][name], what=name)
        assert_grads_close(losses[0]['loss'], losses[1]['loss'],
                           diffusion.named_parameters())


def objective_inputs(num_rows, num_items, num_ones, seed, num_modalities=2):
    r"""Rows of at most :obj:`num_ones` ones, and what else both take."""
    g, M = generator(seed), num_modalities
    edge_index = torch.stack([
        torch.arange(num_rows).repeat_interleave(num_ones),
        torch.randint(num_items, (num_rows * num_ones, ), generator=g),
    ])
    edge_index = edge_index[:, num_ones:]  # The first row is empty.
    rows = SparseRows.from_edge_index(edge_index, num_rows, num_items)
    hidden = torch.randn(num_rows, M, 5, generator=g)
    return (random_diffusion(num_items, M, seed).denoiser, hidden, rows,
            list(torch.randn(M, num_items, 3, generator=g)),
            list(torch.randn(M, num_rows, 3, generator=g)),
            torch.rand(num_rows, generator=g), 0.5)


def all_samples(rows, num_sampled):
    return [
        SampledItems.from_sample(rows, torch.tensor(sample))
        for sample in combinations(range(rows.num_cols), num_sampled)
    ]


def test_gaussian_is_unbiased(double):
    args = objective_inputs(4, 7, num_ones=3, seed=0)
    denoiser, hidden, rows, *rest = args
    exact = EXACT['gaussian'](*args)
    estimates = [
        sampled_gaussian_objective(denoiser, hidden, items, *rest)
        for items in all_samples(rows, 4)
    ]
    elbo = torch.stack([x['elbo'] for x in estimates])
    assert_close(elbo.mean(), exact['elbo'])
    assert elbo.std() > 0.01 * elbo.mean()
    for x in estimates:  # It is linear in the prediction.
        assert_close(x['msi'], exact['msi'])
    loss = torch.stack([x['loss'] for x in estimates]).mean()
    assert_grads_close(loss, exact['loss'],
                       [(n, p) for n, p in denoiser.named_parameters()
                        if n in ['weight_out', 'bias_out']])


def test_multinomial_partition_is_unbiased(double):
    args = objective_inputs(2, 7, num_ones=1, seed=0, num_modalities=1)
    denoiser, hidden, rows, *rest = args
    rest[2:] = [torch.ones(1), 0.]
    rows, hidden = rows.narrow(1, 2), hidden[1:]  # A single one.
    score = denoiser.weight_out[rows.col, 0] @ hidden[0, 0] + \
        denoiser.bias_out[rows.col, 0]
    exact = EXACT['multinomial'](denoiser, hidden, rows, *rest)
    norms = torch.stack([
        (score + sampled_multinomial_objective(denoiser, hidden, items,
                                               *rest)['elbo']).exp()
        for items in all_samples(rows, 3)
    ])
    assert_close(norms.mean(), (score + exact['elbo']).exp().squeeze())
    assert norms.std() > 0.01 * norms.mean()


def test_multinomial_converges(double):
    args = objective_inputs(6, 400, num_ones=4, seed=0)
    denoiser, hidden, rows, *rest = args
    exact = EXACT['multinomial'](*args)
    errors = []
    for num_sampled in [10, 40, 160, 400]:
        estimates = [
            sampled_multinomial_objective(
                denoiser, hidden,
                SampledItems.draw(rows, num_sampled, generator(i)), *rest)
            for i in range(40)
        ]
        errors.append(torch.stack([
            torch.stack([(x[key] - exact[key]).square()
                         for x in estimates]).mean().sqrt()
            for key in ['elbo', 'msi']
        ]))
    assert (errors[1] < 0.8 * errors[0]).all()
    assert (errors[2] < 0.8 * errors[1]).all()
    assert (errors[3] < 1e-10).all()


@pytest.mark.parametrize('likelihood', LIKELIHOODS)
def test_large_logits(likelihood):
    diffusion = random_diffusion(20, 1, 0, likelihood=likelihood,
                                 num_sampled_items=3)
    rows, _ = random_rows(8, 20, seed=0)
    with torch.no_grad():
        diffusion.denoiser.bias_out.copy_(
            torch.linspace(-300, 300, 20).view(-1, 1))
    for seed in range(5):
        diffusion.zero_grad()
        loss = diffusion.loss(rows, {'image': torch.randn(20, 3)},
                              torch.randn(20, 3), seed=(seed, ))['loss']
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in diffusion.parameters())


@pytest.mark.parametrize('likelihood', LIKELIHOODS)
def test_draws_are_those_of_the_seed(likelihood):
    diffusion = random_diffusion(40, 2, 0, likelihood=likelihood,
                                 num_sampled_items=5).eval()
    rows, _ = random_rows(8, 40, seed=0)
    features = {m: torch.randn(40, 3) for m in MODALITIES[:2]}
    given = {'timestep': torch.zeros(8).long(), 'noise': torch.zeros(8, 40)}
    for kwargs in [{}, given]:  # Of the sample alone, too.
        losses = [
            diffusion.loss(rows, features, torch.ones(40, 3), seed=s,
                           **kwargs)['loss'].item()
            for s in [(1, 2), (1, 2), (1, 3)]
        ]
        assert losses[0] == losses[1] != losses[2]


def test_touched_rows():
    diffusion = random_diffusion(40, 2, 0, likelihood='multinomial',
                                 num_sampled_items=5)
    rows, _ = random_rows(2, 40, seed=0)
    features = {m: torch.randn(40, 3) for m in MODALITIES[:2]}
    timestep = torch.tensor([0, 1])
    diffusion.loss(rows, features, torch.ones(40, 3), seed=(1, ),
                   timestep=timestep)['loss'].backward()
    items = SampledItems.draw(rows, 5, keyed_generator(1))
    rest = torch.ones(40, dtype=torch.bool).index_fill(0, items.touched, False)
    assert rest.any()
    for weight in [diffusion.denoiser.weight_in, diffusion.denoiser.weight_out,
                   diffusion.denoiser.bias_out]:
        assert (weight.grad[rest] == 0).all()


@pytest.mark.parametrize('likelihood', LIKELIHOODS)
def test_bfloat16(likelihood):
    diffusion = random_diffusion(40, 2, 0, likelihood=likelihood,
                                 normalize=True, num_sampled_items=15)
    rows, _ = random_rows(16, 40, seed=0)
    features, item, _, draws = make_inputs(diffusion, 16, 0, False)
    grads, losses = [], []
    for enabled in [False, True]:
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses.append(diffusion.loss(rows, features, item,
                                         **draws)['loss'])
        diffusion.zero_grad()
        losses[-1].backward()
        grads.append({k: p.grad for k, p in diffusion.named_parameters()})
    assert losses[1].dtype == torch.float
    assert_close(losses[1], losses[0], tolerance=0.02)
    for name, grad in grads[1].items():
        assert_close(grad, grads[0][name], tolerance=0.05, what=name)
