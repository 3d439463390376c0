r"""Whatever is in the files of one's own data: they are read, or refused by
an error of this package, in one line.
"""
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diffmm_pyg.datasets import hetero_data_from_tables
from diffmm_pyg.datasets.tables import read_table
from diffmm_pyg.errors import DiffMMError
from diffmm_pyg.typing import INTERACTS

TABLES = [
    b'user,item\na,x\nb,y\na,y\n',
    b'\xef\xbb\xbfuser;item;timestamp\r\n1;x;5\r\n2;y;7\r\n1;"y";9\r\n',
    b'userID:token\titemID:token\trating:float\ttimestamp:float\tx_label\n'
    b'0\tx\t5.0\t1.5e9\t0\n1\ty\t1.0\t1.6e9\t2\n',
    b'user,item,split\na,x,train\nb,y,test\na,y,val\n',
]
# What breaks tables: separators, quotes, numbers, marks, and no text.
PIECES = [b'', b',', b'\t', b'"', b'\n', b'\r', b'\0', b'\xff', b'nan', b'-1',
          b'1000000000', b'1e999', b'9' * 40, b'\xef\xbb\xbf', b'a' * 300]
FEATURES = np.ones((3, 2))


@st.composite
def mutated(draw, contents):
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.integers(0, 8))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
        content = content[:start] + piece + content[end:]
    return content


def build(path, content, item_ids=('x', 'y', 'z'), x=FEATURES):
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            splits = hetero_data_from_tables(path, {'image': x}, item_ids)
    except DiffMMError as e:
        assert '\n' not in str(e) and len(str(e)) < 1000
    else:
        assert splits[0][INTERACTS].edge_index.size(1) <= len(content)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('fuzz')


@settings(max_examples=100)
@given(content=st.binary(max_size=80))
def test_any_bytes(folder, content):
    build(folder / 'log.csv', content)
    build(folder / 'log.csv', b'user,item,timestamp\n' + content)


@settings(max_examples=200)
@given(content=mutated(TABLES))
@example(content=b'user,item\n' + b'"a\n,x\n' * 100)
def test_any_damage_to_a_text_file(folder, content):
    build(folder / 'log.csv', content)


@settings(max_examples=100)
@given(content=mutated([b'item,title\nx,X\ny,"Y, or so"\nz,Z\n']))
def test_any_damage_to_the_list_of_items(folder, content):
    (folder / 'items.csv').write_bytes(content)
    build(folder / 'log.csv', TABLES[0], folder / 'items.csv')


@settings(max_examples=100)
@given(data=st.data())
def test_any_damage_to_array_files(folder, data):
    for name, array in [('x', np.ones((3, 2))), ('ids', ['x', 'y', 'z'])]:
        np.save(folder / f'{name}.npy', array)
        content = data.draw(mutated([(folder / f'{name}.npy').read_bytes()]))
        (folder / f'{name}.npy').write_bytes(content)
    build(folder / 'log.csv', TABLES[0], folder / 'ids.npy')
    build(folder / 'log.csv', TABLES[0], x=folder / 'x.npy')


@settings(max_examples=150)
@given(data=st.data())
def test_any_damage_to_a_parquet_file(folder, data):
    pa = pytest.importorskip('pyarrow')
    import pyarrow.parquet as pq
    pq.write_table(pa.table({
        'user': [1, 2, 1], 'item': ['x', 'y', 'y'], 'timestamp': [1., 2., 3.]
    }), folder / 'log.parquet')
    content = (folder / 'log.parquet').read_bytes()
    build(folder / 'log.parquet', data.draw(mutated([content])))


class Frame(dict):
    columns = property(list)


value = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(),
                  st.text(max_size=4), st.binary(max_size=2),
                  st.datetimes())


@settings(max_examples=150)
@given(st.lists(st.tuples(value, value, value), max_size=4))
def test_any_values_of_a_data_frame(rows):
    frame = Frame({
        name: np.array([row[i] for row in rows] + [None], object)[:-1]
        for i, name in enumerate(['user', 'item', 'timestamp'])
    })
    table = read_table(frame, ['user', 'item', 'timestamp'])
    for read, column in [(table.ids, 'user'), (table.ids, 'item'),
                         (table.times, 'timestamp')]:
        try:
            assert len(read(column)) == len(rows)
        except DiffMMError as e:
            assert '\n' not in str(e)
