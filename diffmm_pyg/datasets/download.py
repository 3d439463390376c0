import fcntl
import hashlib
import http.client
import os
import os.path as osp
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Iterator, Optional

from tqdm import tqdm

from diffmm_pyg.datasets.raw import one_line
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.utils.atomic import atomic_path, sync

CHUNK = 1 << 20
MAX_BYTES = 8 << 30
# Answers of HTTP: a part of the file, no such part, and, with it, those that
# may be others a moment later.
PARTIAL_CONTENT, RANGE_REFUSED = 206, 416
PASSING = [408, 429, RANGE_REFUSED]
# Others may take more memory than an archive has bytes:
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]


def git_blob_id(path: str) -> str:
    r"""Returns the id that git gives to the content of a file."""
    sha = hashlib.sha1(b'blob %d\0' % osp.getsize(path))
    with open(path, 'rb') as f:
        while chunk := f.read(CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def download_file(url: str, path: str, blob_id: Optional[str] = None,
                  max_bytes: int = MAX_BYTES, timeout: float = 60.,
                  num_attempts: int = 3) -> None:
    r"""Downloads one file. It appears at :obj:`path` when it is whole and
    verified, and not before. What there is of it until then is kept in
    :obj:`<path>.part`, from which the next attempt goes on, also that of
    another call, if :obj:`blob_id` can tell that the pieces belong together.

    Args:
        url (str): An address that starts with :obj:`https://`.
        path (str): Where to write it.
        blob_id (str, optional): The id which :obj:`git hash-object` prints
            for the file, if known. (default: :obj:`None`)
        max_bytes (int, optional): The largest size that is accepted.
            (default: 8 GiB)
        timeout (float, optional): The seconds to wait for an answer.
            (default: :obj:`60.`)
        num_attempts (int, optional): How often to try where the network
            fails. (default: :obj:`3`)

    Raises:
        ConfigError: If :obj:`url` is not an HTTPS address.
        DataError: If the file cannot be had, is too large, or differs from
            what :obj:`blob_id` names.
    """
    if not url.startswith('https://'):
        raise ConfigError(f"Cannot download '{url}'; give an address that "
                          f"starts with 'https://', or a local folder")
    # Where nothing tells, pieces of different files could come together.
    part = f"{path}{f'.{os.getpid()}' if blob_id is None else ''}.part"
    try:
        _download(url, path, part, blob_id, max_bytes, timeout, num_attempts)
    finally:
        if blob_id is None:
            _remove(part)


def _download(url: str, path: str, part: str, blob_id: Optional[str],
              max_bytes: int, timeout: float, num_attempts: int) -> None:
    for attempt in range(num_attempts):
        if attempt > 0:
            time.sleep(2**attempt)
        try:
            if (attempt > 0 and blob_id is not None and osp.isfile(path)
                    and git_blob_id(path) == blob_id):
                return  # Another process was faster.
            with locked(part) as f:
                _complete(f, url, blob_id, max_bytes, timeout)
                sync(part)
                os.replace(part, path)
            sync(osp.dirname(osp.abspath(path)))
            return
        except DataError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as e:
            reason = one_line(e)
            code = e.code if isinstance(e, urllib.error.HTTPError) else 500
            if code < 500 and code not in PASSING:
                break  # Asking again gives the same answer.
    raise DataError(f"'{url}' cannot be downloaded ({reason}); try again "
                    f"later, or put '{osp.basename(path)}' into a folder and "
                    f"give that folder as the source")


@contextmanager
def locked(path: str) -> Iterator[IO[bytes]]:
    r"""Opens a file for this process alone, to write to its end. If it stays
    empty, it is removed, and so are the folders that were made for it.

    Raises:
        OSError: If another process has it open so, or had and moved it.
    """
    made = [p for p in Path(path).absolute().parents if not p.exists()]
    try:
        os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
        with open(path, 'ab') as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                raise OSError('another process downloads it') from e
            if not osp.samestat(os.fstat(f.fileno()), os.stat(path)):
                raise OSError('another process downloaded it')
            try:
                yield f
            finally:
                f.flush()
                if os.fstat(f.fileno()).st_size == 0:
                    _remove(path)
    finally:
        with suppress(OSError):  # There is something in one.
            for folder in made:
                folder.rmdir()


def _complete(f: IO[bytes], url: str, blob_id: Optional[str], max_bytes: int,
              timeout: float) -> None:
    r"""Downloads what is missing of a file, and verifies it. What cannot be
    a part of it is removed.
    """
    if blob_id is None:
        f.truncate(0)
    elif git_blob_id(f.name) == blob_id:
        return
    try:
        _fetch(url, f, max_bytes, timeout)
        if blob_id is not None and git_blob_id(f.name) != blob_id:
            raise WrongContentError('its content is not the published one')
    except Exception as e:
        if (isinstance(e, (DataError, WrongContentError))
                or getattr(e, 'code', None) == RANGE_REFUSED):
            f.truncate(0)
        raise


class WrongContentError(OSError):
    r"""What was downloaded is not what it was to be."""


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.remove(path)


class EncryptedRedirects(urllib.request.HTTPRedirectHandler):
    r"""Is led by HTTPS addresses only, whatever the last one is."""
    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes],
                         code: int, msg: str,
                         headers: http.client.HTTPMessage, newurl: str,
                         ) -> Optional[urllib.request.Request]:
        if not newurl.startswith('https://'):
            raise DataError(f"'{req.full_url}' leads to '{newurl}', which is "
                            f"not encrypted; give another source")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_url(request: urllib.request.Request, timeout: float) -> Any:
    opener = urllib.request.build_opener(EncryptedRedirects)
    return opener.open(request, timeout=timeout)


