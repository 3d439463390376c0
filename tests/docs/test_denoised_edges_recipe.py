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


def test_finds_what_was_withheld(recipe):
    # Of 41 items that are left, one is of the own half: chance is 20/41.
    train, *splits = checkerboard(40, 80)
    train[INTERACTS].edge_weight = torch.ones(train.num_edges)
    torch.manual_seed(0)
    assert recipe['recall_at_20'](train, splits) == [1., 1.]


def test_graphs_differ_in_nothing_but_the_pairs(recipe):
    train, *splits = FakeMultiModalRec(60, 40, num_blocks=4,
                                       modalities=MODALITIES)
    edge_index = train[INTERACTS].edge_index.clone()
    graphs = recipe['three_graphs'](train)
    assert list(graphs) == ['plain', 'denoised', 'random']
    assert graphs['plain'].edge_types == [INTERACTS]
    for graph in graphs.values():
        assert torch.equal(graph[INTERACTS].edge_index, edge_index)
        assert (graph[INTERACTS].edge_weight == 1).all()
        val, test = recipe['recall_at_20'](graph, splits)
        assert 0.5 < val <= 1 and 0.5 < test <= 1
    for m in MODALITIES:
        a, b = (graphs[name][denoised_edge_type(m)]
                for name in ['denoised', 'random'])
        assert torch.equal(a.edge_weight, b.edge_weight)
        assert torch.equal(a.edge_index[0], b.edge_index[0])
        assert torch.equal(a.edge_index[1].bincount(),
                           b.edge_index[1].bincount())
        assert (a.edge_index[1] != b.edge_index[1]).float().mean() > 0.5
