import pytest
import torch

from diffmm_pyg.data import (
    check_data,
    check_sizes,
    data_hash,
    denoised_edges,
    modalities,
    modality_features,
    modality_masks,
)
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.transforms import add_denoised_edges
from diffmm_pyg.typing import INTERACTS
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import ToSparseTensor


@pytest.fixture
def data():
    out = HeteroData()
    out['user'].num_nodes, out['item'].num_nodes = 4, 3
    out['item'].x_text = torch.arange(6.).view(3, 2)
    out['item'].x_image = torch.ones(3, 5)
    out['item'].has_image = torch.tensor([True, False, True])
    out[INTERACTS].edge_index = torch.tensor([[0, 1, 3], [2, 0, 1]])
    out[INTERACTS].edge_label_index = torch.tensor([[2], [2]])
    return out


def test_modalities(data):
    assert modalities(data) == ['text', 'image']
    assert list(modality_features(data)) == ['text', 'image']
    assert torch.equal(modality_features(data)['text'], data['item'].x_text)
    assert list(modality_masks(data)) == ['image']


@pytest.mark.parametrize('dtype', [torch.half, torch.double, torch.long])
def test_features_have_the_default_type(data, dtype):
    expected = data['item'].x_text.clone()
    data['item'].x_text = expected.to(dtype)
    out = modality_features(data)['text']
    assert out.dtype == torch.float and torch.equal(out, expected)
    assert modality_features(data)['image'] is data['item'].x_image


def test_features_have_the_default_type_double(double, data):
    data['item'].x_text = data['item'].x_text.float()
    assert modality_features(data)['text'].dtype == torch.double


def test_features_that_overflow(data):
    data['item'].x_text = torch.full((3, 2), 1e300, dtype=torch.double)
    with pytest.raises(DataError, match="modality 'text' is NaN or infinite"):
        check_data(data)


@pytest.mark.parametrize('sizes,match', [
    ((5, 3, {'text': 2, 'image': 5}), 'has 4 users, .* made for 5'),
    ((4, 2, {'text': 2, 'image': 5}), 'has 3 items, .* made for 2'),
    ((4, 3, {'text': 2, 'image': 6}), "'image': 5} feature .* 'image': 6}"),
    ((4, 3, {'text': 2}), "'image': 5} feature channels, .* {'text': 2}"),
])
def test_check_sizes(data, sizes, match):
    check_sizes(data, 4, 3, {'image': 5, 'text': 2})
    with pytest.raises(ConfigError, match=match):
        check_sizes(data, *sizes)


@pytest.mark.parametrize('name', ['type', 'keys', 'items', 'float', 'x.y', ''])
def test_names_that_modules_cannot_have(data, name):
    data['item'][f'x_{name}'] = data['item'].x_text
    with pytest.raises(DataError, match=f"name '{name}' is unusable"):
        check_data(data)
    with pytest.raises(DataError, match=f"name '{name}' is unusable"):
        diffusion = GraphDiffusion(3, ['text', name or 'empty'])
        DiffMM(4, 3, {'text': 2, name: 2}, diffusion)


@pytest.mark.parametrize('name', ['image', 'x', 'text_2', '1', 'größe'])
def test_names_of_modalities(data, name):
    data['item'][f'x_{name}'] = data['item'].x_text
    check_data(data)
    channels = {m: x.size(1) for m, x in modality_features(data).items()}
    model = DiffMM.from_sizes(4, 3, channels, diffusion={'hidden_channels': 2})
    assert model.modalities == modalities(data)
    assert model.encoders[name].in_channels == channels[name]


def test_check_data(data):
    check_data(data)