def _fetch(url: str, f: IO[bytes], max_bytes: int, timeout: float) -> None:
    r"""Downloads a file, or what is missing of it."""
    size = osp.getsize(f.name)
    headers = {'User-Agent': 'diffmm_pyg'}
    if size > 0:
        headers['Range'] = f'bytes={size}-'
    request = urllib.request.Request(url, headers=headers)
    with open_url(request, timeout) as response:
        if response.status != PARTIAL_CONTENT:
            size = 0  # It sends all of it.
        elif not response.headers.get('Content-Range', '').startswith(
                f'bytes {size}-'):
            raise WrongContentError('it sends another part than was asked for')
        length = response.headers.get('Content-Length')
        total = size + int(length) if length is not None else None
        f.truncate(size)
        size = copy_stream(response, f, max_bytes, total, url, size)
    f.flush()
    if total is not None and size != total:
        raise OSError(f'the connection ended after {size} of {total} bytes')


def copy_stream(src: IO[bytes], dst: IO[bytes], max_bytes: int,
                total: Optional[int], name: str, size: int = 0) -> int:
    r"""Copies :obj:`src` to the end of :obj:`dst`, which holds :obj:`size`
    bytes, with a progress bar. Returns the size that it then has.

    Raises:
        DataError: If it is more than :obj:`max_bytes`.
    """
    with tqdm(total=total, initial=size, unit='B', unit_scale=True, delay=1.,
              desc=name.rsplit('/', 1)[-1]) as bar:
        while True:
            if max(size, total or 0) > max_bytes:
                raise DataError(f"'{name}' has more than {max_bytes} bytes; "
                                f"give a source with the published file")
            chunk = src.read(CHUNK)
            if len(chunk) == 0:
                return size
            dst.write(chunk)
            size += len(chunk)
            bar.update(len(chunk))


def unzip_file(zip_path: str, path: str, max_bytes: int = MAX_BYTES) -> None:
    r"""Unpacks the one member of an archive that is named like :obj:`path`.
    Names within the archive never decide where anything is written.

    Raises:
        DataError: If the archive is damaged, or lacks that file.
    """
    name = osp.basename(path)
    try:
        with zipfile.ZipFile(zip_path) as archive:
            members = [
                info for info in archive.infolist()
                if osp.basename(info.filename) == name
            ]
            if len(members) != 1:
                raise DataError(f"'{zip_path}' does not hold one '{name}'; "
                                f"fetch it again")
            if members[0].compress_type not in METHODS:
                raise ValueError('its method of compression is not known')
            with archive.open(members[0]) as src, atomic_path(path) as tmp:
                with open(tmp, 'wb') as dst:
                    copy_stream(src, dst, max_bytes, members[0].file_size,
                                f'{zip_path}/{name}')
    except DataError:
        raise
    except Exception as e:  # The errors of damage have no common base.
        raise DataError(f"'{zip_path}' cannot be unpacked ({one_line(e)}); "
                        f"fetch it again") from e
