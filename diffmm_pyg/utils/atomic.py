import os
import os.path as osp
import tempfile
from contextlib import contextmanager, suppress
from typing import Iterator


@contextmanager
def atomic_path(path: str) -> Iterator[str]:
    r"""Yields the path of an empty temporary file beside :obj:`path`, which
    takes the place of :obj:`path` when the block ends. When the block is left
    by an exception (:obj:`KeyboardInterrupt` included), the temporary file is
    removed, and so are the folders that were made for it.
    """
    folder, name = osp.split(osp.abspath(path))
    made, parent = [], folder
    while not osp.exists(parent):
        made.append(parent)
        parent = osp.dirname(parent)
    os.makedirs(folder, exist_ok=True)
    fd, tmp = tempfile.mkstemp(prefix=f'.{name}.', suffix='.tmp', dir=folder)
    os.close(fd)
    try:
        yield tmp
        sync(tmp)
        # `mkstemp` makes files that only their owner can read:
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(tmp, 0o666 & ~umask)
        os.replace(tmp, path)
        sync(folder)
    except BaseException:
        with suppress(FileNotFoundError):  # It has taken its place.
            os.remove(tmp)
        with suppress(OSError):  # There is something else in one by now.
            for parent in made:
                os.rmdir(parent)
        raise


def sync(path: str) -> None:
    r"""Returns when a file, or the names in a folder, would outlive a loss of
    power.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
