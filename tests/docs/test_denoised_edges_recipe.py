import runpy
from pathlib import Path

import pytest
import torch

from diffmm_pyg.datasets import FakeMultiModalRec
from diffmm_pyg.datasets.fake import checkerboard
from diffmm_pyg.typing import INTERACTS, denoised_edge_type

PATH = Path(__file__).parents[2] / 'docs' / 'recipes' / 'denoised_edges.py'
MODALITIES = ['image', 'audio']

pytestmark = pytest.mark.filterwarnings('ignore:Sparse invariant checks')


@pytest.fixture
def recipe():
    return runpy.run_path(str(PATH))


def test_light_gcn_finds_what_was_withheld(recipe):
    # Of 41 items that are left, one is of the own half: chance is 20/41.
    train, *splits = checkerboard(40, 80)
    train[INTERACTS].edge_weight = torch.ones(train.num_edges)
    torch.manual_seed(0)
    recall = recipe['recall_of_light_gcn'](train, splits, epochs=60)
    assert recall == [1., 1.]


def test_graphs_differ_in_nothing_but_the_pairs(recipe):
    graphs, compare = [], recipe['compare']
    compare.__globals__['recall_of_light_gcn'] = \
        lambda graph, splits, epochs: graphs.append(graph)
    data = FakeMultiModalRec(60, 40, num_blocks=4, modalities=MODALITIES)
    assert list(compare(*data, diffusion_epochs=2)) == ['plain', 'denoised',
                                                        'shuffled']
    plain, denoised, shuffled = graphs
    assert plain.edge_types == [INTERACTS]
    for graph in graphs:
        assert torch.equal(graph[INTERACTS].edge_index,
                           data[0][INTERACTS].edge_index)
        assert (graph[INTERACTS].edge_weight == 1).all()
    for m in MODALITIES:
        a, b = (g[denoised_edge_type(m)] for g in [denoised, shuffled])
        assert torch.equal(a.edge_weight, b.edge_weight)
        assert torch.equal(a.edge_index[0], b.edge_index[0])
        assert torch.equal(a.edge_index[1].bincount(),
                           b.edge_index[1].bincount())
        assert (a.edge_index[1] != b.edge_index[1]).float().mean() > 0.5


def test_same_seed_same_recall(recipe):
    data = FakeMultiModalRec(60, 40, num_blocks=4, modalities=MODALITIES)
    out1, out2 = (recipe['compare'](*data, seed=3, epochs=3,
                                    diffusion_epochs=1) for _ in range(2))
    assert out1 == out2
    for recall in out1.values():
        assert len(recall) == 2 and all(0 < x <= 1 for x in recall)
