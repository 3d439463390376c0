import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmm_pyg.datasets.raw import read_matrix
from diffmm_pyg.datasets.safe_pickle import from_buffer
from diffmm_pyg.errors import DataError


@pytest.mark.parametrize('fmt', ['coo', 'csr', 'csc'])
@pytest.mark.parametrize('kind', ['matrix', 'array'])
@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_read_matrix_equals_pickle(tmp_path, fmt, kind, protocol):
    dense = np.random.default_rng(0).integers(0, 2, (7, 5)).astype(np.float32)
    matrix = getattr(sp, f'{fmt}_{kind}')(dense)
    path = tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps(matrix, protocol))
    out = read_matrix(str(path))
    assert out.shape == (7, 5)
    assert (out.toarray() == dense).all()


@pytest.mark.parametrize('old, new', [
    (b'scipy.sparse._coo', b'scipy.sparse.coo'),
    (b'numpy._core.multiarray', b'numpy.core.multiarray'),
])
def test_read_matrix_of_other_versions(tmp_path, old, new):
    matrix = sp.coo_matrix(np.eye(3))
    content = pickle.dumps(matrix, protocol=3)
    other = content.replace(old, new)
    if other == content:  # The installed version is the other one.
        other = content.replace(new, old)
    assert other != content
    path = tmp_path / 'x.pkl'
    path.write_bytes(other)
    assert (read_matrix(str(path)).toarray() == np.eye(3)).all()


def test_read_matrix_of_numpy_scalars_and_big_endian(tmp_path):
    matrix = sp.coo_matrix(np.eye(2))
    matrix.data = matrix.data.astype('>f2')
    matrix._shape = (np.int64(2), np.int64(2))
    path = tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps(matrix, 2))
    assert (read_matrix(str(path)).toarray() == np.eye(2)).all()


def test_read_matrix_leaves_out_zeros(tmp_path):
    matrix = sp.coo_matrix(([1., 0.], ([0, 1], [0, 1])), (2, 2))
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(matrix))
    out = read_matrix(str(tmp_path / 'x.pkl'))
    assert out.row.tolist() == [0] and out.col.tolist() == [0]


class Nested:
    def __init__(self, attack):
        self.attack = attack

    def __reduce__(self):
        return sp.coo_matrix, ((self.attack, 1), )


@pytest.mark.parametrize('protocol', [0, 2, 5])
@pytest.mark.parametrize('wrap', [
    lambda attack: attack,
    lambda attack: [{'data': (attack, )}],
    lambda attack: Nested(attack),
    lambda attack: np.array([attack, attack], dtype=object),
])
def test_read_matrix_runs_nothing(tmp_path, attack, wrap, protocol):
    path = tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps(wrap(attack), protocol))
    with pytest.raises(DataError, match=r"x\.pkl' is not read"):
        read_matrix(str(path))


@pytest.mark.parametrize('module, name', [
    ('os', 'system'),
    ('posix', 'system'),
    ('builtins', 'eval'),
    ('numpy', 'load'),
    ('numpy.core.multiarray', 'fromfile'),
    ('scipy.sparse', 'load_npz'),
    ('scipy.sparse.coo', 'coo_matrix.__init__'),
    ('torch', 'load'),
])
def test_read_matrix_names_what_is_refused(tmp_path, attack, module, name):
    call = f'c{module}\n{name}\n(Vtouch {attack.path}\ntR.'.encode()
    (tmp_path / 'x.pkl').write_bytes(call)
    with pytest.raises(DataError, match='wants to run .* which is refused'):
        read_matrix(str(tmp_path / 'x.pkl'))


def test_read_matrix_cannot_change_the_reader(tmp_path):
    # BUILD sets attributes of whatever is on the stack, functions included.
    call = b'cnumpy.core.numeric\n_frombuffer\n(N}(V__defaults__\n(K\x01tutb.'
    (tmp_path / 'x.pkl').write_bytes(call)
    with pytest.raises(DataError):
        read_matrix(str(tmp_path / 'x.pkl'))
    assert from_buffer.__defaults__ is None


@pytest.mark.parametrize('matrix', [
    np.eye(3),
    [1, 2],
    None,
    sp.coo_matrix((0, 3)),
    sp.lil_matrix(np.eye(3)),
])
def test_read_matrix_of_another_kind(tmp_path, matrix):
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(matrix))
    with pytest.raises(DataError, match=r"x\.pkl' is not read"):
        read_matrix(str(tmp_path / 'x.pkl'))


