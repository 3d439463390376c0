from typing import Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from diffmm_pyg.data import denoised_edges
from diffmm_pyg.nn.weighted_adj import weighted_adj
from diffmm_pyg.transforms.bipartite_gcn_norm import (
    bipartite_gcn_norm,
    norm_weights,
)
from diffmm_pyg.typing import (
    ITEM,
    USER,
    Adj,
    EdgeType,
    OptTensor,
    reverse_edge_type,
)
from diffmm_pyg.utils import keyed_generator
from torch_geometric.data import HeteroData
from torch_geometric.utils import scatter


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
        return cls._stack(edge_index.flip([0]), edge_index, torch.cat(parts),
                          num_users, num_items, sparse)

    @classmethod
    def from_batch(cls, batch: HeteroData,
                   edge_type: EdgeType) -> 'StackedAdj':
        r"""Normalizes the edges of a subgraph that a loader drew from a
        :meth:`~diffmm_pyg.transforms.sampling_graph`, by the degrees in the
        whole graph. The edges that were drawn for a node stand for all it
        has: their weights grow until they sum up to its degree, so that a sum
        over neighbors is estimated, not shrunk, and exact where none is
        missing.

        Args:
            batch (HeteroData): The subgraph.
            edge_type (Tuple[str, str, str]): The relation, from users to
                items.
        """
        _, relation, _ = edge_type
        degree = {t: batch[t][f'degree_{relation}'] for t in [USER, ITEM]}
        indices, weights = [], []
        for src, name, dst in [reverse_edge_type(edge_type), edge_type]:
            store = batch[src, name, dst]
            drawn = scatter(store.edge_weight, store.edge_index[1],
                            dim_size=batch[dst].num_nodes, reduce='sum')
            scale = (degree[dst] / drawn)[store.edge_index[1]]
            indices.append(store.edge_index)
            weights.append(scale * norm_weights(
                store.edge_index, store.edge_weight, degree[src], degree[dst]))
        roots = [1 / (degree[t] + 1) for t in [USER, ITEM]]
        to_user, to_item = indices
        return cls._stack(to_user, to_item, torch.cat([*weights, *roots]),
                          batch[USER].num_nodes, batch[ITEM].num_nodes)

    @classmethod
    def _stack(cls, to_user: Tensor, to_item: Tensor, value: Tensor,
               num_users: int, num_items: int,
               sparse: Optional[bool] = None) -> 'StackedAdj':
        # Edges to users, to items, and from every node to itself.
        num_nodes = num_users + num_items
        node = torch.arange(num_nodes, device=value.device)
        index = torch.stack([
            torch.cat([to_user[0] + num_users, to_item[0], node]),
            torch.cat([to_user[1], to_item[1] + num_users, node]),
        ])
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
    dropout: float,
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
        edge_index, edge_weight = denoised_edges(data, modality)
        generator = None
        if dropout > 0:
            # One longer than the keys of training steps.
            key = (*data.edge_dropout_key.tolist(), i, 0)
            generator = keyed_generator(*key, device=edge_index.device)
        out[modality] = StackedAdj.from_edge_index(
            edge_index, num_users, num_items, edge_weight, dropout, generator,
            sparse)
    return out
