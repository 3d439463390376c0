r"""DiffMM written the straightforward way: dense, un-fused and stateless.

These functions are the oracle that the tests compare the library with, and
the base line of the benchmarks; nothing else in the package uses them.
They take and return plain tensors (dictionaries of them are keyed by
modality), follow the type and the device of their inputs, and never draw a
random number: noise, time steps, masks and batches are arguments.
"""
from diffmm_pyg.testing.textbook.diffusion import (
    add_noise,
    denoise,
    denoiser_loss,
    sample,
    time_code,
)
from diffmm_pyg.testing.textbook.generation import edge_weights, topk_edges
from diffmm_pyg.testing.textbook.losses import (
    bpr_loss,
    contrastive_loss,
    info_nce_loss,
    l2_loss,
)
from diffmm_pyg.testing.textbook.propagation import (
    diffmm_embeddings,
    normalized_adjacency,
    project,
)
from diffmm_pyg.testing.textbook.ranking import rank_items, ranking_metrics
from diffmm_pyg.testing.textbook.schedule import (
    linear_variance_betas,
    noise_schedule,
)

__all__ = [
    'linear_variance_betas',
    'noise_schedule',
    'time_code',
    'denoise',
    'add_noise',
    'denoiser_loss',
    'sample',
    'topk_edges',
    'edge_weights',
    'normalized_adjacency',
    'project',
    'diffmm_embeddings',
    'bpr_loss',
    'l2_loss',
    'info_nce_loss',
    'contrastive_loss',
    'rank_items',
    'ranking_metrics',
]
