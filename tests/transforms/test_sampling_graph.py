import copy

import pytest
import torch

from diffmm_pyg.errors import DataError
from diffmm_pyg.transforms import add_denoised_edges, sampling_graph
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from torch_geometric.data import HeteroData

DENOISED = (USER, 'denoised_image', ITEM)


@pytest.fixture
def data():
    out = HeteroData()
    out[USER].num_nodes, out[ITEM].num_nodes = 4, 3
    out[USER].ids = torch.arange(4)
    out[ITEM].x_image = torch.randn(3, 2)
    out[ITEM].has_image = torch.tensor([True, False, True])
    out[INTERACTS].edge_index = torch.tensor([[0, 0, 1, 3], [0, 2, 2, 2]])
    out[INTERACTS].edge_label_index = torch.tensor([[2], [1]])
    return add_denoised_edges(out, {'image': (
        torch.tensor([[1, 3, 2], [1, 1, 0]]), torch.tensor([0.5, 2., 4.]))})


def test_holds_degrees_and_reverse_edges(data):
    graph = sampling_graph(data)
    assert graph[USER].degree_interacts.tolist() == [2, 1, 0, 1]
    assert graph[ITEM].degree_interacts.tolist() == [1, 0, 3]
    assert graph[USER].degree_denoised_image.tolist() == [0, 0.5, 4, 2]
    assert graph[ITEM].degree_denoised_image.tolist() == [4, 2.5, 0]
    for edge_type, weight in [(INTERACTS, [1.] * 4), (DENOISED, [.5, 2., 4.])]:
        reverse = (ITEM, f'rev_{edge_type[1]}', USER)
        assert graph[edge_type].edge_weight.tolist() == weight
        assert graph[reverse].edge_weight.tolist() == weight
        assert torch.equal(graph[edge_type].edge_index,
                           data[edge_type].edge_index)
        assert torch.equal(graph[reverse].edge_index,
                           data[edge_type].edge_index.flip([0]))


def test_holds_nothing_else_and_leaves_the_data_alone(data):
    before = copy.copy(data)
    graph = sampling_graph(data)
    assert len(graph.edge_types) == 4
    assert set(graph[INTERACTS].keys()) == {'edge_index', 'edge_weight'}
    assert set(graph[USER].keys()) == {'num_nodes', 'degree_interacts',
                                       'degree_denoised_image'}
    assert torch.equal(graph[ITEM].x_image, data[ITEM].x_image)
    assert torch.equal(graph[ITEM].has_image, data[ITEM].has_image)
    for store, old in zip(data.stores, before.stores, strict=True):
        assert list(store.keys()) == list(old.keys())


def test_without_generated_edges(data):
    del data[DENOISED]
    with pytest.raises(DataError, match="generated edges of modality 'image'"):
        sampling_graph(data)
