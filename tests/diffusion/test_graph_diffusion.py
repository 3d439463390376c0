import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    MODALITIES,
    assert_close,
    assert_grads_close,
    generator,
    random_diffusion,
    random_rows,
    textbook_scores,
)
from small import small_data, small_fit

from diffmm_pyg.build import build_model
from diffmm_pyg.diffusion import GraphDiffusion, graph_diffusion
from diffmm_pyg.diffusion.noisy_rows import NoisyRows
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.testing import textbook
from diffmm_pyg.utils import SparseRows

HEADS = [('gaussian', 'posterior'), ('multinomial', 'direct'),
         ('multinomial', 'softmax')]
CANDIDATES = ['all', 'unseen', 'observed']


def check_generate(head, num_rows, num_items, num_modalities, k, candidates,
                   weighting, normalize, seed, **kwargs):
    diffusion = random_diffusion(num_items, num_modalities, seed,
                                 likelihood=head[0], sampler=head[1],
                                 normalize=normalize)
    rows, x0 = random_rows(num_rows, num_items, seed)
    scores = textbook_scores(diffusion, x0, **kwargs)
    out = diffusion.generate(rows, k, candidates, weighting,
                             weight_scale=1.5, differentiable=True)

    assert list(out) == MODALITIES[:num_modalities]
    kind = 'softplus' if head[0] == 'gaussian' else 'probability'
    kind = 'binary' if weighting == 'binary' else kind
    actual_loss, expected_loss = 0., 0.
    for (edge_index, edge_weight), score in zip(out.values(), scores,
                                                strict=True):
        expected, value = textbook.topk_edges(score, k, candidates=candidates,
                                              observed=x0 > 0)
        assert torch.equal(edge_index, expected)
        expected = textbook.edge_weights(value, kind, scale=1.5)
        assert_close(edge_weight, expected)
        assert (edge_weight > 0).all()
        factor = torch.randn(value.size(), generator=generator(seed))
        actual_loss = actual_loss + (factor * edge_weight).sum()
        expected_loss = expected_loss + (factor * expected).sum()
    if weighting == 'score' and actual_loss.requires_grad:
        assert_grads_close(actual_loss, expected_loss,
                           diffusion.named_parameters())


