import pytest
import torch
from movie_data import BUYS, RATES, movie_data
from oracle import BACKENDS, assert_close

import torch_geometric.transforms as T
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.transforms import AddDenoisedEdges, add_denoised_edges
from diffmm_pyg.utils import SparseRows
from torch_geometric.data import Data
from torch_geometric.data.datapipes import DatasetAdapter
from torch_geometric.data.dataset import _repr

IMAGE = ('user', 'denoised_image', 'movie')
REV_IMAGE = ('movie', 'rev_denoised_image', 'user')


def make_diffusion(num_items=8, modalities=('image', 'text'), **kwargs):
    torch.manual_seed(0)
    return GraphDiffusion(num_items, list(modalities), **{
        'hidden_channels': 6, 'likelihood': 'multinomial', 'normalize': True,
        **kwargs})


def transform(edge_type=RATES, **kwargs):
    return AddDenoisedEdges(make_diffusion(), edge_type, **kwargs)


def dense(store, size):
    out = torch.zeros(size)
    out[tuple(store.edge_index)] = store.edge_weight
    return out


@pytest.mark.parametrize('kwargs', [
    {'k': 3, 'candidates': 'unseen'},
    {'k': 1, 'candidates': 'all', 'weighting': 'binary'},
    {'k': 2, 'candidates': 'observed', 'weight_scale': 4.},
], ids=str)
def test_adds_what_the_diffusion_generates(kwargs):
    data, diffusion = movie_data(), make_diffusion()
    out = AddDenoisedEdges(diffusion, RATES, **kwargs)(data)
    rows = SparseRows.from_edge_index(data[RATES].edge_index, 12, 8)
    for m, edges in diffusion.generate(rows, **kwargs).items():
        store = out['user', f'denoised_{m}', 'movie']
        assert torch.equal(store.edge_index, edges[0])
        assert torch.equal(store.edge_weight, edges[1])
        assert list(store.keys()) == ['edge_index', 'edge_weight']


def test_everything_else_is_untouched():
    data = movie_data()
    before = str(data.to_dict())
    out = transform(reverse=True)(data)
    assert str(data.to_dict()) == before  # A transform does not work in place.
    assert set(out.edge_types) - set(data.edge_types) == {
        IMAGE, REV_IMAGE, ('user', 'denoised_text', 'movie'),
        ('movie', 'rev_denoised_text', 'user')
    }
    assert out.node_types == data.node_types
    for key in data.node_types + data.edge_types:
        for name, value in data[key].items():
            assert out[key][name] is value
    assert out.validate()


def test_reverse_edges():
    out = transform(reverse=True)(movie_data())
    assert torch.equal(dense(out[IMAGE], (12, 8)),
                       dense(out[REV_IMAGE], (8, 12)).t())
    assert REV_IMAGE not in transform()(movie_data()).edge_types
    both = T.Compose([transform(), T.ToUndirected()])(movie_data())
    for key in ['edge_index', 'edge_weight']:  # PyG's names and order.
        assert torch.equal(both[REV_IMAGE][key], out[REV_IMAGE][key])


def test_several_kinds_of_items():
    books = AddDenoisedEdges(make_diffusion(6), BUYS, k=2)
    out = T.Compose([transform(k=3), books])(movie_data())
    for edge_type, size, k in [(IMAGE, (12, 8), 3),
                               (('user', 'denoised_image', 'book'), (12, 6),
                                2)]:
        weight = dense(out[edge_type], size)
        assert ((weight > 0).sum(dim=1) <= k).all() and weight.sum() > 0


def test_anew_replaces_the_old_edges():
    once = transform(k=4, reverse=True)(movie_data())
    twice = transform(k=2, reverse=True)(once)
    expected = transform(k=2, reverse=True)(movie_data())
    assert str(twice.to_dict()) == str(expected.to_dict())


def test_relations_between_the_same_nodes_side_by_side():
    data = movie_data()
    data['user', 'watches', 'movie'].edge_index = torch.tensor(
        [[0, 1, 2], [3, 4, 5]])
    rated = transform(k=2, reverse=True)(data)
    both = transform(('user', 'watches', 'movie'), k=1, reverse=True,
                     prefix='watched')(rated)
    for m in ['image', 'text']:
        for name, k in [('denoised', 2), ('watched', 1)]:
            edges = both['user', f'{name}_{m}', 'movie'].edge_index
            assert edges[0].bincount().tolist() == 12 * [k]
            assert both['movie', f'rev_{name}_{m}', 'user'].edge_index.equal(
                edges.flip([0]))
        name = ('user', f'denoised_{m}', 'movie')
        assert both[name].edge_index is rated[name].edge_index
    assert len(both.edge_types) == len(data.edge_types) + 8


def test_rows_without_edges_get_the_same_ones():
    data = movie_data()
    data[RATES].edge_index = torch.tensor([[0, 1], [3, 4]])
    edges = transform(k=2)(data)[IMAGE].edge_index[1].view(12, 2)
    assert (edges[2:] == edges[2]).all()


