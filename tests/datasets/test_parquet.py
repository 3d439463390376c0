import builtins

import numpy as np
import pytest

from diffmm_pyg.datasets import hetero_data_from_tables, parquet
from diffmm_pyg.datasets.parquet import read_parquet
from diffmm_pyg.errors import DataError, MissingExtraError

NAMES = ['user', 'item']


def write_parquet(path, options=None, **columns):
    pa = pytest.importorskip('pyarrow')
    import pyarrow.parquet as pq
    pq.write_table(pa.table(columns), path, **(options or {}))


def test_read_parquet(tmp_path):
    path = str(tmp_path / 'x.parquet')
    time = np.array(['2024-01-02', '2024-01-01'], dtype='datetime64[ns]')
    write_parquet(path, item=['x', 'y'], user=[7, -1], timestamp=time,
                  rating=[1., 2.])
    table = read_parquet(path, NAMES, ['timestamp', 'split'])
    assert table.ids('user') == ['7', '-1']
    assert table.ids('item') == ['x', 'y']
    assert set(table.columns) == {'user', 'item', 'timestamp'}
    assert table.times('timestamp').argsort().tolist() == [1, 0]


@pytest.mark.parametrize('values, match', [
    ([1., 2.], 'neither an integer nor text'),
    ([True, False], 'neither an integer nor text'),
    ([b'a', b'b'], 'neither an integer nor text'),
    (['a', None], "row 1, column 'user': the id is empty"),
])
def test_read_parquet_of_other_ids(tmp_path, values, match):
    path = str(tmp_path / 'x.parquet')
    write_parquet(path, user=values, item=[1, 2])
    with pytest.raises(DataError, match=match):
        read_parquet(path, NAMES).ids('user')


def test_read_parquet_time_missing(tmp_path):
    path = str(tmp_path / 'x.parquet')
    write_parquet(path, user=[1, 2], item=[1, 2], timestamp=[5, None])
    with pytest.raises(DataError, match="row 1, column 'timestamp'"):
        read_parquet(path, NAMES, ['timestamp']).times('timestamp')


def test_read_parquet_lacks_a_column(tmp_path):
    path = str(tmp_path / 'x.parquet')
    write_parquet(path, user=[1], what=[2])
    with pytest.raises(DataError, match="'user,what' lacks the columns item"):
        read_parquet(path, NAMES)


def test_read_parquet_that_claims_too_many_rows(tmp_path):
    path = str(tmp_path / 'x.parquet')
    write_parquet(path, user=np.zeros(10**6, np.int8),
                  item=np.zeros(10**6, np.int8))
    with pytest.raises(DataError, match='it claims 1000000 rows'):
        read_parquet(path, NAMES)


def test_read_parquet_damaged(tmp_path):
    path = tmp_path / 'x.parquet'
    write_parquet(str(path), user=list(range(100)), item=list(range(100)))
    content = path.read_bytes()
    for end in range(0, len(content), 97):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match='x.parquet'):
            read_parquet(str(path), NAMES)


