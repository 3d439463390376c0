from .add_denoised_edges import add_denoised_edges
from .bipartite_gcn_norm import BipartiteGCNNorm, bipartite_gcn_norm

__all__ = [
    'BipartiteGCNNorm',
    'add_denoised_edges',
    'bipartite_gcn_norm',
]
