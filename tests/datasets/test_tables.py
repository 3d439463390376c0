import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffmm_pyg.datasets.tables import read_csv, read_table
from diffmm_pyg.errors import DataError

NAMES = ['user', 'item']


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'x.csv'


def read(path, content, **kwargs):
    path.write_bytes(content)
    return read_csv(str(path), NAMES, **kwargs)


@pytest.mark.parametrize('content', [
    b'user,item\na,1\nb,2\n',
    b'user,item\na,1\nb,2',
    b'user,item\r\na,1\r\nb,2\r\n',
    b'user,item\ra,1\rb,2\r',
    b'\xef\xbb\xbfuser,item\na,1\nb,2\n',
    b'\xef\xbb\xbf"user","item"\r\n"a","1"\r\n"b","2"\r\n',
    b'user\titem\na\t1\nb\t2\n',
    b'item;rating;user\n1;5.0;a\n2;3.0;b\n',
    b'user|item\na|1\nb|2\n',
    b'user item\na 1\nb 2\n',
    b' User , ITEM \n a , 1 \n b , 2 \n',
    b'user,item\n\na,1\n\nb,2\n\n',
])
def test_read_csv(path, content):
    table = read(path, content)
    assert table.ids('user') == ['a', 'b']
    assert table.ids('item') == ['1', '2']
    assert set(table.columns) == {'user', 'item'}


def test_read_csv_keeps_ids_as_written(path):
    table = read(path, 'user,item\n007,"a, b"\n7,"c\nd"\nZoë,""""\n'.encode())
    assert table.ids('user') == ['007', '7', 'Zoë']
    assert table.ids('item') == ['a, b', 'c\nd', '"']
    assert table.lines == [2, 4, 5]


@pytest.mark.parametrize('content, match', [
    (b'\n', "line 1: the header '' lacks the columns user, item"),
    (b'a,1\nb,2\n', "line 1: the header 'a,1' lacks"),
    (b'who,item_id\n1,2\n', "header 'who,item_id' lacks the columns user;"),
    (b'user,user_id,item\n', "'user' and 'user_id' may both be the column"),
    (b'user,item\na,1\nb\n', 'line 3: 1 values, but the header has 2'),
    (b'user,item\na;1\n', "line 2: 1 values, .* has 2, separated by ','"),
    (b'user,item\na,1,5\n', 'line 2: 3 values'),
    (b'user,item\na,"1\n', 'line 2: '),
    (b'user,item\na,"1"2\n', 'line 2: '),
    (b'user,item\n\xff\xfe,1\n', 'line 2: not encoded in UTF-8'),
    (b'user,item\n' + b'a,1\n' * 5000 + b'\xff,1\n', 'line 5002: not'),
    (b'user,item\ra,1\rb,\xff\r', 'line 3: not'),
    (b'user,item\na,1\n\xc3', 'line 3: not'),
    (b'user,item\n' + b'a' * 200_000 + b',1\n', 'line 2: field larger'),
])
def test_read_csv_names_the_line(path, content, match):
    with pytest.raises(DataError, match=f"x.csv.*{match}"):
        read(path, content)


