r"""Layers, losses and models."""
from .conv import ModalityConv
from .encoder import ModalityEncoder
from .fusion import ModalityFusion
from .loss import bpr_loss, contrastive_loss, info_nce_loss
from .models import DiffMM, DiffMMOutput, Phase, Recommender
from .stacked_adj import StackedAdj
from .stacked_conv import StackedConv

__all__ = [
    'StackedAdj',
    'StackedConv',
    'DiffMM',
    'DiffMMOutput',
    'ModalityConv',
    'ModalityEncoder',
    'ModalityFusion',
    'Phase',
    'Recommender',
    'bpr_loss',
    'contrastive_loss',
    'info_nce_loss',
]
