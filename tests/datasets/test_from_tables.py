import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from diffmm_pyg.data import check_data, modalities
from diffmm_pyg.datasets import hetero_data_from_tables, node_ids
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.typing import INTERACTS

IMAGE = np.array([[1., 2.], [3., 4.], [5., 6.]])


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'log.csv'


def write(path, *rows, header='user,item'):
    path.write_text('\n'.join([header, *rows]))
    return path


def labels(data):
    users, items = node_ids(data, 'user'), node_ids(data, 'item')
    pairs = data[INTERACTS].edge_label_index.t().tolist()
    return {(users[u], items[i]) for u, i in pairs}


def rows_of(data, modality):
    r"""The features and the mask of every item by its id."""
    x, ids = data['item'][f'x_{modality}'], node_ids(data, 'item')
    mask = [True] * len(ids)
    if f'has_{modality}' in data['item']:
        mask = data['item'][f'has_{modality}'].tolist()
    return dict(zip(ids, zip(x.tolist(), mask)))


def test_features_follow_their_ids(path, tmp_path):
    write(path, 'ann,c', 'bob,a', 'bob,b')
    (tmp_path / 'items.csv').write_text('item,title\nb,B\nc,C\na,A\n')
    np.save(tmp_path / 'image.npy', IMAGE)
    splits = hetero_data_from_tables(
        path, {'image': tmp_path / 'image.npy', 'text': -IMAGE},
        tmp_path / 'items.csv')
    for data in splits:
        check_data(data)
        assert modalities(data) == ['image', 'text']
        assert node_ids(data, 'user') == ['ann', 'bob']
        assert node_ids(data, 'item') == ['b', 'c', 'a']
        assert rows_of(data, 'image') == {
            'b': ([1, 2], True), 'c': ([3, 4], True), 'a': ([5, 6], True)}
        assert 'has_image' not in data['item']
        assert data['item'].x_text.equal(-data['item'].x_image)
    assert labels(splits[0]) == {('ann', 'c'), ('bob', 'a'), ('bob', 'b')}


@pytest.mark.parametrize('kind', ['list', 'array', 'tensor', 'npy', 'parquet'])
def test_item_ids_of_every_kind(path, tmp_path, kind):
    write(path, 'ann,30', 'ann,10')
    ids = [20, 30, 10]
    given = {'list': ids, 'array': np.array(ids), 'tensor': torch.tensor(ids),
             'npy': tmp_path / 'ids.npy', 'parquet': tmp_path / 'i.parquet'}
    np.save(given['npy'], ids)
    if kind == 'parquet':
        pa = pytest.importorskip('pyarrow')
        import pyarrow.parquet as pq
        pq.write_table(pa.table({'item': ids}), given['parquet'])
    data, _, _ = hetero_data_from_tables(path, {'image': IMAGE}, given[kind])
    assert node_ids(data, 'item') == ids
    assert rows_of(data, 'image')[30] == ([3, 4], True)


def test_every_modality_has_ids_of_its_own(path):
    write(path, 'ann,a', 'ann,b', 'ann,c', 'ann,d')
    text = np.array([[7.], [np.nan]])
    with pytest.warns(UserWarning) as record:
        data, _, _ = hetero_data_from_tables(
            path, {'image': IMAGE, 'text': text},
            {'image': ['c', 'a', 'x'], 'text': ['b', 'c']})
    assert len(record) == 1
    assert str(record[0].message).startswith(
        f"1 of 4 items have no feature row (the first is 'd' in '{path}', "
        f"line 5, column 'item'); they are kept")
    assert node_ids(data, 'item') == ['c', 'a', 'x', 'b', 'd']
    assert rows_of(data, 'image') == {
        'c': ([1, 2], True), 'a': ([3, 4], True), 'x': ([5, 6], True),
        'b': ([0, 0], False), 'd': ([0, 0], False)}
    assert rows_of(data, 'text') == {
        'c': ([0], False), 'a': ([0], False), 'x': ([0], False),
        'b': ([7], True), 'd': ([0], False)}


