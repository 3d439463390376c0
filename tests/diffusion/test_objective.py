import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from loss_inputs import make_inputs
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

from diffmm_pyg.diffusion import noisy_rows, objective
from diffmm_pyg.testing import textbook


def textbook_loss(diffusion, x0, features, item_emb, masks, draws):
    denoiser = diffusion.denoiser
    keep = None
    if diffusion.training:
        keep = draws['mask'] / (1 - denoiser.dropout)
    elbo, msi = 0., 0.
    for m, modality in enumerate(diffusion.modalities):
        terms = textbook.denoiser_loss(
            textbook_params(denoiser, m), x0, draws['timestep'],
            draws['noise'], textbook_schedule(diffusion.process),
            features[modality], item_emb, likelihood=diffusion.likelihood,
            normalize=denoiser.normalize, dropout_mask=keep,
            has=(masks or {}).get(modality))
        elbo = elbo + terms[0].mean()
        msi = msi + diffusion.msi_weight * terms[1].mean()
    return elbo, msi


def check(dtype, likelihood, num_rows, num_items, num_modalities, num_steps,
          normalize, training, with_masks, seed, **kwargs):
    with precision(dtype):
        diffusion = random_diffusion(
            num_items, num_modalities, seed, likelihood=likelihood,
            num_steps=num_steps, normalize=normalize, dropout=0.3,
            **kwargs).train(training)
        rows, x0 = random_rows(num_rows, num_items, seed)
        features, item_emb, masks, draws = make_inputs(diffusion, num_rows,
                                                       seed, with_masks)
        out = diffusion.loss(rows, features, item_emb, masks, **draws)
        elbo, msi = textbook_loss(diffusion, x0, features, item_emb, masks,
                                  draws)
        # A prediction that hits its row leaves the rounding of their norms.
        assert_close(out['elbo'], elbo, floor=1.)
        assert_close(out['msi'], msi)
        assert_close(out['loss'], elbo + msi, floor=1.)
        assert not out['elbo'].requires_grad and not out['msi'].requires_grad
        assert_grads_close(out['loss'], elbo + msi,
                           diffusion.named_parameters())


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
@pytest.mark.parametrize('dtype', [torch.double, torch.float])
@given(
    num_rows=st.integers(1, 8),
    num_items=st.integers(1, 12),
    num_modalities=st.integers(1, 3),
    num_steps=st.sampled_from([1, 2, 5]),
    normalize=st.booleans(),
    training=st.booleans(),
    with_masks=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_loss_equals_textbook(dtype, likelihood, **kwargs):
    # The one item has all probability, and gradients are what rounding leaves:
    assume(likelihood == 'gaussian' or dtype == torch.double
           or kwargs['num_items'] > 1)
    check(dtype, likelihood, **kwargs)


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
@pytest.mark.parametrize('kwargs', [
    {'msi_weight': 0.},
    {'loss_weighting': 'uniform'},
    {'first_beta': 1e-4},
], ids=str)
def test_options_equal_textbook(likelihood, kwargs):
    check(torch.double, likelihood, 5, 7, 2, 4, normalize=False,
          training=True, with_masks=True, seed=0, **kwargs)


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
@pytest.mark.parametrize('normalize', [False, True])
def test_blocks_that_do_not_divide(monkeypatch, likelihood, normalize):
    monkeypatch.setattr(noisy_rows, 'MAX_BLOCK_NUMEL', 5 * 3)
    monkeypatch.setattr(objective, 'MAX_BLOCK_NUMEL', 7 * 2)
    check(torch.double, likelihood, 5, 7, 3, 4, normalize=normalize,
          training=True, with_masks=True, seed=1)


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
def test_rows_without_history(double, likelihood):
    diffusion = random_diffusion(6, 2, seed=0, likelihood=likelihood,
                                 normalize=True)
    rows, _ = random_rows(3, 6, seed=0)
    rows = rows._replace(rowptr=torch.zeros(4, dtype=torch.long),
                         col=rows.col[:0])
    features = {m: torch.randn(6, 3) for m in MODALITIES[:2]}
    out = diffusion.loss(rows, features, torch.randn(6, 3))
    out['loss'].backward()
    assert all(p.grad.isfinite().all() for p in diffusion.parameters())
    if likelihood == 'multinomial':
        assert out['loss'] == 0


def test_features_and_embeddings_are_constants():
    diffusion = random_diffusion(6, 1, seed=0)
    rows, _ = random_rows(3, 6, seed=0)
    feature = torch.randn(6, 3, requires_grad=True)
    item = torch.randn(6, 3, requires_grad=True)
    diffusion.loss(rows, {'image': feature}, item)['loss'].backward()
    assert feature.grad is None and item.grad is None


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
@pytest.mark.parametrize('normalize', [False, True])
def test_draws_are_those_of_the_seed(likelihood, normalize):
    diffusion = random_diffusion(9, 2, seed=0, likelihood=likelihood,
                                 normalize=normalize)
    rows, _ = random_rows(8, 9, seed=0)
    features = {m: torch.randn(9, 3) for m in MODALITIES[:2]}
    losses = [
        diffusion.loss(rows, features, torch.ones(9, 3), seed=s)['loss'].item()
        for s in [(1, 2), (1, 2), (1, 3)]
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('feature_dtype', [torch.float, torch.bfloat16])
def test_bfloat16(likelihood, normalize, feature_dtype):
    diffusion = random_diffusion(20, 2, seed=0, likelihood=likelihood,
                                 normalize=normalize)
    rows, _ = random_rows(16, 20, seed=0)
    features, item, _, draws = make_inputs(diffusion, 16, 0, False)
    # What an encoder puts out under autocast, or features of one's own.
    features = {m: x.to(feature_dtype) for m, x in features.items()}
    grads, losses = [], []
    for enabled in [False, True]:
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            loss = diffusion.loss(rows, {
                m: x if enabled else x.float()
                for m, x in features.items()
            }, item, **draws)['loss']
        diffusion.zero_grad()
        loss.backward()
        losses.append(loss)
        grads.append({k: p.grad for k, p in diffusion.named_parameters()})
    assert losses[1].dtype == torch.float
    assert_close(losses[1], losses[0], tolerance=0.02)
    for name, grad in grads[1].items():
        assert_close(grad, grads[0][name], tolerance=0.05, what=name)


@pytest.mark.parametrize('fn', [objective.gaussian_objective,
                                objective.multinomial_objective])
def test_mean_over_weighted_rows(double, fn):
    g, (rows, _) = generator(0), random_rows(4, 6, seed=1)
    denoiser = random_diffusion(6, 2, seed=0).denoiser
    hidden = torch.randn(4, 2, 5, generator=g)
    features = list(torch.randn(2, 6, 3, generator=g))
    targets = list(torch.randn(2, 4, 3, generator=g))
    weight = torch.rand(4, generator=g)

    def run(start, end, weight, msi_weight=0.5):
        return fn(denoiser, hidden[start:end], rows.narrow(start, end),
                  features, [t[start:end] for t in targets], weight,
                  msi_weight)

    out = run(0, 4, weight)
    single = [run(i, i + 1, torch.ones(1), msi_weight=1.) for i in range(4)]
    elbo = weight @ torch.stack([x['elbo'] for x in single]) / 4
    msi = 0.5 * torch.stack([x['msi'] for x in single]).mean()
    assert_close(out['elbo'], elbo)
    assert_close(out['msi'], msi)
    assert_close(out['loss'], elbo + msi)
