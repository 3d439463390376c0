from typing import Optional, Tuple

import torch
from torch import Tensor

from diffmm_pyg.typing import Adj, OptTensor, SparseTensor
from diffmm_pyg.utils.sparse_backend import sparse_backend
from torch_geometric.nn.conv.gcn_conv import gcn_norm

# What a convolution takes: indices with their weights, or a sparse matrix,
# transposed, whose values are the weights.
WeightedAdj = Tuple[Adj, OptTensor]


def weighted_adj(
    edge_index: Tensor,
    edge_weight: Tensor,
    num_nodes: int,
    sparse: Optional[bool] = None,
) -> WeightedAdj:
    r"""Brings weighted edges into the form that products with them are
    fastest in.

    Args:
        edge_index (torch.Tensor): The edges :math:`(2, |\mathcal{E}|)`.
        edge_weight (torch.Tensor): Their weights :math:`(|\mathcal{E}|)`.
        num_nodes (int): The number of nodes.
        sparse (bool, optional): Whether to make them a
            :class:`~torch_sparse.SparseTensor`; by default if that works on
            the device. (default: :obj:`None`)
    """
    if sparse is None:
        sparse = sparse_backend(edge_index.device) == 'torch-sparse'
    if not sparse:
        return edge_index, edge_weight
    adj_t = SparseTensor(row=edge_index[1], col=edge_index[0],
                         value=edge_weight,
                         sparse_sizes=(num_nodes, num_nodes))
    # What products and their gradients would compute anew each time:
    adj_t.storage.rowptr()
    adj_t.storage.csr2csc()
    adj_t.storage.colptr()
    return adj_t, None


def normalized_adj(
    edge_index: Tensor,
    num_users: int,
    num_items: int,
    sparse: Optional[bool] = None,
) -> WeightedAdj:
    r"""Returns :math:`\mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}` over all
    nodes, users first: that of :class:`~diffmm_pyg.nn.StackedAdj` without
    self-loops. Nodes without edges have empty rows.

    Args:
        edge_index (torch.Tensor): The edges :math:`(2, |\mathcal{E}|)` from
            users to items.
        num_users (int): The number of users.
        num_items (int): The number of items.
        sparse (bool, optional): See :meth:`weighted_adj`.
            (default: :obj:`None`)
    """
    user, item = edge_index[0], edge_index[1] + num_users
    both = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    num_nodes = num_users + num_items
    both, weight = gcn_norm(both, None, num_nodes, add_self_loops=False,
                            dtype=torch.get_default_dtype())
    return weighted_adj(both, weight, num_nodes, sparse)
