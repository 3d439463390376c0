from typing import Dict, Tuple

from torch import Tensor

from torch_geometric.typing import (  # noqa: F401
    WITH_TORCH_SPARSE,
    Adj,
    EdgeType,
    OptTensor,
    SparseTensor,
)

USER = 'user'
ITEM = 'item'
INTERACTS: EdgeType = (USER, 'interacts', ITEM)
REV_INTERACTS: EdgeType = (ITEM, 'rev_interacts', USER)

# A set of edges from users to items, `edge_index` [2, E] with `edge_weight`
# [E], for every modality:
EdgesDict = Dict[str, Tuple[Tensor, Tensor]]


def denoised_edge_type(modality: str) -> EdgeType:
    r"""Returns the edge type that holds the user-item edges which the
    diffusion model of :obj:`modality` generated.
    """
    return (USER, f'denoised_{modality}', ITEM)
