import os
import zipfile

import pytest

from diffmm_pyg.datasets.download import unzip_file
from diffmm_pyg.errors import DataError

CONTENT = bytes(range(256)) * 20


def make_zip(path, **members):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace('__', '/'), content)


def test_unzip_file(tmp_path):
    make_zip(tmp_path / 'x.zip', other=b'1', folder__x=CONTENT)
    unzip_file(str(tmp_path / 'x.zip'), str(tmp_path / 'x'))
    assert (tmp_path / 'x').read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path)) == ['x', 'x.zip']


def test_unzip_file_stays_in_its_folder(tmp_path):
    folder = tmp_path / 'folder'
    folder.mkdir()
    make_zip(folder / 'x.zip', **{'..__x': CONTENT, '..__evil': b'1'})
    unzip_file(str(folder / 'x.zip'), str(folder / 'x'))
    assert (folder / 'x').read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ['folder']


@pytest.mark.parametrize('members', [
    {},
    {'y': b'1'},
    {'x': b'1', 'a__x': b'2'},
])
def test_unzip_file_without_the_member(tmp_path, members):
    make_zip(tmp_path / 'x.zip', **members)
    with pytest.raises(DataError, match="does not hold one 'x'"):
        unzip_file(str(tmp_path / 'x.zip'), str(tmp_path / 'x'))


def test_unzip_file_too_large(tmp_path):
    make_zip(tmp_path / 'x.zip', x=bytes(10**7))
    with pytest.raises(DataError, match='more than 1000000 bytes'):
        unzip_file(str(tmp_path / 'x.zip'), str(tmp_path / 'x'), 10**6)
    assert os.listdir(tmp_path) == ['x.zip']


@pytest.mark.parametrize('change', [
    lambda content: content[:-30],
    lambda content: b'nothing of the kind',
    lambda content: content.replace(content[40:60], bytes(20), 1),
])
def test_unzip_file_damaged(tmp_path, change):
    make_zip(tmp_path / 'x.zip', x=os.urandom(1000))
    content = (tmp_path / 'x.zip').read_bytes()
    (tmp_path / 'x.zip').write_bytes(change(content))
    with pytest.raises(DataError, match='x.zip'):
        unzip_file(str(tmp_path / 'x.zip'), str(tmp_path / 'x'))
    assert os.listdir(tmp_path) == ['x.zip']


@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unzip_file_of_other_methods(tmp_path, method):
    # What they unpack may take more memory than the archive has bytes.
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w', method) as archive:
        archive.writestr('x', CONTENT)
    with pytest.raises(DataError, match='method of compression is not known'):
        unzip_file(str(tmp_path / 'x.zip'), str(tmp_path / 'x'))
    assert os.listdir(tmp_path) == ['x.zip']


def test_unzip_file_damaged_within(tmp_path):
    make_zip(tmp_path / 'x.zip', x=CONTENT)
    content = bytearray((tmp_path / 'x.zip').read_bytes())
    content[31:33] = b'\xff\xff'  # The first bytes of what is compressed.
    (tmp_path / 'x.zip').write_bytes(content)
    with pytest.raises(DataError, match='cannot be unpacked'):
        unzip_file(str(tmp_path / 'x.zip'), str(tmp_path / 'x'))
