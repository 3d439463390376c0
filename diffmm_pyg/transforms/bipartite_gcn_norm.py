from typing import Optional, Tuple

import torch
from torch import Tensor

from diffmm_pyg.data import check_relation
from diffmm_pyg.typing import INTERACTS, EdgeType, reverse_edge_type
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import scatter


def bipartite_gcn_norm(
    edge_index: Tensor,
    num_src: int,
    num_dst: int,
    edge_weight: Optional[Tensor] = None,
    dtype: Optional[torch.dtype] = None,
) -> Tuple[Tensor, Tensor, Tensor]:
    r"""Normalizes the weights of bipartite edges as
    :math:`\mathbf{D}^{-1/2} (\mathbf{A} + \mathbf{I}) \mathbf{D}^{-1/2}` on
    the stacked graph does, self-loops of weight 1 included:

    .. math::
        \hat{e}_{ij} = \frac{e_{ij}}{\sqrt{(d_i + 1)(d_j + 1)}}, \quad
        r_i = \frac{1}{d_i + 1}, \quad d_i = \sum_j e_{ij}.

    Nodes without edges keep :math:`r_i = 1`. Gradients flow into the weights.

    Args:
        edge_index (torch.Tensor): The edges :math:`(2, |\mathcal{E}|)`.
        num_src (int): The number of source nodes.
        num_dst (int): The number of destination nodes.
        edge_weight (torch.Tensor, optional): Positive weights
            :math:`(|\mathcal{E}|)`; 1 if not given. (default: :obj:`None`)
        dtype (torch.dtype, optional): The type of the weights in case they
            are not given. (default: :obj:`None`)

    Returns:
        The edge weights :math:`\hat{e}` and the root weights :math:`r` of
        source and destination nodes.
    """
    if edge_weight is None:
        edge_weight = torch.ones(edge_index.size(1), dtype=dtype,
                                 device=edge_index.device)
    deg_src, deg_dst = bipartite_degrees(edge_index, num_src, num_dst,
                                         edge_weight)
    return (norm_weights(edge_index, edge_weight, deg_src, deg_dst),
            1 / (deg_src + 1), 1 / (deg_dst + 1))


def bipartite_degrees(edge_index: Tensor, num_src: int, num_dst: int,
                      edge_weight: Tensor) -> Tuple[Tensor, Tensor]:
    r"""Returns the sums :math:`d_i` of the weights of the edges of every
    source and of every destination node.
    """
    src, dst = edge_index
    return (scatter(edge_weight, src, dim_size=num_src, reduce='sum'),
            scatter(edge_weight, dst, dim_size=num_dst, reduce='sum'))


def norm_weights(edge_index: Tensor, edge_weight: Tensor, deg_src: Tensor,
                 deg_dst: Tensor) -> Tensor:
    r"""Returns the weights :math:`\hat{e}` of :meth:`bipartite_gcn_norm`."""
    src, dst = edge_index
    return edge_weight * ((deg_src + 1).rsqrt()[src] *
                          (deg_dst + 1).rsqrt()[dst])


@functional_transform('diffmm_bipartite_gcn_norm')
class BipartiteGCNNorm(BaseTransform):
    r"""Normalizes the edges of a bipartite relation, and its reverse if there
    is one, by :meth:`~diffmm_pyg.transforms.bipartite_gcn_norm` (functional
    name: :obj:`diffmm_bipartite_gcn_norm`). Writes :obj:`edge_weight` into
    the edge stores and :obj:`root_weight`, of shape :obj:`[num_nodes]`, into
    the node stores.

    Args:
        edge_type (Tuple[str, str, str], optional): The relation.
            (default: :obj:`('user', 'interacts', 'item')`)
    """
    def __init__(self, edge_type: EdgeType = INTERACTS):
        self.edge_type = edge_type

    def forward(self, data: HeteroData) -> HeteroData:
        r"""Writes the weights into the stores of :obj:`data`.

        Raises:
            DataError: If it lacks the relation.
        """
        src, _, dst = self.edge_type
        check_relation(data, self.edge_type)
        store = data[self.edge_type]
        weight, root_src, root_dst = bipartite_gcn_norm(
            store.edge_index, data[src].num_nodes, data[dst].num_nodes,
            store.get('edge_weight'))
        store.edge_weight = weight
        data[src].root_weight, data[dst].root_weight = root_src, root_dst

        reverse = reverse_edge_type(self.edge_type)
        if reverse in data.edge_types:
            rev = data[reverse]
            rev.edge_weight = bipartite_gcn_norm(
                rev.edge_index, data[dst].num_nodes, data[src].num_nodes,
                rev.get('edge_weight'))[0]
        return data

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.edge_type})'
