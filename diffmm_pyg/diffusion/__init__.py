r"""Diffusion over rows of interactions, and the graphs it generates."""
from .denoiser import Denoiser
from .gaussian_diffusion import GaussianDiffusion
from .graph_diffusion import GraphDiffusion
from .schedule import linear_variance_betas

__all__ = [
    'Denoiser',
    'GaussianDiffusion',
    'GraphDiffusion',
    'linear_variance_betas',
]
