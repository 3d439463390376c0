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


def denoised_edge_type(modality: str,
                       edge_type: EdgeType = INTERACTS,
                       prefix: str = 'denoised') -> EdgeType:
    r"""Returns the edge type that holds the edges which the diffusion model
    of :obj:`modality` generated from those of :obj:`edge_type`.

    Args:
        modality (str): The name of the modality.
        edge_type (Tuple[str, str, str], optional): The relation.
            (default: :obj:`('user', 'interacts', 'item')`)
        prefix (str, optional): What comes before the modality in the name.
            (default: :obj:`"denoised"`)
    """
    src, _, dst = edge_type
    return (src, f'{prefix}_{modality}', dst)


def reverse_edge_type(edge_type: EdgeType) -> EdgeType:
    r"""Returns the edge type of the reverse of a bipartite relation, as
    :class:`~torch_geometric.transforms.ToUndirected` names it.
    """
    src, relation, dst = edge_type
    return (dst, f'rev_{relation}', src)
