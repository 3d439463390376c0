r"""What writes edges, and weights of edges, into a graph."""
from .add_denoised_edges import AddDenoisedEdges, add_denoised_edges
from .bipartite_gcn_norm import BipartiteGCNNorm, bipartite_gcn_norm
from .item_knn_graph import item_knn_graph
from .sampling_graph import sampling_graph

__all__ = [
    'AddDenoisedEdges',
    'BipartiteGCNNorm',
    'add_denoised_edges',
    'bipartite_gcn_norm',
    'item_knn_graph',
    'sampling_graph',
]
