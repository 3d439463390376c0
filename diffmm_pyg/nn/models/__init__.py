r"""Recommenders: DiffMM, and those it is compared with."""
from typing import List, Type

from .bm3 import BM3
from .bpr_mf import BPRMF
from .diff_rec import DiffRec
from .diffmm import DiffMM
from .diffmm_explanation import DiffMMExplanation, EdgeContribution
from .diffmm_output import DiffMMOutput
from .drift import Drift
from .ease import EASE
from .freedom import FREEDOM
from .item_knn import ItemKNN
from .late_fusion import LateFusion
from .light_gcn import LightGCN
from .mult_dae import MultDAE
from .ngcf import NGCF
from .pairwise import Triplets
from .popularity import Popularity
from .random_walk import RandomWalk
from .recommender import Phase, Recommender
from .vbpr import VBPR

_CLASSES: List[Type[Recommender]] = [
    BM3, BPRMF, DiffMM, DiffRec, Drift, EASE, FREEDOM, ItemKNN, LightGCN,
    MultDAE, NGCF, Popularity, RandomWalk, VBPR
]
#: The classes of models that a run can build again, by name.
MODELS = {cls.__name__: cls for cls in _CLASSES}

__all__ = [
    'BM3',
    'BPRMF',
    'DiffMM',
    'DiffMMExplanation',
    'DiffMMOutput',
    'DiffRec',
    'Drift',
    'EASE',
    'EdgeContribution',
    'FREEDOM',
    'ItemKNN',
    'LateFusion',
    'LightGCN',
    'MODELS',
    'MultDAE',
    'NGCF',
    'Phase',
    'Popularity',
    'RandomWalk',
    'Recommender',
    'Triplets',
    'VBPR',
]
