r"""Convolutions."""
from .modality_conv import ModalityConv

__all__ = [
    'ModalityConv',
]