@pytest.mark.parametrize('head', HEADS, ids=str)
@pytest.mark.parametrize('candidates', CANDIDATES)
@given(
    num_rows=st.integers(1, 8),
    num_items=st.integers(1, 12),
    num_modalities=st.integers(1, 3),
    k=st.integers(1, 12),
    weighting=st.sampled_from(['binary', 'score']),
    normalize=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_generate_equals_textbook(double, head, candidates, k, num_items,
                                  **kwargs):
    check_generate(head, k=min(k, num_items), num_items=num_items,
                   candidates=candidates, **kwargs)


@pytest.mark.parametrize('k', [1, 50, 60])
@pytest.mark.parametrize('candidates', CANDIDATES)
@pytest.mark.parametrize('head', HEADS, ids=str)
def test_generate_in_blocks(double, monkeypatch, head, candidates, k):
    monkeypatch.setattr(graph_diffusion, 'ROW_BLOCK_SIZE', 3)
    check_generate(head, 7, 60, 2, k, candidates, 'score', True, seed=k)


def test_generate_from_noised_rows(double, monkeypatch):
    monkeypatch.setattr(graph_diffusion, 'ROW_BLOCK_SIZE', 3)
    diffusion = random_diffusion(6, 1, seed=0, num_steps=4)
    rows, x0 = random_rows(7, 6, seed=0)
    noise = torch.cat([
        NoisyRows(rows.narrow(i, min(i + 3, 7)), signal=torch.zeros(n),
                  std=torch.ones(n), seed=(5, i)).block(0, 6)[0]
        for i, n in [(0, 3), (3, 3), (6, 1)]
    ])
    # Blocks of rows must not share their noise.
    assert noise[0].ne(noise[3]).all() and noise[0].ne(noise[6]).all()
    score, = textbook_scores(diffusion, x0, noised_steps=3, noise=noise)
    out = diffusion.generate(rows, k=2, noise_step=2, seed=5)['image']
    expected, value = textbook.topk_edges(score, 2)
    assert torch.equal(out[0], expected)
    assert_close(out[1], textbook.edge_weights(value, 'softplus'))


@pytest.mark.parametrize('head', HEADS, ids=str)
@pytest.mark.parametrize('block_size', [3, 100])
def test_score_edges_equals_textbook(double, monkeypatch, head, block_size):
    monkeypatch.setattr(graph_diffusion, 'ROW_BLOCK_SIZE', block_size)
    diffusion = random_diffusion(9, 3, seed=0, likelihood=head[0],
                                 sampler=head[1])
    rows, x0 = random_rows(7, 9, seed=0)
    g = generator(0)
    # Unsorted, with duplicates, and none for rows 2 to 4.
    edge_index = torch.stack([
        torch.tensor([0, 1, 5, 6])[torch.randint(4, (20, ), generator=g)],
        torch.randint(9, (20, ), generator=g)
    ])
    out = diffusion.score_edges(rows, edge_index, weight_scale=0.5,
                                differentiable=True)
    kind = 'softplus' if head[0] == 'gaussian' else 'probability'
    actual_loss, expected_loss = 0., 0.
    for weight, score in zip(out.values(), textbook_scores(diffusion, x0),
                             strict=True):
        expected = textbook.edge_weights(score[tuple(edge_index)], kind, 0.5)
        assert_close(weight, expected)
        factor = torch.randn(20, generator=g)
        actual_loss = actual_loss + (factor * weight).sum()
        expected_loss = expected_loss + (factor * expected).sum()
    assert_grads_close(actual_loss, expected_loss,
                       diffusion.named_parameters())


@pytest.mark.parametrize('head', HEADS, ids=str)
def test_score_embeddings_equal_textbook(double, monkeypatch, head):
    monkeypatch.setattr(graph_diffusion, 'ROW_BLOCK_SIZE', 3)
    diffusion = random_diffusion(9, 2, seed=0, likelihood=head[0],
                                 sampler=head[1])
    rows, x0 = random_rows(7, 9, seed=0)
    out = diffusion.score_embeddings(rows)
    assert list(out) == diffusion.modalities
    for (row, item), expected in zip(out.values(),
                                     textbook_scores(diffusion, x0),
                                     strict=True):
        score = row @ item.t()
        if head[0] == 'multinomial':
            score = score.log_softmax(dim=1)
        assert_close(score, expected)


def test_score_edges_equals_generate():
    diffusion = random_diffusion(9, 2, seed=0)
    rows, _ = random_rows(7, 9, seed=0)
    for m, (edge_index, weight) in diffusion.generate(rows, k=4).items():
        out = diffusion.score_edges(rows, edge_index)
        assert_close(out[m], weight)


@pytest.mark.parametrize('candidates', CANDIDATES)
def test_rows_without_candidates(candidates):
    # Row 0 saw everything and row 1 nothing.
    edge_index = torch.tensor([[0, 0, 0], [0, 1, 2]])
    rows = SparseRows.from_edge_index(edge_index, 2, 3)
    diffusion = random_diffusion(3, 2, seed=0)
    for edge_index, weight in diffusion.generate(
            rows, k=2, candidates=candidates).values():
        expected = {'all': [2, 2], 'unseen': [0, 2], 'observed': [2, 0]}
        count = edge_index[0].bincount(minlength=2)
        assert count.tolist() == expected[candidates]
        assert weight.numel() == edge_index.size(1)


def test_only_observed_of_rows_without_history():
    rows = SparseRows.from_edge_index(torch.empty(2, 0).long(), 4, 3)
    out = random_diffusion(3, 1, seed=0).generate(rows, 2, 'observed')
    assert out['image'][0].size() == (2, 0)
    assert out['image'][1].size() == (0, )


def test_detached_unless_differentiable():
    diffusion = random_diffusion(6, 2, seed=0)
    rows, _ = random_rows(4, 6, seed=0)
    for differentiable in [False, True]:
        for _, weight in diffusion.generate(
                rows, differentiable=differentiable).values():
            assert weight.requires_grad == differentiable
        for weight in diffusion.score_edges(
                rows, rows.edge_index,
                differentiable=differentiable).values():
            assert weight.requires_grad == differentiable


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
def test_weights_stay_positive(likelihood):
    # Softplus and probability underflow here.
    diffusion = random_diffusion(3, 1, seed=0, likelihood=likelihood)
    with torch.no_grad():
        diffusion.denoiser.weight_out.zero_()
        diffusion.denoiser.bias_out.copy_(torch.tensor([[0.], [-1e3],
                                                        [-1e4]]))
    rows, _ = random_rows(4, 3, seed=0)
    _, weight = diffusion.generate(rows, k=3)['image']
    assert (weight > 0).all() and weight.isfinite().all()


def test_training_mode_does_not_matter_to_generation():
    diffusion = random_diffusion(9, 2, seed=0, dropout=0.9)
    rows, _ = random_rows(7, 9, seed=0)
    out1 = diffusion.train().generate(rows, k=2)
    out2 = diffusion.eval().generate(rows, k=2)
    for m in diffusion.modalities:
        assert torch.equal(out1[m][0], out2[m][0])
        assert torch.equal(out1[m][1], out2[m][1])


@pytest.mark.parametrize('kwargs,match', [
    ({'k': 0}, "'k' must lie in 1..3"),
    ({'k': 4}, "'k' must lie in 1..3"),
    ({'candidates': 'seen'}, "'candidates' must be one of"),
    ({'weighting': 'softmax'}, "'weighting' must be one of"),
    ({'noise_step': 5}, r"'noise_step' must lie in \[0, 5\)"),
    ({'noise_step': -1}, "'noise_step' must lie in"),
])
def test_generate_errors(kwargs, match):
    rows, _ = random_rows(4, 3, seed=0)
    with pytest.raises(ValueError, match=match):
        random_diffusion(3, 1, seed=0).generate(rows, **kwargs)


def test_score_edges_errors():
    rows, _ = random_rows(4, 3, seed=0)
    for edge, match in [([4, 0], 'names user 4'), ([0, -1], 'names item -1')]:
        with pytest.raises(DataError, match=match):
            random_diffusion(3, 1, seed=0).score_edges(
                rows, torch.tensor(edge).view(2, 1))


@pytest.mark.parametrize('kwargs,match', [
    ({'likelihood': 'poisson'}, "'likelihood' must be one of"),
    ({'sampler': 'softmax'}, "'sampler' must be one of"),
    ({'likelihood': 'multinomial', 'sampler': 'posterior'},
     "'sampler' must be one of"),
    ({'dropout': 1.}, "'dropout' must lie in"),
    ({'dropout': 1 - 2**-17}, "'dropout' is so close to 1"),
    ({'time_channels': 3}, "'time_channels' must be"),
    ({'loss_weighting': 'none'}, "'loss_weighting' must be"),
    ({'num_steps': 0}, "'num_steps' must be at least 1"),
    ({'noise_scale': 60.}, 'noise variances'),
    ({'num_sampled_items': 0}, r"'num_sampled_items' must lie in \[1, 4\)"),
    ({'num_sampled_items': 4}, "'num_sampled_items' must lie in"),
])
def test_init_errors(kwargs, match):
    with pytest.raises(ValueError, match=match):
        GraphDiffusion(3, ['image'], **kwargs)


def test_names_of_modalities():
    names = ['clip-vit', 'values', '0']  # Whatever a user calls them.
    assert GraphDiffusion(3, names, 4).modalities == names
    for bad in ['image', ['a', 'a'], [1], [['a']], [''], 5]:
        with pytest.raises(ConfigError, match="list of different names"):
            GraphDiffusion(3, bad)


def test_state_dict_and_str():
    diffusion = random_diffusion(3, 2, seed=0)
    assert str(diffusion) == (
        "GraphDiffusion(3, modalities=['image', 'text'], hidden_channels=5, "
        "time_channels=4, dropout=0.5, normalize=False, "
        "likelihood='gaussian', sampler='posterior', corruption='noise', "
        "msi_weight=0.1, num_steps=5, noise_scale=0.5, noise_min=0.01, "
        "noise_max=0.5, first_beta=None, loss_weighting='snr', "
        "num_sampled_items=None)")
    other = random_diffusion(3, 2, seed=1, noise_max=0.3)
    other.load_state_dict(diffusion.state_dict())
    rows, _ = random_rows(4, 3, seed=0)
    for a, b in zip(diffusion.generate(rows).values(),
                    other.generate(rows).values(), strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_run_keeps_the_number_of_sampled_items():
    data = small_data()
    model = build_model(data[0], diffusion={
        'hidden_channels': 8,
        'num_sampled_items': 7
    })
    run = small_fit(data, model, epochs=1)
    assert run.config['diffusion']['num_sampled_items'] == 7
    assert run.model().diffusion.num_sampled_items == 7
