import hashlib
import io
import os
import urllib.error
import urllib.request
import zipfile
from email.message import Message

import pytest

from diffmm_pyg.datasets.download import (
    download_file,
    git_blob_id,
    unzip_file,
)
from diffmm_pyg.errors import ConfigError, DataError

URL = 'https://example.org/folder/file'
CONTENT = bytes(range(256)) * 20
BLOB_ID = hashlib.sha1(b'blob 5120\0' + CONTENT).hexdigest()


class Response(io.BytesIO):
    def __init__(self, content, length=None, url=URL):
        super().__init__(content)
        self.headers = Message()
        if length is not None:
            self.headers['Content-Length'] = str(length)
        self.url = url

    def geturl(self):
        return self.url


@pytest.fixture
def answers(monkeypatch):
    r"""What the network answers, one after the other."""
    out = []

    def urlopen(request, timeout):
        assert request.full_url == URL
        assert timeout > 0
        answer = out.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(urllib.request, 'urlopen', urlopen)
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    return out


def test_git_blob_id_of_git(tmp_path):
    # `printf hello | git hash-object --stdin`
    (tmp_path / 'x').write_bytes(b'hello')
    expected = 'b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0'
    assert git_blob_id(str(tmp_path / 'x')) == expected


def test_download_file(tmp_path, answers):
    path = tmp_path / 'a' / 'file'
    answers.append(Response(CONTENT, length=5120))
    download_file(URL, str(path), BLOB_ID)
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ['file']


def test_download_file_tries_again(tmp_path, answers):
    path = tmp_path / 'file'
    answers += [
        urllib.error.URLError('no route'),
        Response(CONTENT[:100], length=5120),  # The connection ends.
        Response(CONTENT, length=5120),
    ]
    download_file(URL, str(path), BLOB_ID)
    assert path.read_bytes() == CONTENT
    assert len(answers) == 0


@pytest.mark.parametrize('answer, reason', [
    (lambda: urllib.error.URLError('no route'), 'no route'),
    (lambda: TimeoutError('timed out'), 'timed out'),
    (lambda: Response(CONTENT[:100], 5120), 'after 100 of 5120 bytes'),
    (lambda: Response(b'<html>Not here</html>'), 'not the published one'),
])
def test_download_file_gives_up(tmp_path, answers, answer, reason):
    answers += [answer() for _ in range(4)]
    with pytest.raises(DataError, match=f'cannot be downloaded.*{reason}'):
        download_file(URL, str(tmp_path / 'file'), BLOB_ID)
    assert len(answers) == 1
    assert os.listdir(tmp_path) == []


def test_download_file_that_is_not_there(tmp_path, answers):
    answers += [urllib.error.HTTPError(URL, 404, 'Not Found', None, None)] * 2
    with pytest.raises(DataError, match="404.*put 'file' into a folder"):
        download_file(URL, str(tmp_path / 'file'))
    assert len(answers) == 1


def test_download_file_too_large(tmp_path, answers):
    answers += [Response(CONTENT), Response(CONTENT)]
    with pytest.raises(DataError, match='more than 1000 bytes'):
        download_file(URL, str(tmp_path / 'file'), max_bytes=1000)
    assert len(answers) == 1
    assert os.listdir(tmp_path) == []


def test_download_file_interrupted(tmp_path, answers):
    answers.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        download_file(URL, str(tmp_path / 'file'))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('url', ['http://a/b', 'file:///etc/passwd', 'ftp://a'])
def test_download_file_of_other_schemes(tmp_path, answers, url):
    with pytest.raises(ConfigError, match='https://'):
        download_file(url, str(tmp_path / 'file'))


def test_download_file_led_astray(tmp_path, answers):
    answers.append(Response(CONTENT, url='http://example.org/file'))
    with pytest.raises(DataError, match='not encrypted'):
        download_file(URL, str(tmp_path / 'file'))
    assert os.listdir(tmp_path) == []


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
