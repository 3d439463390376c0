import fcntl
import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
import urllib.response
from contextlib import suppress
from email.message import Message

import pytest

from diffmm_pyg.datasets import download
from diffmm_pyg.datasets.download import download_file, git_blob_id
from diffmm_pyg.errors import ConfigError, DataError

URL = 'https://example.org/folder/file'
CONTENT = bytes(range(256)) * 20
BLOB_ID = hashlib.sha1(b'blob 5120\0' + CONTENT).hexdigest()


class Response(io.BytesIO):
    def __init__(self, content, length=None, content_range=None):
        super().__init__(content)
        self.status = 200 if content_range is None else 206
        self.headers = Message()
        if length is not None:
            self.headers['Content-Length'] = str(length)
        if content_range is not None:
            self.headers['Content-Range'] = content_range


@pytest.fixture
def answers(monkeypatch, ranges):
    r"""What the network answers, one after the other."""
    out = []

    def open_url(request, timeout):
        assert request.full_url == URL
        assert timeout > 0
        ranges.append(request.get_header('Range'))
        answer = out.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(download, 'open_url', open_url)
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    return out


@pytest.fixture
def ranges():
    r"""The parts that were asked for."""
    return []


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
        Response(CONTENT, length=5120),  # It does not send parts.
    ]
    download_file(URL, str(path), BLOB_ID)
    assert path.read_bytes() == CONTENT
    assert len(answers) == 0
    assert os.listdir(tmp_path) == ['file']


def test_download_file_goes_on(tmp_path, answers, ranges):
    path = tmp_path / 'file'
    answers += [
        Response(CONTENT[:100], 5120),
        Response(CONTENT[100:300], 5020, content_range='bytes 100-5119/5120'),
        TimeoutError('timed out'),
    ]
    with pytest.raises(DataError, match='timed out'):
        download_file(URL, str(path), BLOB_ID)
    assert (tmp_path / 'file.part').read_bytes() == CONTENT[:300]
    # Another call goes on from there:
    answers.append(Response(CONTENT[300:], 4820,
                            content_range='bytes 300-5119/5120'))
    download_file(URL, str(path), BLOB_ID)
    assert path.read_bytes() == CONTENT
    assert ranges == [None, 'bytes=100-', 'bytes=300-', 'bytes=300-']
    assert os.listdir(tmp_path) == ['file']


def test_download_file_that_was_whole(tmp_path, answers):
    # It was killed after the last byte, before the file got its name.
    (tmp_path / 'file.part').write_bytes(CONTENT)
    download_file(URL, str(tmp_path / 'file'), BLOB_ID)
    assert (tmp_path / 'file').read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('part, answer', [
    # Of another file,
    (b'x' * 100, Response(CONTENT[100:], 5020,
                          content_range='bytes 100-5119/5120')),
    # longer than this one,
    (b'x' * 9999, urllib.error.HTTPError(URL, 416, 'Range', None, None)),
    # or followed by another part than was asked for.
    (CONTENT[:100], Response(CONTENT[200:], 4920,
                             content_range='bytes 200-5119/5120')),
])
def test_download_file_from_a_part_that_does_not_fit(tmp_path, answers, ranges,
                                                     part, answer):
    (tmp_path / 'file.part').write_bytes(part)
    answers += [answer, Response(CONTENT, 5120)]
    download_file(URL, str(tmp_path / 'file'), BLOB_ID)
    assert (tmp_path / 'file').read_bytes() == CONTENT
    assert ranges == [f'bytes={len(part)}-', None]
    assert os.listdir(tmp_path) == ['file']


def test_download_file_that_nothing_is_known_of_begins_anew(tmp_path, answers,
                                                            ranges):
    (tmp_path / 'file.part').write_bytes(b'of another one')
    answers += [Response(CONTENT[:100], 5120), Response(CONTENT, 5120)]
    download_file(URL, str(tmp_path / 'file'))
    assert (tmp_path / 'file').read_bytes() == CONTENT
    assert ranges == [None, None]
    assert sorted(os.listdir(tmp_path)) == ['file', 'file.part']


def test_download_file_by_two_processes(tmp_path, answers):
    with open(tmp_path / 'file.part', 'wb') as f:
        f.write(CONTENT[:100])
        f.flush()
        fcntl.flock(f, fcntl.LOCK_EX)
        answers += [Response(CONTENT, 5120) for _ in range(3)]
        with pytest.raises(DataError, match='another process downloads it'):
            download_file(URL, str(tmp_path / 'file'), BLOB_ID)
    assert (tmp_path / 'file.part').read_bytes() == CONTENT[:100]


