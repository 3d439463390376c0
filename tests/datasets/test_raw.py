import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmm_pyg.datasets.raw import read_features, read_npy
from diffmm_pyg.errors import DataError


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64', 'int8'])
def test_read_features_promotes(tmp_path, dtype):
    value = np.array([[1, 2, 3], [100, 0, -5]], dtype=dtype)
    np.save(tmp_path / 'x.npy', value)
    x, mask = read_features(str(tmp_path / 'x.npy'), num_items=2)
    assert x.dtype == torch.float
    assert x.tolist() == [[1, 2, 3], [100, 0, -5]]
    assert mask is None


def test_read_features_of_half_precision_can_be_summed(tmp_path):
    np.save(tmp_path / 'x.npy', np.full((2, 40), 6e4, np.float16))
    x, _ = read_features(str(tmp_path / 'x.npy'))
    assert x.sum() == 80 * float(np.float16(6e4))


def test_read_features_masks_rows_of_nan(tmp_path):
    nan = float('nan')
    np.save(tmp_path / 'x.npy', np.array([[1, 2], [nan, nan], [0, 0]]))
    _, mask = read_features(str(tmp_path / 'x.npy'))
    assert mask.tolist() == [True, False, True]


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e300])
def test_read_features_names_the_bad_row(tmp_path, value):
    np.save(tmp_path / 'x.npy', np.array([[1., 2.], [3., value]]))
    with pytest.raises(DataError, match=r"x\.npy', row 1: NaN or infinite"):
        read_features(str(tmp_path / 'x.npy'))


@pytest.mark.parametrize('shape', [(3, ), (3, 0), (0, 3), (1, 1, 1)])
def test_read_features_shape(tmp_path, shape):
    np.save(tmp_path / 'x.npy', np.zeros(shape))
    with pytest.raises(DataError, match='x.npy'):
        read_features(str(tmp_path / 'x.npy'))


def test_read_features_number_of_rows(tmp_path):
    np.save(tmp_path / 'x.npy', np.zeros((3, 2)))
    with pytest.raises(DataError, match='has 3 rows, but there are 4 items'):
        read_features(str(tmp_path / 'x.npy'), num_items=4)


def test_read_npy_missing(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        read_npy(str(tmp_path / 'x.npy'))


@pytest.mark.parametrize('order', '<>')
def test_read_npy_of_text(tmp_path, order):
    path = tmp_path / 'x.npy'
    np.save(path, np.array(['a', 'Zoë', '\U0010ffff'], f'{order}U3'))
    assert read_npy(str(path), 'iuU').tolist() == ['a', 'Zoë', '\U0010ffff']
    with pytest.raises(DataError, match='again with real numbers'):
        read_npy(str(path))
    path.write_bytes(path.read_bytes()[:-12] + b'\x11' * 12)  # None such
    with pytest.raises(DataError, match='x.npy.*characters that do not exist'):
        read_npy(str(path), 'iuU')


def test_read_npy_never_unpickles(tmp_path, attack):
    path = tmp_path / 'x.npy'
    np.save(path, np.array([attack], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match='x.npy'):
        read_npy(str(path))
    path.write_bytes(pickle.dumps(attack))
    with pytest.raises(DataError, match='x.npy'):
        read_npy(str(path))


@settings(max_examples=60)
@given(data=st.data())
def test_read_npy_damaged(tmp_path, data):
    path = tmp_path / 'x.npy'
    np.save(path, np.arange(24, dtype=np.float32).reshape(4, 6))
    content = path.read_bytes()
    end = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:end])
    with pytest.raises(DataError, match='x.npy'):
        read_npy(str(path))
    pos = data.draw(st.integers(0, 127))
    byte = data.draw(st.binary(min_size=1, max_size=1))
    path.write_bytes(content[:pos] + byte + content[pos + 1:])
    try:
        assert read_npy(str(path)).nbytes <= len(content)
    except DataError:
        pass


@pytest.mark.parametrize('shape', ['(1099511627776, 4)', '(4, -1)', '(4,'])
def test_read_npy_allocates_nothing_that_is_only_claimed(tmp_path, shape):
    header = (f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
              .ljust(117) + '\n').encode()
    content = b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header
    (tmp_path / 'x.npy').write_bytes(content + bytes(64))
    with pytest.raises(DataError, match=r'x\.npy'):
        read_npy(str(tmp_path / 'x.npy'))


@pytest.mark.parametrize('content', [
    # Values without a size, of which there may be any number:
    b'\x93NUMPY\x01\x00v\x00' + (
        b"{'descr': '<U0', 'fortran_order': False, "
        b"'shape': (1000000000000,), }").ljust(117) + b'\n',
    # A header of 2 GiB, for which NumPy would make room:
    b'\x93NUMPY\x02\x00' + struct.pack('<I', 2**31) + b'{}',
    b'\x93NUMPY\x03\x00' + struct.pack('<I', 2**31) + b'{}',
    b'\x93NUMPY\x01\x00\xff\xff{}',
])
def test_read_npy_of_false_sizes(tmp_path, content):
    (tmp_path / 'x.npy').write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r'x\.npy'):
            read_npy(str(tmp_path / 'x.npy'), 'iuU')
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_archive_of_arrays_is_no_array(tmp_path):
    np.savez(tmp_path / 'x.npz', x=np.ones((3, 2)))
    with pytest.raises(DataError, match=r'x\.npz.* no \.npy file'):
        read_features(str(tmp_path / 'x.npz'))
