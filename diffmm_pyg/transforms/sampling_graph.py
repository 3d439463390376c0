import torch

from diffmm_pyg.data import (
    denoised_edges,
    modalities,
    modality_features,
    modality_masks,
    observed_rows,
)
from diffmm_pyg.transforms.bipartite_gcn_norm import bipartite_degrees
from diffmm_pyg.typing import INTERACTS, ITEM, USER, denoised_edge_type
from torch_geometric.data import HeteroData
from torch_geometric.transforms import ToUndirected


def sampling_graph(data: HeteroData) -> HeteroData:
    r"""Returns the graph from which
    :class:`torch_geometric.loader.LinkNeighborLoader` and
    :class:`torch_geometric.loader.NeighborLoader` draw subgraphs for
    :class:`~diffmm_pyg.nn.DiffMM`: the features of items, the observed and
    the generated edges, the reverse of each, and, as every weight is
    normalized by them, the degrees of nodes in the whole graph, as
    :obj:`degree_<relation>` of users and of items.

    Args:
        data (HeteroData): The graph, with generated edges.

    Raises:
        DataError: If those of a modality are missing.
    """
    out = HeteroData()
    for node_type in [USER, ITEM]:
        out[node_type].num_nodes = data[node_type].num_nodes
    for modality, x in modality_features(data).items():
        out[ITEM][f'x_{modality}'] = x
    for modality, mask in modality_masks(data).items():
        out[ITEM][f'has_{modality}'] = mask
    edge_index = observed_rows(data).edge_index
    edges = {INTERACTS: (edge_index, torch.ones(
        edge_index.size(1), dtype=torch.get_default_dtype(),
        device=edge_index.device))}
    for modality in modalities(data):
        edges[denoised_edge_type(modality)] = denoised_edges(data, modality)
    for edge_type, (edge_index, edge_weight) in edges.items():
        out[edge_type].edge_index = edge_index
        out[edge_type].edge_weight = edge_weight
        degrees = bipartite_degrees(edge_index, out[USER].num_nodes,
                                    out[ITEM].num_nodes, edge_weight)
        for node_type, degree in zip([USER, ITEM], degrees, strict=True):
            out[node_type][f'degree_{edge_type[1]}'] = degree
    return ToUndirected()(out)
