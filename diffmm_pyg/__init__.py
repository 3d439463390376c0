r"""Multi-modal recommendation by graph diffusion, for PyTorch Geometric."""
__version__ = '0.1.0'

from diffmm_pyg import datasets, diffusion, nn, transforms, utils  # noqa: E402
from diffmm_pyg.build import build_model  # noqa: E402
from diffmm_pyg.runs import Run, load  # noqa: E402
from diffmm_pyg.training import fit  # noqa: E402

__all__ = [
    'Run',
    'build_model',
    'datasets',
    'diffusion',
    'fit',
    'load',
    'nn',
    'transforms',
    'utils',
]
