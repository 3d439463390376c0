r"""The names and types that all parts of this package share."""
from typing import Dict, Tuple

from torch import Tensor

from torch_geometric.typing import (
    WITH_TORCH_SPARSE,
    Adj,
    EdgeType,
    OptTensor,
    SparseTensor,
)

__all__ = [
    'Adj',
    'EdgeType',
    'EdgesDict',
    'INTERACTS',
    'ITEM',
    'OptTensor',
    'REV_INTERACTS',
    'SparseTensor',
    'USER',
    'WITH_TORCH_SPARSE',
    'denoised_edge_type',
]

#: The node type of users.
USER = 'user'
#: The node type of items.
ITEM = 'item'
#: The edge type of interactions.
INTERACTS: EdgeType = (USER, 'interacts', ITEM)
#: The edge type of their reverse.
REV_INTERACTS: EdgeType = (ITEM, 'rev_interacts', USER)

#: A set of edges from users to items, indices :obj:`[2, E]` with weights
#: :obj:`[E]`, for every modality.
EdgesDict = Dict[str, Tuple[Tensor, Tensor]]


def denoised_edge_type(modality: str) -> EdgeType:
    r"""Returns the edge type that holds the user-item edges which the
    diffusion model of :obj:`modality` generated.

    Args:
        modality (str): The name of the modality.
    """
    return (USER, f'denoised_{modality}', ITEM)
