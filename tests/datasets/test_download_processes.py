r"""Downloads of processes that are killed, or come at the same time."""
import fcntl
import http.server
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from diffmm_pyg.datasets import download
from diffmm_pyg.datasets.download import git_blob_id


class Handler(http.server.BaseHTTPRequestHandler):
    r"""Sends a file, and parts of it, slowly."""
    content = bytes(range(256)) * 2**14  # 4 MiB

    def do_GET(self):
        start = int((self.headers['Range'] or 'bytes=0-')[6:-1])
        self.server.starts.append(start)
        self.send_response(206 if start > 0 else 200)
        self.send_header('Content-Length', str(len(self.content) - start))
        if start > 0:
            self.send_header('Content-Range', f'bytes {start}-/*')
        self.end_headers()
        with suppress(ConnectionError):
            for first in range(start, len(self.content), 2**20):
                self.wfile.write(self.content[first:first + 2**20])
                if self.server.is_slow:
                    time.sleep(0.5)

    def log_message(self, *args):
        pass


# Downloads by HTTPS, as far as the library can tell, from a local server:
DOWNLOAD = '''
import sys, urllib.request
from diffmm_pyg.datasets import download
port, path, blob_id = sys.argv[1:]

def local(request, timeout):
    url = f'http://127.0.0.1:{port}/file'
    request = urllib.request.Request(url, headers=request.headers)
    return urllib.request.urlopen(request)

download.open_url = local
download.download_file('https://example.org/file', path, blob_id)
'''


def test_killed_download_goes_on(tmp_path, monkeypatch):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.starts, server.is_slow = [], True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / 'expected').write_bytes(Handler.content)
    path, part = tmp_path / 'file', tmp_path / 'file.part'
    command = [sys.executable, '-W', 'ignore', '-c', DOWNLOAD,
               str(server.server_port), str(path),
               git_blob_id(str(tmp_path / 'expected'))]
    try:
        with subprocess.Popen(command) as child:
            while not part.exists() or part.stat().st_size < 2**20:
                assert child.poll() is None
                time.sleep(0.05)
            child.kill()
        assert not path.exists()
        size = part.stat().st_size
        server.is_slow = False
        monkeypatch.setattr(download, 'open_url', download.open_url)
        monkeypatch.setattr(sys, 'argv', ['', *command[-3:]])
        exec(DOWNLOAD, {})
    finally:
        server.shutdown()
        server.server_close()
    assert server.starts == [0, size] and size >= 2**20
    assert path.read_bytes() == Handler.content
    assert sorted(os.listdir(tmp_path)) == ['expected', 'file']


def test_part_that_another_process_has_moved(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    flock = fcntl.flock

    def late(f, operation):
        os.replace(f.name, path)
        flock(f, operation)

    (tmp_path / 'file.part').write_bytes(b'whole')
    monkeypatch.setattr(fcntl, 'flock', late)
    with pytest.raises(OSError), download.locked(f'{path}.part') as f:
        f.truncate(0)
    assert path.read_bytes() == b'whole'
