import pytest
import torch
from hypothesis import HealthCheck, settings

from diffmm_pyg.typing import WITH_TORCH_SPARSE

# The fixtures below hold nothing that one example could leave to the next.
settings.register_profile(
    'diffmm', max_examples=20, deadline=None, print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture])
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
