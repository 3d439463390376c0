from typing import Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from diffmm_pyg.errors import DataError
from diffmm_pyg.nn.weighted_adj import weighted_adj
from diffmm_pyg.transforms import bipartite_gcn_norm
from diffmm_pyg.typing import Adj, OptTensor, denoised_edge_type
from diffmm_pyg.utils import keyed_generator
from torch_geometric.data import HeteroData


class StackedAdj(NamedTuple):
    r"""The matrix :math:`\mathbf{\hat{A}} = \mathbf{D}^{-1/2} (\mathbf{A} +
    \mathbf{I}) \mathbf{D}^{-1/2}` over all nodes, users first, so that any
    convolution for graphs with one type of nodes can run on it.

    Args:
        adj_t (torch.Tensor or SparseTensor): The entries, as indices
            :math:`(2, 2 |\mathcal{E}| + |\mathcal{U}| + |\mathcal{I}|)`, or
            as a transposed matrix with the weights as its values.
        edge_weight (torch.Tensor, optional): The weights that go with
            indices. (default: :obj:`None`)
    """
    adj_t: Adj
    edge_weight: OptTensor = None

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
    ) -> 'StackedAdj':
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
            sparse (bool, optional): Whether entries are held as
                :class:`~torch_sparse.SparseTensor`; by default if that
                works on the device. (default: :obj:`None`)
        """
        weight, *roots = bipartite_gcn_norm(edge_index, num_users, num_items,
                                            edge_weight,
                                            torch.get_default_dtype())
        parts = [weight, weight, *roots]  # To users, to items, to themselves.
        if dropout > 0:
            parts = [_dropout(x, dropout, generator) for x in parts]
        value = torch.cat(parts)

        num_nodes = num_users + num_items
        user, item = edge_index[0], edge_index[1] + num_users
        node = torch.arange(num_nodes, device=edge_index.device)
        index = torch.stack([torch.cat([item, user, node]),
                             torch.cat([user, item, node])])
        return cls(*weighted_adj(index, value, num_nodes, sparse))


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
    sparse: Optional[bool] = None,
) -> Dict[str, StackedAdj]:
    r"""Returns the matrices of the generated edges that :obj:`data` holds, in
    the form of :meth:`StackedAdj.from_edge_index`. Entries are dropped by the
    key :obj:`data.edge_dropout_key`, so that they are the same at each call.

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
        out[modality] = StackedAdj.from_edge_index(
            store.edge_index, num_users, num_items, store.edge_weight, dropout,
            generator, sparse)
    return out
