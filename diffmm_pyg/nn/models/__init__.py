from typing import Dict, Type

from .bm3 import BM3
from .diffmm import DiffMM
from .diffmm_output import DiffMMOutput
from .ease import EASE
from .freedom import FREEDOM
from .light_gcn import LightGCN
from .matrix_factorization import BPRMF
from .ngcf import NGCF
from .recommender import Phase, Recommender
from .vbpr import VBPR

# Those that a run can build again, by name:
MODELS: Dict[str, Type[Recommender]] = {
    cls.__name__: cls
    for cls in [BM3, BPRMF, DiffMM, EASE, FREEDOM, LightGCN, NGCF, VBPR]
}

__all__ = [
    'BM3',
    'BPRMF',
    'DiffMM',
    'DiffMMOutput',
    'EASE',
    'FREEDOM',
    'LightGCN',
    'MODELS',
    'NGCF',
    'Phase',
    'Recommender',
    'VBPR',
]
