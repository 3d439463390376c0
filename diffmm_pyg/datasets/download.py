import hashlib
import http.client
import os.path as osp
import time
import urllib.error
import urllib.request
import zipfile
from typing import IO, Optional

from tqdm import tqdm

from diffmm_pyg.datasets.raw import one_line
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.utils.atomic import atomic_path

CHUNK = 1 << 20
MAX_BYTES = 8 << 30
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
    r"""Downloads one file. It appears at :obj:`path` when it is whole, and
    not before.

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
    for attempt in range(num_attempts):
        if attempt > 0:
            time.sleep(2**attempt)
        try:
            with atomic_path(path) as tmp:
                _fetch(url, tmp, max_bytes, timeout)
                if blob_id is not None and git_blob_id(tmp) != blob_id:
                    raise OSError('its content is not the published one')
            return
        except (OSError, http.client.HTTPException) as e:
            reason = str(e) or type(e).__name__
            gone = isinstance(e, urllib.error.HTTPError) and e.code < 500
            if gone:  # Asking again gives the same answer.
                break
    raise DataError(f"'{url}' cannot be downloaded ({reason}); try again "
                    f"later, or put '{osp.basename(path)}' into a folder and "
                    f"give that folder as the source")


def _fetch(url: str, path: str, max_bytes: int, timeout: float) -> None:
    request = urllib.request.Request(url, headers={'User-Agent': 'diffmm_pyg'})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if not response.geturl().startswith('https://'):
            raise DataError(f"'{url}' leads to '{response.geturl()}', which "
                            f"is not encrypted; give another source")
        length = response.headers.get('Content-Length')
        total = int(length) if length is not None else None
        with open(path, 'wb') as f:
            size = copy_stream(response, f, max_bytes, total, url)
    if total is not None and size != total:
        raise OSError(f'the connection ended after {size} of {total} bytes')


def copy_stream(src: IO[bytes], dst: IO[bytes], max_bytes: int,
                total: Optional[int], name: str) -> int:
    r"""Copies :obj:`src` to :obj:`dst` with a progress bar.

    Raises:
        DataError: If there are more than :obj:`max_bytes`.
    """
    size = 0
    with tqdm(total=total, unit='B', unit_scale=True, delay=1.,
              desc=name.rsplit('/', 1)[-1]) as bar:
        while chunk := src.read(CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise DataError(f"'{name}' has more than {max_bytes} bytes; "
                                f"give a source with the published file")
            dst.write(chunk)
            bar.update(len(chunk))
    return size


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