def test_items_without_ids_are_row_numbers(path):
    write(path, 'ann,2', 'bob,0')
    data, _, _ = hetero_data_from_tables(path, {'image': IMAGE})
    assert node_ids(data, 'item') == [0, 1, 2]
    assert labels(data) == {('ann', 2), ('bob', 0)}


def test_columns_of_any_name(path, tmp_path):
    write(path, '5,a,1,x', '5,b,2,x', '5,c,3,x', header='who,what,when,user')
    (tmp_path / 'items.tsv').write_text('n\twhat\n1\ta\n2\tb\n3\tc\n')
    splits = hetero_data_from_tables(
        path, {'image': IMAGE}, tmp_path / 'items.tsv',
        columns={'user': 'who', 'item': 'what', 'timestamp': 'when'})
    assert [labels(data) for data in splits] == [
        {(5, 'a')}, {(5, 'b')}, {(5, 'c')}]


LOG = [f'{u},{i},{(7 * i + u) % 10},{(i + u) % 5 == 0:d}'
       for u in range(30) for i in range(10)]


def split_log(path, **kwargs):
    write(path, *LOG, header='user,item,timestamp,x_label')
    return hetero_data_from_tables(path, {'image': np.ones((10, 1))}, **kwargs)


def test_ways_to_split(path):
    by_column = [labels(data) for data in split_log(path)]
    assert by_column == [labels(data) for data in split_log(path,
                                                            split='column')]
    assert by_column[1] == {(u, i) for u in range(30) for i in range(10)
                            if (i + u) % 5 == 0}
    by_time = [labels(data) for data in split_log(path, split='time')]
    assert by_time[2] == {(u, i) for u in range(30) for i in range(10)
                          if (7 * i + u) % 10 == 9}
    at_random = [labels(data) for data in split_log(path, split='random')]
    assert list(map(len, at_random)) == [240, 30, 30]
    assert at_random[2] != by_time[2]
    other = split_log(path, split='random', seed=1, val_ratio=0.)
    assert labels(other[2]) != at_random[2] and labels(other[1]) == set()


def test_tables_that_are_split_already(path, tmp_path):
    write(path, 'a,0', 'b,1')
    valid = write(tmp_path / 'valid.csv', 'a,2')
    train, val, test = hetero_data_from_tables({'valid': valid, 'train': path},
                                               {'image': IMAGE})
    assert labels(train) == {('a', 0), ('b', 1)}
    assert labels(val) == {('a', 2)} and labels(test) == set()


def test_repeated_interactions_are_merged_and_counted(path):
    write(path, 'a,0,5', 'a,1,6', 'a,2,7', 'a,0,9', 'a,0,8',
          header='user,item,timestamp')
    with pytest.warns(UserWarning, match='Merged 2 of 5 interactions'):
        splits = hetero_data_from_tables(path, {'image': IMAGE})
    # What is there again counts at its first time, which is the earliest.
    assert [labels(data) for data in splits] == [
        {('a', 0)}, {('a', 1)}, {('a', 2)}]


@pytest.mark.parametrize('content', [
    b'\xef\xbb\xbfuser,item\r\nZo\xc3\xab,0\r\nb,2\r\n',
    b'item\tuser\n0\tZo\xc3\xab\n\n2\tb',
])
def test_marks_and_line_ends_are_no_data(path, content):
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        data, _, _ = hetero_data_from_tables(path, {'image': IMAGE})
    assert labels(data) == {('Zoë', 0), ('b', 2)}