def test_read_parquet_without_pyarrow(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.startswith('pyarrow'):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', fail)
    with pytest.raises(MissingExtraError, match=r'diffmm_pyg\[parquet\]'):
        read_parquet(str(tmp_path / 'x.parquet'), NAMES)


@pytest.mark.parametrize('options', [
    {},
    {'compression': 'none', 'use_dictionary': False},
    {'compression': 'zstd', 'data_page_version': '2.0'},
    {'compression': 'gzip', 'row_group_size': 70, 'data_page_size': 64},
    {'use_dictionary': False, 'column_encoding': {
        'user': 'DELTA_BYTE_ARRAY', 'item': 'DELTA_BINARY_PACKED'}},
    {'store_schema': False, 'write_statistics': False},
])
def test_read_parquet_of_many_pages(tmp_path, monkeypatch, options):
    path = str(tmp_path / 'x.parquet')
    users = [f'user-{i % 70}' for i in range(500)]
    write_parquet(path, options, user=users, item=list(range(500)),
                  other=[[1, 2]] * 500)
    for limit in [2**22, 2000]:  # Read at a time: all rows, and few.
        monkeypatch.setattr(parquet, 'MIN_BYTES', limit)
        monkeypatch.setattr(parquet, 'MAX_BYTES_PER_BYTE', 4)
        table = read_parquet(path, NAMES)
        assert table.ids('user') == users
        assert table.ids('item') == [str(i) for i in range(500)]


@pytest.mark.parametrize('values', [
    [[1], [2]],
    [{'a': 1}, {'a': 2}],
])
def test_read_parquet_of_lists(tmp_path, values):
    path = str(tmp_path / 'x.parquet')
    write_parquet(path, user=values, item=[1, 2])
    with pytest.raises(DataError, match='a column holds no plain values'):
        read_parquet(path, NAMES)


@pytest.mark.parametrize('options', [
    {'compression': 'zstd'},
    {'compression': 'zstd', 'use_dictionary': False},
    {'compression': 'zstd', 'use_dictionary': False,
     'column_encoding': {'user': 'DELTA_BYTE_ARRAY', 'item': 'PLAIN'}},
])
def test_memory_of_a_long_value_in_every_row(tmp_path, options):
    # 100 MB of text in a file of kilobytes:
    pa = pytest.importorskip('pyarrow')
    path = str(tmp_path / 'x.parquet')
    write_parquet(path, options, user=['u' * 10**5] * 1000,
                  item=list(range(1000)))
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(DataError, match=r'unpacks to|more than 256'):
            read_parquet(path, NAMES).ids('user')
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 20 * 10**6


def first_page(content, number):
    r"""The first page says that it unpacks to another size."""
    out, size = b'', number << 1
    while size > 127:
        out, size = out + bytes([size & 127 | 128]), size >> 7
    start = content.index(b'\x15', 6) + 1
    out += bytes([size])
    return content[:start] + out + content[start + len(out):]


@pytest.mark.parametrize('number', [2**24, 2**31 - 1])
def test_page_that_claims_to_be_large(tmp_path, number):
    path = tmp_path / 'x.parquet'
    write_parquet(str(path), user=[1, 2, 1], item=[1, 2, 2])
    path.write_bytes(first_page(path.read_bytes(), number))
    with pytest.raises(DataError, match='is damaged or no Parquet file'):
        read_parquet(str(path), NAMES)


def repeat_row_group(content, times):
    r"""The footer lists the only row group several times."""
    size = int.from_bytes(content[-8:-4], 'little')
    start = content.index(b'\x19\x1c\x19', len(content) - 8 - size)
    _, end = parquet.read_struct(content, start + 2)
    footer = content[len(content) - 8 - size:start] + (
        bytes([0x19, 0xfc, times]) + content[start + 2:end] * times
        + content[end:-8])
    return content[:-8 - size] + footer + (
        len(footer).to_bytes(4, 'little') + b'PAR1')


@pytest.mark.parametrize('times', [1, 100])
def test_row_groups_of_the_same_pages(tmp_path, times):
    path = tmp_path / 'x.parquet'
    ids = [f'{i:0100}' for i in range(100)]
    write_parquet(str(path), {'compression': 'none'}, user=ids, item=ids)
    path.write_bytes(repeat_row_group(path.read_bytes(), times))
    if times == 1:
        assert read_parquet(str(path), NAMES).ids('item') == ids
    else:
        with pytest.raises(DataError, match='its pages overlap'):
            read_parquet(str(path), NAMES)


@pytest.mark.parametrize('options', [
    {}, {'use_dictionary': False}, {'data_page_version': '2.0'}])
def test_row_groups_of_no_rows(tmp_path, options):
    pa = pytest.importorskip('pyarrow')
    import pyarrow.parquet as pq
    path = str(tmp_path / 'x.parquet')
    table = pa.table({'user': ['a', 'b'], 'item': [7, 8]})
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        for num_rows in [2, 0, 1]:
            writer.write_table(table.slice(0, num_rows))
    assert read_parquet(path, NAMES).ids('user') == ['a', 'b', 'a']
    assert read_parquet(path, NAMES).ids('item') == ['7', '8', '7']
    pq.write_table(table.slice(0, 0), path, **options)
    assert read_parquet(path, NAMES).ids('user') == []
    with pytest.raises(DataError, match="x.parquet' holds no interaction"):
        hetero_data_from_tables(path, {'image': np.ones((2, 2))}, ['7', '8'])


def test_pages_of_no_bytes(tmp_path, monkeypatch):
    path = str(tmp_path / 'x.parquet')
    write_parquet(path, user=['a'], item=[7])
    monkeypatch.setattr(parquet, 'page_sizes', lambda *args: [0, 0])
    assert read_parquet(path, NAMES).ids('user') == ['a']