@pytest.mark.parametrize('change', [
    dict(row=np.array([0, 9])),
    dict(row=np.array([0, -1])),
    dict(row=np.array([0.5, 1.])),
    dict(row=np.array([0])),
    dict(_shape=(2, 2, 2)),
    dict(_shape=(2**40, 2)),
    dict(_shape='ab'),
    dict(data=None),
])
def test_read_matrix_of_bad_values(tmp_path, change):
    matrix = sp.coo_matrix(np.eye(2))
    state = dict(matrix.__dict__)
    state.pop('coords', None)
    state.update(row=matrix.row, col=matrix.col, data=matrix.data)
    matrix.__dict__.clear()
    matrix.__dict__.update(state, **change)
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(matrix))
    with pytest.raises(DataError, match=r"x\.pkl' is not read"):
        read_matrix(str(tmp_path / 'x.pkl'))


@pytest.mark.parametrize('indptr', [[0, 1, 9], [0, 2, 1], [1, 1, 2], [0, 2]])
def test_read_matrix_of_bad_indptr(tmp_path, indptr):
    matrix = sp.csr_matrix(np.eye(2))
    matrix.indptr = np.array(indptr)
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(matrix))
    with pytest.raises(DataError, match='indptr'):
        read_matrix(str(tmp_path / 'x.pkl'))


@settings(max_examples=60)
@given(data=st.data())
def test_read_matrix_damaged(tmp_path, data):
    content = pickle.dumps(sp.coo_matrix(np.eye(4)), 4)
    path = tmp_path / 'x.pkl'
    path.write_bytes(content[:data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError, match=r'x\.pkl'):
        read_matrix(str(path))
    pos = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1))
    path.write_bytes(content[:pos] + byte + content[pos + 1:])
    try:
        assert read_matrix(str(path)).nnz <= 4
    except DataError:
        pass


@settings(max_examples=60)
@given(content=st.binary(max_size=60))
def test_read_matrix_of_random_bytes(tmp_path, content):
    (tmp_path / 'x.pkl').write_bytes(content)
    with pytest.raises(DataError, match=r'x\.pkl'):
        read_matrix(str(tmp_path / 'x.pkl'))


HUGE = {
    'bytes': b'\x80\x04\x8e' + struct.pack('<Q', 2**30) + b'x.',
    'bytearray': b'\x80\x05\x96' + struct.pack('<Q', 2**30) + b'x.',
    'text': b'\x80\x04\x8d' + struct.pack('<Q', 2**30) + b'x.',
    'memo': b'\x80\x04Nr' + struct.pack('<I', 2**27) + b'.',
    'put': b'Np130000000\n.',
    'frame': b'\x80\x04\x95' + struct.pack('<Q', 2**30) + b'N.',
}


@pytest.mark.parametrize('kind', HUGE)
def test_read_matrix_allocates_nothing_that_is_only_claimed(tmp_path, kind):
    (tmp_path / 'x.pkl').write_bytes(HUGE[kind])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r'x\.pkl'):
            read_matrix(str(tmp_path / 'x.pkl'))
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('wrap', [
    lambda nested: b'}X\x06\x00\x00\x00_shape' + nested + b's',
    lambda nested: b'}' + nested + b'Ns',  # Whose hash is that of all parts.
    lambda nested: b'\x8f(' + nested + b'\x90',
])
@pytest.mark.parametrize('repeat', [
    lambda i: b'q%ch%c\x86' % (i, i),
    lambda i: b'2\x86',
    lambda i: b'N0q%ch%c\x86' % (i, i),
    lambda i: b'\x94h%c\x86' % i,
])
def test_read_matrix_of_parts_within_each_other(tmp_path, wrap, repeat):
    nested = b')' + b''.join(map(repeat, range(60)))
    (tmp_path / 'x.pkl').write_bytes(
        b'\x80\x04cscipy.sparse._coo\ncoo_matrix\n)\x81'
        + wrap(nested) + b'b.')
    with pytest.raises(DataError, match='parts is in several places'):
        read_matrix(str(tmp_path / 'x.pkl'))


def test_read_matrix_of_frames_that_end_within_operations(tmp_path):
    # The C unpickler then reads other operations than are there: a length of
    # 10^18 within what is a number.
    content = pickle.dumps(sp.csr_matrix(np.eye(5, dtype=np.float32)), 5)
    minus_one = struct.pack('<Bi', ord('J'), -1)
    assert minus_one in content
    path, refused = tmp_path / 'x.pkl', []
    for size in range(100, 140):
        number = struct.pack('BB', 0x8a, size) + b'\xff' * size
        path.write_bytes(content.replace(minus_one, number, 1))
        try:
            read_matrix(str(path))
        except DataError as e:
            refused.append('frames do not hold whole operations' in str(e))
    assert len(refused) > 10 and all(refused)
