from diffmm_pyg.typing import EdgesDict, denoised_edge_type
from torch_geometric.data import HeteroData


def add_denoised_edges(data: HeteroData, edges: EdgesDict) -> HeteroData:
    r"""Writes generated edges into the edge stores
    :obj:`('user', 'denoised_<modality>', 'item')`, in place.

    Args:
        data (HeteroData): The graph.
        edges (Dict[str, Tuple[torch.Tensor, torch.Tensor]]): Edge indices
            :math:`(2, |\mathcal{E}|)` and weights :math:`(|\mathcal{E}|)`
            per modality, as
            :meth:`~diffmm_pyg.diffusion.GraphDiffusion.generate` returns
            them.
    """
    for modality, (edge_index, edge_weight) in edges.items():
        store = data[denoised_edge_type(modality)]
        store.edge_index, store.edge_weight = edge_index, edge_weight
    return data
