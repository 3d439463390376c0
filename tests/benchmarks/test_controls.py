import sys
from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / 'benchmarks'), str(ROOT / 'tests')]

from oracle import assert_close, generator, random_rows  # noqa: E402
from small import small_data, small_fit  # noqa: E402

from _experiments.controls import (  # noqa: E402
    RewiredEdges,
    WithEASEEdges,
    WithoutEdges,
    WithoutEmbeddings,
    WithRandomEdges,
    WithUniformEdges,
    rewire,
)
from _experiments.graphs import describe_graphs  # noqa: E402
from diffmm_pyg.data import modality_features  # noqa: E402
from diffmm_pyg.nn.models import EASE  # noqa: E402
from diffmm_pyg.nn.models.drift import drift_embeddings  # noqa: E402
from diffmm_pyg.nn.stacked_adj import denoised_adjs  # noqa: E402
from diffmm_pyg.utils import SparseRows  # noqa: E402

U, I = 60, 40


def graph(edge_index, shape):
    out = torch.zeros(shape, dtype=torch.long)
    return out.index_put(tuple(edge_index), torch.ones(()).long(), True)


@given(st.integers(0, 10**6), st.sampled_from(['all', 'unseen', 'observed']))
def test_rewiring_keeps_degrees_and_candidates(seed, candidates):
    shape = 9, 13
    rows, observed = random_rows(*shape, seed=seed)
    allowed = {'all': torch.ones(shape), 'unseen': 1 - observed,
               'observed': observed}[candidates]
    draw = torch.rand(shape, generator=generator(seed)) < 0.4
    before = (draw & (allowed > 0)).nonzero().t()
    after = rewire(before, rows, candidates, generator(seed))
    assert after[0].equal(before[0])
    old, new = graph(before, shape), graph(after, shape)
    assert new.sum(dim=0).equal(old.sum(dim=0))
    assert (new <= allowed).all()  # Hence no edge is there twice, too.


@pytest.mark.parametrize('edges, number', [
    ([(0, 0), (1, 1)], 2),
    # Rows of 2, 2 and 1 edges, items of 2, 1, 1 and 1:
    ([(0, 0), (0, 1), (1, 0), (1, 2), (2, 3)], 6 + 3 + 3),
])
def test_rewiring_reaches_all_graphs_alike(edges, number):
    row, col = zip(*edges, strict=True)
    possible = {frozenset(zip(row, x, strict=True)) for x in
                permutations(col)}
    possible = {x for x in possible if len(x) == len(edges)}
    assert len(possible) == number
    before, g, num_draws = torch.tensor(edges).t(), generator(0), 300
    rows = SparseRows.from_edge_index(before, 3, 4)
    found = [frozenset(map(tuple, rewire(before, rows, 'all', g).t().tolist()))
             for _ in range(num_draws)]
    assert set(found) == possible
    error = (1 / number * (1 - 1 / number) / num_draws)**0.5
    for x in possible:
        assert found.count(x) / num_draws == pytest.approx(1 / number,
                                                           abs=4 * error)


def make(cls, data, seed=0, **kwargs):
    torch.manual_seed(seed)
    channels = {m: x.size(1) for m, x in modality_features(data[0]).items()}
    return cls.from_sizes(U, I, channels, diffusion={'hidden_channels': 8},
                          hidden_channels=8, k=3, **kwargs)


@pytest.fixture
def data():
    return small_data()


@pytest.fixture
def rows(data):
    return SparseRows.from_edge_index(
        data[0]['user', 'interacts', 'item'].edge_index, U, I)


def test_random_edges_are_those_of_the_denoisers_rewired(data, rows):
    diffusion = make(WithRandomEdges, data).diffusion
    assert isinstance(diffusion, RewiredEdges)
    edges = diffusion.generate(rows, 3, 'unseen')
    expected = super(RewiredEdges, diffusion).generate(rows, 3, 'unseen')
    again = diffusion.generate(rows, 3, 'unseen')
    other = make(WithRandomEdges, data, seed=1).diffusion
    other.load_state_dict(diffusion.state_dict())
    for m, (edge_index, weight) in edges.items():
        index = expected[m][0]
        assert weight.equal(expected[m][1])
        assert edge_index[0].equal(index[0])
        assert edge_index[1].bincount(minlength=I).equal(
            index[1].bincount(minlength=I))
        assert not edge_index.equal(index)
        assert not (graph(edge_index, (U, I)) * rows.to_dense().long()).any()
        assert edge_index.equal(again[m][0])
        assert not edge_index.equal(other.generate(rows, 3, 'unseen')[m][0])


