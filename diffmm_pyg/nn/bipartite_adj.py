from typing import Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from diffmm_pyg.errors import DataError
from diffmm_pyg.transforms import bipartite_gcn_norm
from diffmm_pyg.typing import Adj, OptTensor, SparseTensor, denoised_edge_type
from diffmm_pyg.utils import keyed_generator
from diffmm_pyg.utils.sparse_backend import sparse_backend
from torch_geometric.data import HeteroData
from torch_geometric.nn.conv import MessagePassing


class BipartiteAdj(NamedTuple):
    r"""The matrix :math:`\mathbf{\hat{A}} = \mathbf{D}^{-1/2} (\mathbf{A} +
    \mathbf{I}) \mathbf{D}^{-1/2}` over users and items, as its four blocks:
    edges to users and to items, and the diagonals of both.

    Args:
        to_user (torch.Tensor or SparseTensor): The edges from items to users,
            as indices or as a matrix :math:`(|\mathcal{U}|, |\mathcal{I}|)`.
        to_item (torch.Tensor or SparseTensor): The edges from users to items,
            as indices or as a matrix :math:`(|\mathcal{I}|, |\mathcal{U}|)`.
        root_user (torch.Tensor): The diagonal :math:`(|\mathcal{U}|)`.
        root_item (torch.Tensor): The diagonal :math:`(|\mathcal{I}|)`.
        weight_to_user (torch.Tensor, optional): The edge weights
            :math:`(|\mathcal{E}|)` that go with indices.
        weight_to_item (torch.Tensor, optional): The edge weights
            :math:`(|\mathcal{E}|)` that go with indices.
    """
    to_user: Adj
    to_item: Adj
    root_user: Tensor
    root_item: Tensor
    weight_to_user: OptTensor = None
    weight_to_item: OptTensor = None

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
        edge_weight: OptTensor = None,
        dropout: float = 0.0,
        generator: Optional[torch.Generator] = None,
        sparse: Optional[bool] = None,
    ) -> 'BipartiteAdj':
        r"""Normalizes edges :math:`(2, |\mathcal{E}|)` from users to items.

        Args:
            edge_index (torch.Tensor): The edges.
            num_users (int): The number of users.
            num_items (int): The number of items.
            edge_weight (torch.Tensor, optional): Their positive weights; 1 if
                not given. (default: :obj:`None`)
            dropout (float, optional): The probability with which an entry of
                the normalized matrix is set to zero; the others are rescaled.
                Both directions of an edge, and the diagonal, are drawn
                independently. (default: :obj:`0.0`)
            generator (torch.Generator, optional): What draws them.
                (default: :obj:`None`)
            sparse (bool, optional): Whether edges are held as
                :class:`~torch_sparse.SparseTensor`; by default if that
                works on the device. (default: :obj:`None`)
        """
        weight, *roots = bipartite_gcn_norm(edge_index, num_users, num_items,
                                            edge_weight,
                                            torch.get_default_dtype())
        weights = [weight, weight]
        if dropout > 0:
            weights = [_dropout(w, dropout, generator) for w in weights]
            roots = [_dropout(r, dropout, generator) for r in roots]

        user, item = edge_index
        if sparse is None:
            sparse = sparse_backend(edge_index.device) == 'torch-sparse'
        if not sparse:
            return cls(edge_index.flip([0]), edge_index, *roots, *weights)
        adjs = []
        for row, col, value, size in [
            (user, item, weights[0], (num_users, num_items)),
            (item, user, weights[1], (num_items, num_users)),
        ]:
            adj_t = SparseTensor(row=row, col=col, value=value,
                                 sparse_sizes=size)
            adj_t.storage.rowptr()
            adj_t.storage.csr2csc()
            adj_t.storage.colptr()
            adjs.append(adj_t)
        return cls(*adjs, *roots)

    def gather_users(self, conv: MessagePassing, x_item: Tensor) -> Tensor:
        r"""Returns what users receive from items."""
        size = (self.root_item.numel(), self.root_user.numel())
        return conv((x_item, None), self.to_user, self.weight_to_user,
                    size=size)

    def gather_items(self, conv: MessagePassing, x_user: Tensor) -> Tensor:
        r"""Returns what items receive from users."""
        size = (self.root_user.numel(), self.root_item.numel())
        return conv((x_user, None), self.to_item, self.weight_to_item,
                    size=size)

    def scale_users(self, x: Tensor) -> Tensor:
        r"""Returns the product of the users' diagonal with :obj:`x`."""
        return self.root_user.view(-1, 1) * x

    def scale_items(self, x: Tensor) -> Tensor:
        r"""Returns the product of the items' diagonal with :obj:`x`."""
        return self.root_item.view(-1, 1) * x


def _dropout(x: Tensor, p: float,
             generator: Optional[torch.Generator]) -> Tensor:
    draw = torch.rand(x.size(), generator=generator, device=x.device)
    return torch.where(draw < p, 0., x / (1 - p))


def denoised_adjs(
    data: HeteroData,
    modalities: List[str],
    num_users: int,
    num_items: int,
    dropout: float = 0.0,
) -> Dict[str, BipartiteAdj]:
    r"""Returns the matrices of the generated edges that :obj:`data` holds.
    Entries are dropped by the key :obj:`data.edge_dropout_key`, so that they
    are the same at each call.

    Raises:
        DataError: If those of a modality are missing.
    """
    out = {}
    for i, modality in enumerate(modalities):
        edge_type = denoised_edge_type(modality)
        if edge_type not in data.edge_types:
            raise DataError(f"data holds no generated edges of modality "
                            f"'{modality}'; train first, or write some with "
                            f"'add_denoised_edges'")
        store, generator = data[edge_type], None
        if dropout > 0:
            # One longer than the keys of training steps.
            key = (*data.edge_dropout_key.tolist(), i, 0)
            generator = keyed_generator(*key, device=store.edge_index.device)
        out[modality] = BipartiteAdj.from_edge_index(
            store.edge_index, num_users, num_items, store.edge_weight, dropout,
            generator)
    return out
