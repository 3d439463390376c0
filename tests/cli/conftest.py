import logging
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp

from diffmm_pyg.cli import main

TINY = [
    '--epochs', '1', '--hidden-channels', '4', '--diffusion-hidden-channels',
    '8', '--top-k', '3', '--device', 'cpu'
]


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_logging():
    r"""Undoes what the command line sets for its process."""
    logger = logging.getLogger('diffmm_pyg')
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    folder = tmp_path / 'cwd'
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv('DIFFMM_DATA', raising=False)
    return folder


@pytest.fixture
def cli(cwd, capsys, monkeypatch):
    r"""Runs a command in an empty folder; a new training with tiny settings,
    that may be given anew, and without a drawing, which takes longer.
    """
    monkeypatch.setattr('diffmm_pyg.runs.save.plot_curves', lambda *_: None)

    def fn(*args):
        argv = [str(arg) for arg in args]
        if argv[:1] == ['train'] and '--resume' not in argv:
            argv = ['train', *TINY, *argv[1:]]
        capsys.readouterr()
        try:
            code = main(argv)
        except SystemExit as e:
            code = e.code
        return Result(code, *capsys.readouterr())

    return fn


@pytest.fixture
def folder(tmp_path):
    r"""A folder of one's own: 20 users by name, 10 items by name, where
    users :obj:`u<n>` like the items whose number is as odd as theirs.
    """
    path = tmp_path / 'shop'
    path.mkdir()
    lines = [f'u{u},i-{i}' for u in range(20) for i in range(10)
             if (u + i) % 2 == 0]
    (path / 'interactions.csv').write_text('\n'.join(['user,item', *lines]))
    items = [f'i-{i}' for i in reversed(range(10))]
    (path / 'items.csv').write_text('\n'.join(['item', *items]))
    rng = np.random.default_rng(0)
    for name in ['image', 'text']:
        np.save(path / f'features_{name}.npy', rng.normal(size=(10, 4)))
    return path


@pytest.fixture
def source(tmp_path):
    r"""A folder with a dataset named like TikTok, which is not it."""
    path = tmp_path / 'published' / 'tiktok'
    path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    split = rng.choice(4, size=(30, 12), p=[0.5, 0.3, 0.1, 0.1])
    for i, name in enumerate(['trn', 'val', 'tst'], start=1):
        matrix = sp.coo_matrix((split == i).astype(np.float32))
        (path / f'{name}Mat.pkl').write_bytes(pickle.dumps(matrix))
    for name in ['image', 'text', 'audio']:
        np.save(path / f'{name}_feat.npy',
                rng.normal(size=(12, 4)).astype(np.float16))
    return path.parent