def test_random_scores_are_those_of_other_rows(data, rows):
    diffusion = make(WithRandomEdges, data).diffusion
    scores = diffusion.score_embeddings(rows)
    expected = super(RewiredEdges, diffusion).score_embeddings(rows)
    perms = []
    for m, (row_emb, item_emb) in scores.items():
        assert item_emb.equal(expected[m][1])
        distance = torch.cdist(row_emb, expected[m][0])
        perms.append(distance.argmin(dim=1))
        assert distance.amin(dim=1).max() < 1e-3
    # All rows differ here but those of users without a history:
    perm = perms[0]
    assert perm.equal(perms[1]) and (perm != torch.arange(U)).sum() > 0.8 * U
    assert perm.unique().numel() > 0.8 * U


@pytest.mark.parametrize('weight, names', [
    (0., ['ranking']), (1., ['diffusion', 'ranking'])])
def test_without_edges(data, weight, names):
    model = make(WithoutEdges, data, denoiser_weight=weight)
    assert [x.name for x in model.phases(data[0])] == names
    run = small_fit(data, model, epochs=1)
    assert run.graphs['denoised_image.edge_index'].shape == (2, 0)
    assert describe_graphs(run) == {}
    x = torch.randn(U + I, 3)
    adj_dict = denoised_adjs(model.data, model.modalities, U, I, dropout=0.)
    for m, conv in model.denoised_convs.items():
        assert_close(conv(x, adj_dict[m]), x)  # Self-loops, and nothing else


def test_edges_of_ease(data, rows):
    diffusion = make(WithEASEEdges, data).diffusion
    edges = diffusion.generate(rows, 3, 'all')
    user, item = EASE(U, I, 50.).embed(data[0])
    score = (user @ item.t()).masked_fill(rows.to_dense() > 0, -torch.inf)
    for edge_index, weight in edges.values():
        assert (weight == 1).all() and weight.numel() == 3 * U
        assert edge_index[0].equal(torch.arange(U).repeat_interleave(3))
        found = score[tuple(edge_index)].view(U, 3)
        assert_close(found, score.topk(3, dim=1).values)


def test_uniform_edges_favor_nothing(data, rows):
    image, audio = make(WithUniformEdges, data).diffusion.generate(
        rows, 20).values()
    again = make(WithUniformEdges, data).diffusion.generate(rows, 20)
    other = make(WithUniformEdges, data, seed=1).diffusion.generate(rows, 20)
    assert again['image'][0].equal(image[0])
    assert not image[0].equal(audio[0])
    assert not other['image'][0].equal(image[0])
    for edge_index, weight in [image, audio]:
        assert (graph(edge_index, (U, I)).sum(dim=1) == 20).all()
        assert (weight == 1).all()
        # Of U draws without replacement, with a variance of U / 4 each:
        count = edge_index[1].bincount(minlength=I)
        assert (count - U / 2).square().mean() == pytest.approx(U / 4, rel=.7)


@pytest.mark.parametrize('cls, names', [
    (WithEASEEdges, ['ranking']), (WithUniformEdges, ['ranking']),
    (WithRandomEdges, ['diffusion', 'ranking'])])
def test_denoisers_without_a_part_are_not_trained(data, cls, names):
    model = make(cls, data)
    assert [x.name for x in model.phases(data[0])] == names
    run = small_fit(data, model, epochs=1)
    assert run.graphs['denoised_image.edge_index'].size(1) == 3 * U


@pytest.mark.parametrize('drift_weight', [0., 0.5])
def test_without_embeddings(data, rows, drift_weight):
    model = make(WithoutEmbeddings, data, denoiser_weight=3.,
                 drift_weight=drift_weight)
    run = small_fit(data, model, epochs=1)
    assert {'diffusion/loss', 'ranking/loss'} <= run.history[0].keys()
    weights = [1.5, 1.5, drift_weight]
    expected = torch.zeros(U, I)
    for weight, (user, item) in zip(
            weights, [*model.diffusion.score_embeddings(rows).values(),
                      drift_embeddings(rows)], strict=True):
        score = user @ item.t()
        expected += weight * score / score.std(dim=1, correction=0,
                                               keepdim=True)
    assert_close(run.user_emb @ run.item_emb.t(), expected, tolerance=1e-4)
