import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from diffmm_pyg.data import check_data, data_hash, modalities
from diffmm_pyg.datasets import hetero_data_from_arrays
from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import INTERACTS

TRAIN = np.array([[2, 0, 0, 2, 1], [1, 1, 0, 1, 2]])  # One pair twice
VAL = np.array([[0, 1], [2, 0]])
TEST = np.array([[1, 2], [1, 0]])
FEATURES = {'image': np.arange(6.).reshape(3, 2), 'text': np.ones((3, 4))}


def build(train=TRAIN, val=VAL, test=TEST, **kwargs):
    kwargs.setdefault('features', FEATURES)
    return hetero_data_from_arrays(3, 3, train, val, test, **kwargs)


def to_scipy(edge_index):
    value = np.ones(edge_index.shape[1])
    return sp.coo_matrix((value, tuple(edge_index)), (3, 3))


@pytest.mark.parametrize('convert', [
    np.asarray,
    torch.from_numpy,
    to_scipy,
    lambda edge_index: to_scipy(edge_index).tocsr(),
    lambda edge_index: sp.csr_array(to_scipy(edge_index)),
    lambda edge_index: edge_index.astype(np.uint8),
])
def test_hetero_data_from_arrays(convert):
    splits = build(convert(TRAIN), convert(VAL), convert(TEST))
    labels = [
        [[0, 0, 1, 2], [0, 1, 2, 1]],
        [[0, 1], [2, 0]],
        [[1, 2], [1, 0]],
    ]
    for data, label in zip(splits, labels):
        check_data(data)
        assert data.node_types == ['user', 'item']
        assert data['user'].num_nodes == data['item'].num_nodes == 3
        assert data[INTERACTS].edge_index.tolist() == labels[0]
        assert data[INTERACTS].edge_label_index.tolist() == label
        assert modalities(data) == ['image', 'text']
        assert data['item'].x_image.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert 'ids' not in data['user'] and 'has_image' not in data['item']
    assert splits[0]['item'].x_text is splits[2]['item'].x_text


def test_absent_splits_are_empty():
    train, val, test = build(val=None, test=np.empty((2, 0)))
    for data in [val, test]:
        assert data[INTERACTS].edge_label_index.size() == (2, 0)
        assert data[INTERACTS].edge_label_index.dtype == torch.long
        assert data[INTERACTS].edge_index.size(1) == 4


@pytest.mark.parametrize('dtype', [
    torch.half, torch.bfloat16, torch.double, torch.int8
])
def test_features_become_single_precision(dtype):
    x = torch.tensor([[1.], [2.], [100.]]).to(dtype)
    data, _, _ = build(features={'image': x})
    assert data['item'].x_image.dtype == torch.float
    assert data['item'].x_image.tolist() == [[1], [2], [100]]


def test_features_of_scipy():
    data, _, _ = build(features={'image': sp.eye(3, format='csr')})
    assert data['item'].x_image.equal(torch.eye(3))


def test_arrays_are_not_shared():
    x = np.ones((3, 2), np.float32)
    data, _, _ = build(features={'image': x})
    x[0] = 5
    assert data['item'].x_image.max() == 1


def test_masked_rows_are_zero():
    x = np.array([[1., 2.], [np.nan, np.inf], [3., 4.]])
    mask = np.array([True, False, True])
    data, _, _ = build(features={'image': x, 'text': FEATURES['text']},
                       masks={'image': mask})
    assert data['item'].x_image.tolist() == [[1, 2], [0, 0], [3, 4]]
    assert data['item'].has_image.tolist() == mask.tolist()
    assert 'has_text' not in data['item']


def test_repeated_pairs_count_for_the_first_split():
    val = np.array([[0, 0], [0, 2]])  # (0, 0) is trained on.
    test = np.array([[0, 1, 2], [2, 2, 2]])  # (0, 2) is in val, (1, 2) too.
    with pytest.warns(UserWarning) as record:
        _, val_data, test_data = build(val=val, test=test)
    messages = [str(warning.message) for warning in record]
    assert messages[0].startswith("Dropped 1 of the 2 pairs of 'val'")
    assert messages[1].startswith("Dropped 2 of the 3 pairs of 'test'")
    assert val_data[INTERACTS].edge_label_index.tolist() == [[0], [2]]
    assert test_data[INTERACTS].edge_label_index.tolist() == [[2], [2]]


def test_duplicates_count_once():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        splits = build(val=VAL[:, [1, 0, 1]], test=TEST[:, [0, 1, 1, 0]])
    for data, other in zip(splits, build()):
        label = other[INTERACTS].edge_label_index
        assert data[INTERACTS].edge_label_index.equal(label)


def test_cold_users_are_counted_and_kept():
    with pytest.warns(UserWarning, match="1 of the 2 users of 'test' have no"):
        _, _, test = build(train=TRAIN[:, TRAIN[0] != 2])
    assert test[INTERACTS].edge_label_index.tolist() == [[1, 2], [1, 0]]


def test_no_warning_without_need():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        build()


@pytest.mark.parametrize('kwargs, match', [
    (dict(train=np.array([[0, 3], [0, 0]])), "Column 1 of 'train'.*user 3"),
    (dict(val=np.array([[0, 1], [0, -1]])), "Column 1 of 'val'.*item -1"),
    (dict(test=np.array([[0, 1, 2]] * 3).T), r"'test' must have shape \[2, E"),
    (dict(train=np.zeros((2, 0)), val=None, test=None),
     'training split has no interaction'),
    (dict(train=np.array([[0., 1.], [1., 0.]])), "'train' .* integer"),
    (dict(train=np.array([['a'], ['b']])), "'train' is no array of numbers"),
    (dict(train=sp.eye(4)), r"'train'.*must be .* = \[3, 3\]"),
    (dict(features={}), 'has no modality'),
    (dict(features={'image': np.ones((4, 2))}), "'image'.*there are 3 items"),
    (dict(features={'image': np.ones(3)}), r"'image'.*\[num_items, F\]"),
    (dict(features={'image': np.ones((3, 1)) * 1j}), "'image'.*real numbers"),
    (dict(features={'image': [[0], [1], [np.nan]]}), "Row 2 .*'image'"),
    (dict(features={'image': [[0], [np.inf], [0]]}), "Row 1 .*'image'"),
    (dict(features={'a.b': np.ones((3, 1))}), "name 'a.b' is unusable"),
    (dict(masks={'audio': np.ones(3, bool)}), "'masks' names.*'audio'"),
    (dict(masks={'image': np.ones(3)}), "mask of modality 'image'.*boolean"),
    (dict(masks={'image': np.ones(2, bool)}), r"'image'.*of shape \[3\]"),
    (dict(user_ids=['a', 'b']), "'user_ids' .* must hold 3 "),
    (dict(user_ids=[1., 2., 3.]), "'user_ids' .* integers or strings"),
    (dict(item_ids=['a', 'b', 'a']), "'item_ids' holds 'a' more than once"),
])
def test_errors(kwargs, match):
    with pytest.raises(DataError, match=match):
        build(**kwargs)


def test_data_hash_does_not_depend_on_the_order_of_edges():
    assert data_hash(build()[0]) == data_hash(build(TRAIN[:, ::-1])[0])