@settings(max_examples=100, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_read_csv_of_random_bytes(path, content):
    for start in [b'', b'user,item\n']:
        try:
            table = read(path, start + content)
            assert len(table.columns['user']) == len(table.columns['item'])
        except DataError as e:
            assert 'x.csv' in str(e)


def test_empty_id(path):
    table = read(path, b'user,item\na,1\n ,2\n')
    with pytest.raises(DataError, match="line 3, column 'user': .* is empty"):
        table.ids('user')


@pytest.mark.parametrize('values, expected', [
    (['3', '1', '2'], [3, 1, 2]),
    (['1700000000000000001', '1700000000000000000'],
     [1700000000000000001, 1700000000000000000]),
    (['1e3', '-2.5'], [1000, -2.5]),
    (['1970-01-01', '1970-01-02T00:00:01'], [0, 86401 * 10**6]),
    (['1970-01-01T00:00:01Z'], [10**6]),
])
def test_times(path, values, expected):
    rows = ''.join(f'u,i,{value}\n' for value in values)
    table = read(path, f'user,item,timestamp\n{rows}'.encode(),
                 optional=['timestamp'])
    assert table.times('timestamp').tolist() == expected


@pytest.mark.parametrize('value', ['', 'soon', 'nan', 'inf', '2024-13-01'])
def test_times_name_the_line(path, value):
    content = f'user,item,timestamp\nu,i,2024-01-01\nu,i,{value}\n'.encode()
    table = read(path, content, optional=['timestamp'])
    with pytest.raises(DataError, match="line 3, column 'timestamp': .*time"):
        table.times('timestamp')


def test_times_mixed(path):
    content = b'user,item,timestamp\nu,i,5\nu,i,2024-01-01T00:00:00\n'
    table = read(path, content, optional=['timestamp'])
    with pytest.raises(DataError, match='numbers and dates are mixed'):
        table.times('timestamp')


@pytest.mark.parametrize('header, columns', [
    ('userID:token\titemID:token\trating:float\ttimestamp:float\tx_label', {}),
    ('user_id:token\titem_id:token\tr:float_seq\ttimestamp:float\tsplit', {}),
    ('User ID;ASIN;rating;Unix Time;fold',
     {'user': 'user id', 'item': 'ASIN', 'timestamp': 'unix time',
      'split': 'fold'}),
])
def test_read_table_by_other_names(path, header, columns):
    separator = ';' if ';' in header else '\t'
    row = separator.join(['007', 'B1', '4.5', '12', '2'])
    path.write_text(f'{header}\n{row}\n')
    table = read_table(str(path), NAMES, ['timestamp', 'split'], columns)
    assert table.columns == {'user': ['007'], 'item': ['B1'],
                             'timestamp': ['12'], 'split': ['2']}
    with pytest.raises(DataError) as info:
        table.fail(0, 'user', 'so')
    name = header.split(separator)[0]
    assert str(info.value) == f"'{path}', line 2, column '{name}': so"


def test_read_table_prefers_the_names_given(path):
    path.write_text('user,user_id,item\na,b,c\n')
    table = read_table(path, NAMES, columns={'user': 'user_id'})
    assert table.columns == {'user': ['b'], 'item': ['c']}


@pytest.mark.parametrize('content, match', [
    (b'', 'is empty; give a table with a header'),
    (b'\x1f\x8b\x08\0', 'is compressed; unpack it first'),
    (b'PK\x03\x04', 'is a ZIP archive or a workbook'),
    (pickle.dumps([1]), "is a pickle; 'read_matrix' reads"),
    ('user,item'.encode('utf-16'), 'is encoded in UTF-16'),
    (b'PAR1', 'is damaged or no Parquet file'),
])
def test_read_table_of_other_files(path, content, match):
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"x.csv' {match}"):
        read_table(path, NAMES)


def test_read_table_missing(tmp_path):
    with pytest.raises(DataError, match="x.csv' does not exist"):
        read_table(tmp_path / 'x.csv', NAMES)


class Frame(dict):
    r"""What data frames have in common."""
    @property
    def columns(self):
        return list(self)


def test_read_frame():
    frame = Frame(item=np.array(['x', 'y'], object), user=np.array([7, -1]),
                  rating=[1, 2])
    table = read_table(frame, NAMES, ['timestamp'])
    assert table.ids('user') == ['7', '-1']
    assert table.ids('item') == ['x', 'y']
    assert set(table.columns) == {'user', 'item'}


def test_read_arrow_table():
    pa = pytest.importorskip('pyarrow')
    table = read_table(pa.table({'user': ['a'], 'item': [5]}), NAMES)
    assert table.ids('user') == ['a'] and table.ids('item') == ['5']


def test_read_pandas():
    pd = pytest.importorskip('pandas')
    time = pd.to_datetime(['2024-01-02', '2024-01-01'], utc=True)
    table = read_table(pd.DataFrame({'user': ['a', None], 'item': [1, 2],
                                     'timestamp': time}), NAMES, ['timestamp'])
    assert table.ids('item') == ['1', '2']
    assert table.times('timestamp').argsort().tolist() == [1, 0]
    with pytest.raises(DataError, match="'table', row 1, column 'user': .*em"):
        table.ids('user')


@pytest.mark.parametrize('frame, match', [
    (Frame(user=['a'], what=['b']), "'log': .*'user,what' lacks .* item;"),
    ([['a', 'b']], "'log' is no table, but a 'list'"),
])
def test_read_frame_errors(frame, match):
    with pytest.raises(DataError, match=match):
        read_table(frame, NAMES, name='log')