def break_data(data, name):
    item, edges = data['item'], data[INTERACTS]
    if name == 'no users':
        data['user'].num_nodes = 0
    elif name == 'no items':
        del data['item']
    elif name == 'no relation':
        del data[INTERACTS]
    elif name == 'no edges':
        edges.edge_index = edges.edge_index[:, :0]
    elif name == 'user out of range':
        edges.edge_index[0, 1] = 4
    elif name == 'negative item':
        edges.edge_label_index[1, 0] = -1
    elif name == 'type':
        edges.edge_index = edges.edge_index.int()
    elif name == 'shape':
        edges.edge_index = edges.edge_index.t()
    elif name == 'no modality':
        del item.x_text, item.x_image
    elif name == 'rows':
        item.x_text = item.x_text[:2]
    elif name == 'dim':
        item.x_text = torch.ones(3)
    elif name == 'nan':
        item.x_image[1, 2] = float('nan')
    elif name == 'inf':
        item.x_text[2, 0] = float('inf')


@pytest.mark.parametrize('name,match', [
    ('no users', r"data\['user'\].num_nodes is missing or 0"),
    ('no items', r"The graph has no 'item' nodes, but \['user'\]; rename"),
    ('no relation', 'edge_index is missing'),
    ('no edges', 'training split has no interaction'),
    ('user out of range', r"Column 1 of 'edge_index' names user 4; user "
     r"indices must lie in 0..3"),
    ('negative item', r"Column 0 of 'edge_label_index' names item -1; item "
     r"indices must lie in 0..2"),
    ('shape', r"must have shape \[2, E\] \(got \[3, 2\]\)"),
    ('type', "'edge_index' must be of type torch.int64 .got torch.int32"),
    ('no modality', 'no modality'),
    ('rows', r"modality 'text' have shape \[2, 2\]; there are 3 items"),
    ('dim', r"modality 'text' have shape \[3\]"),
    ('nan', r"Row 1 of the features of modality 'image' is NaN"),
    ('inf', r"Row 2 of the features of modality 'text' is NaN or infinite"),
])
def test_check_data_errors(data, name, match):
    break_data(data, name)
    with pytest.raises(DataError, match=match) as error:
        check_data(data)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('function', [check_data, modalities])
def test_homogeneous_graphs_are_refused(function):
    with pytest.raises(DataError, match="is a 'Data'; give a 'HeteroData'"):
        function(Data(edge_index=torch.tensor([[0], [1]])))


def test_denoised_edges(data):
    with pytest.raises(DataError, match="no generated .* 'text'; train first"):
        denoised_edges(data, 'text')
    edges = torch.tensor([[0, 1], [2, 0]]), torch.tensor([0.5, 2.])
    add_denoised_edges(data, {'text': edges})
    for actual, expected in zip(denoised_edges(data, 'text'), edges):
        assert actual is expected
    with pytest.raises(DataError, match="edge_index is missing; 'ToSparseTe"):
        denoised_edges(ToSparseTensor()(data), 'text')
    del data['user', 'denoised_text', 'item'].edge_weight
    with pytest.raises(DataError, match='edge_weight is missing') as info:
        denoised_edges(data, 'text')
    assert '\n' not in str(info.value)


@pytest.mark.parametrize('mask', [
    torch.ones(2, dtype=torch.bool),
    torch.ones(3, 1, dtype=torch.bool),
    torch.ones(3),
], ids=['length', 'dim', 'type'])
def test_check_data_masks(data, mask):
    data['item'].has_text = mask
    with pytest.raises(DataError, match='has_text'):
        check_data(data)


def test_data_hash(data):
    expected = data_hash(data)
    other = data.clone()
    other[INTERACTS].edge_index = other[INTERACTS].edge_index.flip([1])
    assert data_hash(other) == expected  # Order does not matter,
    changes = [
        lambda d: d['item'].x_text.add_(1),
        lambda d: d['item'].has_image.logical_not_(),
        lambda d: d[INTERACTS].edge_index.copy_(
            torch.tensor([[0, 1, 3], [2, 0, 2]])),
        lambda d: d[INTERACTS].edge_label_index.copy_(
            torch.tensor([[1], [2]])),
        lambda d: d['user'].update({'num_nodes': 5}),
    ]
    hashes = {expected}
    for change in changes:  # but everything else does.
        other = data.clone()
        change(other)
        hashes.add(data_hash(other))
    assert len(hashes) == len(changes) + 1