@pytest.mark.parametrize('item_ids', [None, ['a', 'b', 1000000000]])
def test_large_ids_take_no_memory(path, item_ids):
    write(path, '999999999999,1000000000', '-5,1000000000')
    tracemalloc.start()
    if item_ids is None:
        with pytest.raises(DataError, match="log.csv', line 2, column 'item': "
                           "the item '1000000000' is unknown; .* 0..2 of"):
            hetero_data_from_tables(path, {'image': IMAGE})
    else:
        path = write(path, '999999999999,1000000000', '-5,1000000000')
        data, _, _ = hetero_data_from_tables(path, {'image': IMAGE},
                                             list(map(str, item_ids)))
        assert node_ids(data, 'user') == [-5, 999999999999]
        assert labels(data) == {(-5, '1000000000'),
                                (999999999999, '1000000000')}
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize('header, rows, kwargs, match', [
    ('user,item', ['a,0'], dict(columns={'user': 'uid'}),
     "line 1: the header 'user,item' lacks the columns uid; rename"),
    ('user,item', ['a,0'], dict(columns={'timestamp': 'tiem'}),
     'lacks the columns tiem'),
    ('user,item', ['a,0'], dict(split='time'), 'lacks the columns timestamp'),
    ('user,item', ['a,0'], dict(split='column'), 'lacks the columns split'),
    ('user,item', ['a,0', 'b;1'], {}, "line 3: 1 values, but the header ha"),
    ('user,item', ['a,0', ',1'], {}, "line 3, column 'user': the id is empty"),
    ('user,item', ['a,0', '1,1.0'], {},
     "line 3, column 'item': the id '1.0' is a decimal number"),
    ('user,item', [], {}, 'holds no interaction; add some'),
    ('user,item', ['a,0'], dict(item_ids=['A', 'B', 'C']),
     "line 2, column 'item': no item has a feature row; items are called '0' "
     "here, and 'A' in the list of feature rows; use the same ids"),
    ('user,item,timestamp', ['a,0,soon'], {},
     "line 2, column 'timestamp': 'soon' is no time"),
    ('user,item,split', ['a,0,0', 'a,1,3'], {},
     "line 3, column 'split': '3' is no split; use train, val"),
])
def test_bad_tables(path, header, rows, kwargs, match):
    write(path, *rows, header=header)
    with pytest.raises(DataError, match=f"log.csv'.*{match}") as info:
        hetero_data_from_tables(path, {'image': IMAGE}, **kwargs)
    assert '\n' not in str(info.value)


@pytest.mark.parametrize('features, item_ids, match', [
    ({}, None, "'features' is empty"),
    ({'image': IMAGE}, ['a', 'b'],
     "'features of image' has 3 rows, but 'item_ids' has 2 items"),
    ({'image': IMAGE, 'text': IMAGE[1:]}, None,
     "'features of text' has 2 rows, but 'features of image' has 3 items"),
    ({'image': IMAGE}, ['a', 'b', 'a'],
     "'item_ids', row 2, column 'item': the item 'a' is listed a second"),
    ({'image': IMAGE}, {'text': ['a', 'b', 'c']},
     "'item_ids' lacks the modality 'image'"),
    ({'image': IMAGE * np.inf}, None, "'features of image', row 0: NaN or in"),
    ({'image': IMAGE[0]}, None, r"modality 'image' have .*shape \[2\]"),
    ({'image': 'nowhere.npy'}, None, "'nowhere.npy' does not exist"),
])
def test_bad_features(path, features, item_ids, match):
    write(path, 'ann,a')
    with pytest.raises(DataError, match=match):
        hetero_data_from_tables(path, features, item_ids)


def test_item_ids_must_be_integers_or_text(path, tmp_path):
    np.save(tmp_path / 'ids.npy', IMAGE[:, 0])
    with pytest.raises(DataError, match='ids.npy.* again with integers or te'):
        hetero_data_from_tables(write(path, 'a,b'), {'image': IMAGE},
                                tmp_path / 'ids.npy')


@pytest.mark.parametrize('kwargs, match', [
    (dict(columns={'uid': 'user'}), "'columns' names 'uid'; it may name user"),
    (dict(split='tiem'), "'split' must be one of column, time, random"),
    (dict(interactions={}, split='time'), "'split' .* split already"),
    (dict(val_ratio=0.6, test_ratio=0.6), 'less than 1 together'),
])
def test_bad_options(path, kwargs, match):
    kwargs = {'interactions': write(path, 'a,0'), **kwargs}
    with pytest.raises(ConfigError, match=match):
        hetero_data_from_tables(features={'image': IMAGE}, **kwargs)


@pytest.mark.parametrize('interactions, match', [
    ({'dev': 'log.csv'}, "interactions of 'dev' belong to no split"),
    ({}, "'interactions' is empty"),
    (5, "'interactions' is no table, but a 'int'"),
])
def test_bad_interactions(interactions, match):
    with pytest.raises(DataError, match=match):
        hetero_data_from_tables(interactions, {'image': IMAGE})