def test_function_is_in_place():
    data = movie_data()
    edges = {'image': (torch.tensor([[0], [5]]), torch.tensor([0.5]))}
    assert add_denoised_edges(data, edges, RATES, reverse=True) is data
    assert data[IMAGE].edge_index.tolist() == [[0], [5]]
    assert data[REV_IMAGE].edge_index.tolist() == [[5], [0]]
    assert data[IMAGE].edge_weight.tolist() == [0.5]
    add_denoised_edges(data, edges)  # Those of the library's own contract.
    assert ('user', 'denoised_image', 'item') in data.edge_types


def test_after_random_link_split():
    torch.manual_seed(0)
    data = T.ToUndirected()(movie_data(num_users=40))
    split = T.RandomLinkSplit(
        0.2, 0.2, edge_types=RATES, neg_sampling_ratio=0.5,
        rev_edge_types=('movie', 'rev_rates', 'user'))(data)
    out = [transform(k=8)(part) for part in split]
    for before, after in zip(split, out, strict=True):
        # All but what a split passes messages over: labels are no rows.
        message = torch.zeros(40, 8)
        message[tuple(before[RATES].edge_index)] = 1
        assert torch.equal(dense(after[IMAGE], (40, 8)) == 0, message == 1)
        changed = before.clone()
        changed[RATES].edge_label_index = torch.zeros(2, 4).long()
        changed[RATES].edge_label = torch.ones(4)
        again = transform(k=8)(changed)
        assert torch.equal(again[IMAGE].edge_weight, after[IMAGE].edge_weight)
    train, val, test = (dense(x[IMAGE], (40, 8)) for x in out)
    assert torch.equal(train, val) and not torch.equal(val, test)


def test_compose_with_a_split():
    split = T.RandomLinkSplit(0.2, 0.2, edge_types=RATES)
    out = T.Compose([split, transform()])(movie_data(num_users=40))
    assert len(out) == 3
    assert all(IMAGE in data.edge_types for data in out)


@pytest.mark.filterwarnings('ignore:Sparse invariant checks')
@pytest.mark.parametrize('layout', [torch.sparse_csr] +
                         [None] * (len(BACKENDS) - 1), ids=str)
def test_before_to_sparse_tensor(layout):
    # Edges that are in the order of their users only: sorting must not part
    # them from their weights.
    chain = T.Compose([
        transform(k=3, reverse=True),
        T.ToSparseTensor(attr='edge_weight', layout=layout),
    ])
    out, expected = chain(movie_data()), transform(k=3)(movie_data())
    expected = dense(expected[IMAGE], (12, 8))
    assert_close(out[IMAGE].adj_t.to_dense(), expected.t())
    assert_close(out[REV_IMAGE].adj_t.to_dense(), expected)


def test_errors():
    for data, kwargs, error, match in [
        (movie_data(), {'edge_type': ('user', 'likes', 'movie')}, DataError,
         r"no relation \('user', 'likes', 'movie'\); data has .*'rates'"),
        (movie_data(), {'edge_type': BUYS}, ConfigError, "6 'book' nodes"),
        (movie_data(), {'k': 9}, ConfigError, "'k' must lie in 1..8"),
        (movie_data(), {'candidates': 'seen'}, ValueError, "'candidates'"),
        (T.ToSparseTensor(layout=torch.sparse_csr)(movie_data()), {},
         DataError, "'ToSparseTensor', which removes it, comes last"),
        (Data(edge_index=torch.tensor([[0], [1]])), {}, DataError,
         "The graph is a 'Data'; give a 'HeteroData'"),
    ]:
        with pytest.raises(error, match=match) as info:
            transform(**kwargs)(data)
        assert '\n' not in str(info.value)


def test_functional_name_and_str():
    pipe = DatasetAdapter([movie_data()])
    data, = pipe.diffmm_add_denoised_edges(make_diffusion(), RATES)
    assert IMAGE in data.edge_types
    assert str(transform()) == (
        f"AddDenoisedEdges({make_diffusion()}, ('user', 'rates', 'movie'), "
        f"k=5, candidates='unseen', weighting='score', weight_scale=1.0, "
        f"reverse=False, prefix='denoised')")


@pytest.mark.parametrize('kwargs', [
    {'edge_type': BUYS}, {'k': 1}, {'candidates': 'all'},
    {'weighting': 'binary'}, {'weight_scale': 2.}, {'reverse': True},
    {'prefix': 'watched'},
], ids=str)
def test_every_setting_makes_another_dataset(kwargs):
    # What PyG compares with the `pre_transform` of a processed one.
    assert _repr(transform(**kwargs)) != _repr(transform())


@pytest.mark.parametrize('kwargs', [
    {'num_items': 9}, {'modalities': ['image']}, {'hidden_channels': 7},
    {'likelihood': 'gaussian'}, {'sampler': 'softmax'}, {'normalize': False},
    {'num_steps': 3}, {'noise_scale': 0.2}, {'first_beta': 1e-5},
], ids=str)
def test_every_setting_of_the_diffusion_makes_another_dataset(kwargs):
    assert _repr(AddDenoisedEdges(make_diffusion(**kwargs))) != _repr(
        AddDenoisedEdges(make_diffusion()))
