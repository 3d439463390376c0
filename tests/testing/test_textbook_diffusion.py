import math

import pytest
import torch

from diffmm_pyg.testing import textbook

SCHEDULE = textbook.noise_schedule(
    textbook.linear_variance_betas(4, 0.1, 1e-3, 0.5))


def denoiser_params(num_items=6, hidden=5, width=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    sizes = {
        'time.weight': (width, width),
        'time.bias': (width, ),
        'in.weight': (hidden, num_items),
        'in.time_weight': (hidden, width),
        'in.bias': (hidden, ),
        'out.weight': (num_items, hidden),
        'out.bias': (num_items, ),
    }
    return {
        k: torch.randn(size, generator=g, dtype=torch.double)
        for k, size in sizes.items()
    }


def rows(num_rows=3, num_items=6):
    x0 = (torch.rand(num_rows, num_items) < 0.4).double()
    x0[:, 0] = 1
    x0[-1] = 0  # A user without history.
    return x0


def test_schedule_variance_is_linear():
    variance = 1 - SCHEDULE['alphas_cumprod']
    expected = torch.linspace(1e-4, 0.05, 4, dtype=torch.double)
    torch.testing.assert_close(variance, expected)
    snr = 1 / expected - 1
    torch.testing.assert_close(SCHEDULE['loss_weight'][1:], -snr.diff())


def test_schedule_is_the_bayes_posterior():
    # The posterior mean of x_{t-1} at x_0 = 1 and x_t = sqrt(abar_t), its
    # expectation, is the expectation of x_{t-1}.
    alpha_bar = SCHEDULE['alphas_cumprod']
    mean = (SCHEDULE['posterior_mean_coef1'] +
            SCHEDULE['posterior_mean_coef2'] * alpha_bar.sqrt())
    torch.testing.assert_close(mean[1:], alpha_bar[:-1].sqrt())
    # The law of total variance from x_t back to x_{t-1}, given x_0.
    total = (SCHEDULE['posterior_variance'] +
             SCHEDULE['posterior_mean_coef2']**2 * (1 - alpha_bar))
    torch.testing.assert_close(total[1:], 1 - alpha_bar[:-1])


def test_schedule_of_one_step():
    betas = textbook.linear_variance_betas(1, 0.1, 1e-3, 0.5, first_beta=0.2)
    out = textbook.noise_schedule(betas)
    assert out['alphas_cumprod'].tolist() == [0.8]
    assert out['posterior_mean_coef1'].tolist() == pytest.approx([1.0])
    assert out['posterior_mean_coef2'].tolist() == [0.0]
    assert out['loss_weight'].tolist() == [1.0]
    assert out['posterior_log_variance_clipped'].isfinite().all()


def test_time_code():
    out = textbook.time_code(torch.tensor([0, 3]), 5, torch.double)
    a, b = 3.0, 3.0 / 100
    expected = [[1, 1, 0, 0, 0],
                [math.cos(a), math.cos(b), math.sin(a), math.sin(b), 0]]
    torch.testing.assert_close(out, torch.tensor(expected, dtype=out.dtype))


def test_denoise_drops_after_normalizing():
    params, t = denoiser_params(), torch.tensor([0, 1, 3])
    x, mask = torch.randn(3, 6).double(), 2.0 * (torch.rand(3, 6) < 0.5)
    out = textbook.denoise(params, x, t, normalize=True, dropout_mask=mask)
    expected = textbook.denoise(params, mask * x / x.norm(dim=1)[:, None], t)
    torch.testing.assert_close(out, expected)


def test_multinomial_loss_of_uniform_logits():
    params = {k: v * 0 for k, v in denoiser_params().items()}
    x0, t = rows(), torch.tensor([0, 2, 3])
    features, item_emb = torch.randn(2, 6, 4).double()
    error, msi = textbook.denoiser_loss(params, x0, t, torch.randn(3, 6),
                                        SCHEDULE, features, item_emb,
                                        likelihood='multinomial')
    count = x0.sum(dim=1)
    weight = SCHEDULE['loss_weight'][t]
    torch.testing.assert_close(error, weight * count * math.log(6))
    expected = count[:, None] * features.mean(dim=0) - x0 @ item_emb
    torch.testing.assert_close(msi, expected.pow(2).mean(dim=1))
    assert error[-1] == msi[-1] == 0


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
def test_msi_leaves_items_without_the_modality_out(likelihood):
    has = torch.tensor([True, False, True, True, False, True])
    x0, t, noise = rows(), torch.tensor([0, 1, 3]), torch.randn(3, 6)
    features, item_emb = torch.randn(2, 6, 4).double()

    def loss(features, item_emb, has):
        return textbook.denoiser_loss(denoiser_params(), x0, t, noise,
                                      SCHEDULE, features, item_emb,
                                      likelihood=likelihood, has=has)

    error, msi = loss(features, item_emb, has)
    zero = has[:, None].double()
    expected = loss(features * zero, item_emb * zero, None)
    torch.testing.assert_close((error, msi), expected)
    full = loss(features, item_emb, torch.ones_like(has))
    torch.testing.assert_close(full, loss(features, item_emb, None))
    assert not torch.allclose(msi, full[1])


@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('sampler', ['posterior', 'softmax'])
def test_sample_unrolled(sampler, normalize):
    params, x0, noise = denoiser_params(), rows(), torch.randn(3, 6).double()
    out = textbook.sample(params, x0, SCHEDULE, sampler=sampler,
                          normalize=normalize, noised_steps=2, noise=noise)

    alpha_bar = SCHEDULE['alphas_cumprod'].tolist()
    x = alpha_bar[1]**0.5 * x0 + (1 - alpha_bar[1])**0.5 * noise
    for t in [3, 2, 1, 0]:
        code = textbook.time_code(torch.tensor([t]), 4, torch.double)
        code = code @ params['time.weight'].t() + params['time.bias']
        weight = torch.cat([params['in.weight'], params['in.time_weight']], 1)
        h = x / x.norm(dim=1, keepdim=True) if normalize else x
        h = torch.cat([h, code.expand(3, -1)], dim=1)
        h = (h @ weight.t() + params['in.bias']).tanh()
        pred = h @ params['out.weight'].t() + params['out.bias']
        if sampler == 'softmax':
            pred = x0.sum(dim=1, keepdim=True) * pred.softmax(dim=1)
        previous = alpha_bar[t - 1] if t > 0 else 1.0
        beta = 1 - alpha_bar[t] / previous
        x = (beta * previous**0.5 * pred +
             (1 - previous) * (1 - beta)**0.5 * x) / (1 - alpha_bar[t])
    if sampler == 'softmax':
        out = x0.sum(dim=1, keepdim=True) * out.exp()
    torch.testing.assert_close(out, x)


def test_sample_direct_is_one_evaluation():
    params, x0 = denoiser_params(), rows()
    out = textbook.sample(params, x0, SCHEDULE, sampler='direct')
    logits = textbook.denoise(params, x0, torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(out, logits.log_softmax(dim=1))


def test_topk_edges():
    scores = torch.tensor([[0.1, 0.4, 0.3], [0.9, 0.7, 0.8]])
    observed = torch.tensor([[False, True, True], [False, False, False]])

    edge_index, value = textbook.topk_edges(scores, 1)
    assert edge_index.tolist() == [[0, 1], [1, 0]]
    edge_index, value = textbook.topk_edges(scores, 2, candidates='unseen',
                                            observed=observed)
    assert edge_index.tolist() == [[0, 1, 1], [0, 0, 2]]
    assert value.tolist() == pytest.approx([0.1, 0.9, 0.8])
    edge_index, value = textbook.topk_edges(scores, 9, candidates='observed',
                                            observed=observed)
    assert edge_index.tolist() == [[0, 0], [1, 2]]
    assert value.tolist() == pytest.approx([0.4, 0.3])


def test_edge_weights():
    scores = torch.tensor([-3.0, 0.0])
    assert textbook.edge_weights(scores, 'binary').tolist() == [1, 1]
    weight = textbook.edge_weights(scores, 'softplus', scale=2.0)
    assert weight.tolist() == pytest.approx(
        [2 * math.log1p(math.exp(-3)), 2 * math.log(2)])
    weight = textbook.edge_weights(scores, 'probability', scale=2.0)
    assert weight.tolist() == pytest.approx([2 * math.exp(-3), 2.0])
