import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from diffmm_pyg.datasets.published import find_files
from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import WITH_TORCH_SPARSE

# Processes that test in parallel (of pytest-xdist) share the processor:
WORKERS = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
if WORKERS > 1:
    torch.set_num_threads(max(1, torch.get_num_threads() // WORKERS))
    os.environ['OMP_NUM_THREADS'] = str(torch.get_num_threads())

settings.register_profile(
    'diffmm',
    max_examples=20,
    deadline=None,
    # The same examples in every run: a bound on rounding errors that holds in
    # all but one case of thousands should not stop anybody else's work.
    derandomize=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    # The fixtures below hold nothing that an example leaves to the next.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile('diffmm')


@pytest.fixture(params=['edge_index', 'SparseTensor'])
def sparse(request):
    r"""Whether graphs are held as :class:`torch_sparse.SparseTensor`."""
    if request.param == 'SparseTensor' and not WITH_TORCH_SPARSE:
        pytest.skip("'torch-sparse' is not installed")
    return request.param == 'SparseTensor'


@pytest.fixture
def double():
    r"""Makes double precision the default."""
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.fixture
def tiktok():
    r"""The folder of the real TikTok files, or a skipped test."""
    if 'DIFFMM_DATA' not in os.environ:
        pytest.skip('DIFFMM_DATA names no folder with the TikTok files')
    try:
        return find_files(os.environ['DIFFMM_DATA'], 'tiktok')
    except DataError as e:
        pytest.skip(f'DIFFMM_DATA: {e}')


class Attack:
    r"""Pickles to a call that leaves a file behind when it is run."""
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return exec, (f'open({self.path!r}, "w").close()', )


@pytest.fixture
def attack(tmp_path):
    out = Attack(str(tmp_path / 'was-run'))
    yield out
    assert not os.path.exists(out.path), 'the planted call was run'
