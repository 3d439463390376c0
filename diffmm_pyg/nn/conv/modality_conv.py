from typing import Any, Union

from torch import Tensor

from diffmm_pyg.nn.conv.spmm import spmm
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.typing import Adj, OptPairTensor, OptTensor, Size
from torch_geometric.utils import is_sparse


class ModalityConv(MessagePassing):
    r"""The weighted, bipartite sum that carries modality features and
    embeddings between users and items in `"DiffMM: Multi-Modal Diffusion
    Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_ (Eqs. 16
    to 20)

    .. math::
        \mathbf{x}^{\prime}_i = r_i \mathbf{x}_i + \sum_{j \in \mathcal{N}(i)}
        e_{j,i} \mathbf{x}_j.

    With the weights of :meth:`~diffmm_pyg.transforms.bipartite_gcn_norm`, one
    call per direction is a product with :math:`\mathbf{D}^{-1/2} (\mathbf{A}
    + \mathbf{I}) \mathbf{D}^{-1/2}`. There are no parameters.

    Args:
        **kwargs (Any, optional): Additional arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:**
          node features :math:`(|\mathcal{V}|, F)` or
          :math:`((|\mathcal{V}_s|, F), (|\mathcal{V}_t|, F))` if bipartite,
          edge indices :math:`(2, |\mathcal{E}|)` or a transposed sparse
          matrix :math:`(|\mathcal{V}_t|, |\mathcal{V}_s|)` whose values are
          the edge weights,
          edge weights :math:`(|\mathcal{E}|)` *(optional)*,
          root weights :math:`(|\mathcal{V}_t|)` *(optional)*
        - **output:** node features :math:`(|\mathcal{V}_t|, F)`
    """
    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault('aggr', 'sum')
        super().__init__(**kwargs)

    def forward(
        self,
        x: Union[Tensor, OptPairTensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        root_weight: OptTensor = None,
        size: Size = None,
    ) -> Tensor:
        r"""Runs the convolution.

        Raises:
            ValueError: If weights are given beside a sparse matrix, or root
                weights without the features of the destination nodes.
        """
        if edge_weight is not None and is_sparse(edge_index):
            raise ValueError("'edge_weight' would be ignored beside a sparse "
                             "matrix; make the weights its values")
        if isinstance(x, Tensor):
            x = (x, x)
        if root_weight is not None and x[1] is None:
            raise ValueError("'root_weight' needs the features of the "
                             "destination nodes (got x[1]=None)")

        # propagate_type: (x: OptPairTensor, edge_weight: OptTensor)
        out = self.propagate(edge_index, x=x, edge_weight=edge_weight,
                             size=size)
        if root_weight is not None:
            out = out + root_weight.view(-1, 1) * x[1]
        return out

    def message(self, x_j: Tensor, edge_weight: OptTensor) -> Tensor:
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j

    def message_and_aggregate(self, adj_t: Adj, x: OptPairTensor) -> Tensor:
        return spmm(adj_t, x[0], self.aggr)
