import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torch_geometric.transforms as T
from diffmm_pyg.datasets import hetero_data_from_arrays, node_ids
from diffmm_pyg.datasets.ids import encode_ids
from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import INTERACTS, WITH_TORCH_SPARSE
from torch_geometric.data import HeteroData

USERS, ITEMS = ['Zoë', '007', 'u 3'], [7, -1, 2**60]


@pytest.fixture
def data():
    edge_index = torch.tensor([[0, 0, 1, 2], [0, 1, 2, 1]])
    # Not the training split: `RandomLinkSplit` and `subgraph` take labels that
    # are as many as the edges for attributes of the edges, and fail.
    return hetero_data_from_arrays(3, 3, edge_index,
                                   features={'image': torch.ones(3, 2)},
                                   user_ids=USERS, item_ids=ITEMS)[1]


text = st.text(st.characters(exclude_characters='\0',
                             exclude_categories=['Cs']), max_size=9)


@given(st.one_of(st.sets(st.integers(-2**63, 2**63 - 1), min_size=1),
                 st.sets(text, min_size=1)))
def test_ids_round_trip(ids):
    ids = list(ids)
    data = HeteroData()
    data['user'].ids = encode_ids(ids, len(ids), 'user')
    assert node_ids(data, 'user') == ids


@pytest.mark.parametrize('ids', [
    np.array(['b', 'a'], dtype=object),
    np.array(['b', 'a']),
    ('b', 'a'),
    torch.tensor([4, 3]),
    np.array([4, 3], dtype=np.uint8),
])
def test_encode_ids_of_arrays(ids):
    data = HeteroData()
    data['user'].ids = encode_ids(ids, 2, 'user')
    assert node_ids(data, 'user') in [['b', 'a'], [4, 3]]


def test_node_ids_default():
    data = HeteroData()
    data['user'].num_nodes = 3
    assert node_ids(data, 'user') == [0, 1, 2]


def test_ids_survive_what_pyg_does_to_data(data):
    for out in [
            data,
            copy.copy(data),
            copy.deepcopy(data),
            data.clone(),
            data.to('cpu'),
            data.contiguous(),
            T.ToUndirected()(data),
            HeteroData.from_dict(data.to_dict()),
            T.RandomLinkSplit(num_val=0., num_test=0.5,
                              edge_types=INTERACTS)(data)[0],
    ]:
        assert node_ids(out, 'user') == USERS
        assert node_ids(out, 'item') == ITEMS
    out = data.subgraph({'user': torch.tensor([0, 2])})
    assert node_ids(out, 'user') == ['Zoë', 'u 3']


@pytest.mark.skipif(not WITH_TORCH_SPARSE, reason='torch-sparse is missing')
@pytest.mark.filterwarnings("ignore:.*without a 'pyg-lib' installation")
def test_ids_survive_sparse_tensors_and_loaders(data):
    from torch_geometric.loader import LinkNeighborLoader

    assert node_ids(T.ToSparseTensor()(data), 'item') == ITEMS
    edge_label_index = torch.tensor([[2], [1]])
    loader = LinkNeighborLoader(T.ToUndirected()(data), num_neighbors=[5],
                                edge_label_index=(INTERACTS, edge_label_index))
    batch = next(iter(loader))
    assert node_ids(batch, 'user')[0] == 'u 3'
    assert node_ids(batch, 'item')[0] == -1


@pytest.mark.parametrize('ids, match', [
    (['a'], "'user_ids' .* must hold 2 "),
    ([1., 2.], "'user_ids' .* integers or strings"),
    ([['a'], ['b']], "'user_ids' .* must hold 2 "),
    (['a', 'a'], "'user_ids' holds 'a' more than once"),
    ([5, 5], "'user_ids' holds '5' more than once"),
])
def test_encode_ids_errors(ids, match):
    with pytest.raises(DataError, match=match):
        encode_ids(ids, 2, 'user')
