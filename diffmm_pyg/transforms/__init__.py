from .bipartite_gcn_norm import BipartiteGCNNorm, bipartite_gcn_norm

__all__ = [
    'BipartiteGCNNorm',
    'bipartite_gcn_norm',
]
