import pytest
import torch

from diffmm_pyg.data import check_data, modalities
from diffmm_pyg.datasets import hetero_data_from_pyg
from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import INTERACTS
from torch_geometric.data import HeteroData
from torch_geometric.transforms import RandomLinkSplit

RATES = ('user', 'rates', 'movie')


def movie_lens():
    r"""The layout of :class:`torch_geometric.datasets.MovieLens`."""
    data = HeteroData()
    data['movie'].x = torch.arange(12.).view(4, 3)
    data['user'].num_nodes = 2
    user = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    data[RATES].edge_index = torch.stack(
        [user, torch.tensor([3, 0, 1, 3, 2, 1, 0])])
    data[RATES].edge_label = torch.tensor([5, 4, 0, 3, 1, 2, 3])
    data[RATES].time = torch.tensor([10, 30, 20, 40, 9, 7, 8])
    return data


def amazon_book():
    r"""The layout of :class:`torch_geometric.datasets.AmazonBook`."""
    data = HeteroData()
    data['user'].num_nodes, data['book'].num_nodes = 2, 5
    train = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 4]])
    data['user', 'rates', 'book'].edge_index = train
    data['user', 'rates', 'book'].edge_label_index = torch.tensor(
        [[0, 1], [3, 0]])
    data['book', 'rated_by', 'user'].edge_index = train.flip([0])
    return data


def labels(data):
    return set(map(tuple, data[INTERACTS].edge_label_index.t().tolist()))


def test_movie_lens_is_split_by_time():
    splits = hetero_data_from_pyg(movie_lens())
    for data in splits:
        check_data(data)
        assert data['user'].num_nodes == 2 and data['item'].num_nodes == 4
        assert data['item'].x_content.equal(torch.arange(12.).view(4, 3))
    # User 0 rated movie 3 twice; the first time counts.
    assert [labels(data) for data in splits] == [
        {(0, 3), (1, 1)}, {(0, 1), (1, 0)}, {(0, 0), (1, 2)}]


def test_amazon_book_keeps_its_test_split():
    x = torch.randn(5, 2)
    train, val, test = hetero_data_from_pyg(amazon_book(), {'text': x})
    assert modalities(train) == ['text'] and train['item'].x_text.equal(x)
    assert labels(test) == {(0, 3), (1, 0)}
    assert labels(train) | labels(val) == {(0, 0), (0, 1), (0, 2), (1, 4)}
    # One of three or more is for validation, and none of a single one:
    assert [user for user, _ in labels(val)] == [0]


def test_negatives_are_no_test_interactions():
    data = amazon_book()
    data['user', 'rates', 'book'].edge_label = torch.tensor([0, 1])
    _, _, test = hetero_data_from_pyg(data, {'text': torch.ones(5, 1)})
    assert labels(test) == {(1, 0)}


def test_nan_rows_are_missing():
    data = movie_lens()
    data['movie'].x[1:3] = float('nan')
    for split in hetero_data_from_pyg(data, {'poster': torch.ones(4, 1)}):
        check_data(split)
        assert split['item'].has_content.tolist() == [True, False, False, True]
        assert not split['item'].x_content[1:3].any()
        assert 'has_poster' not in split['item']


def test_training_part_is_no_test_split():
    data = movie_lens()
    del data[RATES].edge_label, data[RATES].time
    data[RATES].edge_index = data[RATES].edge_index.unique(dim=1)
    train, val, _ = RandomLinkSplit(0.2, 0.2, edge_types=RATES,
                                    neg_sampling_ratio=0.2)(data)
    with pytest.raises(DataError, match='edge_label_index lies within'):
        hetero_data_from_pyg(train)
    _, _, test = hetero_data_from_pyg(val)
    assert labels(test) == {tuple(val[RATES].edge_label_index[:, 0].tolist())}


def test_further_modalities_and_edge_types():
    data = movie_lens()
    data['user', 'tags', 'movie'].edge_index = torch.tensor([[1], [2]])
    with pytest.raises(DataError, match="2 of the edge types .*edge_type="):
        hetero_data_from_pyg(data)
    train, _, _ = hetero_data_from_pyg(
        data, {'poster': torch.ones(4, 1)}, ('user', 'tags', 'movie'))
    assert labels(train) == {(1, 2)}
    assert modalities(train) == ['content', 'poster']
    assert set(data['user', 'tags', 'movie'].keys()) == {'edge_index'}


@pytest.mark.parametrize('kwargs, match', [
    (dict(), r"data\['book'\] has no features 'x'; give those of one or"),
    (dict(edge_type=('user', 'buys', 'book')), 'There are no edges .*buys'),
    (dict(features={'text': torch.ones(4, 1)}), 'there are 5 items'),
])
def test_errors(kwargs, match):
    with pytest.raises(DataError, match=match):
        hetero_data_from_pyg(amazon_book(), **kwargs)


def test_homogeneous_graphs_are_refused():
    with pytest.raises(DataError, match="is a 'Data'; give a 'HeteroData'"):
        hetero_data_from_pyg(movie_lens().to_homogeneous(node_attrs=[]))


@pytest.mark.filterwarnings('ignore:Unable to accurately infer')
def test_number_of_nodes_is_needed():
    data = movie_lens()
    del data['user'].num_nodes
    with pytest.raises(DataError, match=r"data\['user'\].num_nodes is miss"):
        hetero_data_from_pyg(data)