def test_download_file_that_another_process_has_finished(
        tmp_path, answers, ranges, monkeypatch):
    path = tmp_path / 'file'
    monkeypatch.setattr('time.sleep', lambda _: path.write_bytes(CONTENT))
    with open(tmp_path / 'file.part', 'wb') as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        download_file(URL, str(path), BLOB_ID)
    assert path.read_bytes() == CONTENT and ranges == []


@pytest.mark.parametrize('answer, reason', [
    (lambda: urllib.error.URLError('no route'), 'no route'),
    (lambda: TimeoutError('timed out'), 'timed out'),
    (lambda: Response(CONTENT[:100], 5120), 'after 100 of 5120 bytes'),
    (lambda: Response(b'<html>Not here</html>'), 'not the published one'),
    (lambda: Response(CONTENT, 'much'), 'invalid literal for int'),
    (lambda: http.client.BadStatusLine('x'), 'x'),
    (lambda: urllib.error.HTTPError(URL, 503, 'Busy', None, None), '503'),
    (lambda: urllib.error.HTTPError(URL, 429, 'Slow', None, None), '429'),
])
def test_download_file_gives_up(tmp_path, answers, answer, reason):
    answers += [answer() for _ in range(4)]
    with pytest.raises(DataError, match=f'cannot be downloaded.*{reason}'):
        download_file(URL, str(tmp_path / 'file'), BLOB_ID)
    assert len(answers) == 1
    assert not (tmp_path / 'file').exists()


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


def test_download_file_that_says_it_is_too_large(tmp_path, answers):
    answers.append(Response(b'', length=10**12))
    with pytest.raises(DataError, match='more than 1000 bytes'):
        download_file(URL, str(tmp_path / 'file'), BLOB_ID, max_bytes=1000)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('blob_id, left', [(None, []), (BLOB_ID, ['.part'])])
def test_download_file_interrupted(tmp_path, answers, blob_id, left):
    class Interrupted(Response):
        def read(self, size):
            if self.tell() > 0:
                raise KeyboardInterrupt
            return super().read(100)

    answers.append(Interrupted(CONTENT))
    with pytest.raises(KeyboardInterrupt):
        download_file(URL, str(tmp_path / 'file'), blob_id)
    assert os.listdir(tmp_path) == [f'file{name}' for name in left]


@pytest.mark.parametrize('url', ['http://a/b', 'file:///etc/passwd', 'ftp://a'])
def test_download_file_of_other_schemes(tmp_path, answers, url):
    with pytest.raises(ConfigError, match='https://'):
        download_file(url, str(tmp_path / 'file'))


@pytest.mark.parametrize('first', ['http:', 'ftp:', 'https:'])
def test_download_file_led_astray(tmp_path, monkeypatch, first):
    # By several addresses, the last of which is as it should be:
    hops = {URL: f'{first}//a.org/b', 'https://a.org/b': 'https://a.org/c'}
    asked = []

    def https_open(self, request):
        asked.append(request.full_url)
        headers = Message()
        if request.full_url in hops:
            headers['Location'] = hops[request.full_url]
        response = urllib.response.addinfourl(
            io.BytesIO(CONTENT), headers, request.full_url,
            302 if 'Location' in headers else 200)
        response.msg = ''
        return response

    monkeypatch.setattr(urllib.request.HTTPSHandler, 'https_open', https_open)
    if first == 'https:':
        download_file(URL, str(tmp_path / 'file'), BLOB_ID)
        assert (tmp_path / 'file').read_bytes() == CONTENT
        assert asked == [URL, 'https://a.org/b', 'https://a.org/c']
    else:
        with pytest.raises(DataError, match=f"leads to '{first}//a.org/b', "
                           f"which is not encrypted"):
            download_file(URL, str(tmp_path / 'file'), BLOB_ID)
        assert asked == [URL] and os.listdir(tmp_path) == []


def test_part_is_locked_until_it_has_its_name(tmp_path, answers, monkeypatch):
    held = []

    def sync(path):
        if path.endswith('.part'):  # Whole and verified
            with open(path, 'ab') as f, suppress(BlockingIOError):
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(path)

    monkeypatch.setattr(download, 'sync', sync)
    for part in [b'', CONTENT]:
        (tmp_path / 'file.part').write_bytes(part)
        answers[:] = [Response(CONTENT, 5120)]
        download_file(URL, str(tmp_path / 'file'), BLOB_ID)
        assert (tmp_path / 'file').read_bytes() == CONTENT
    assert held == []
