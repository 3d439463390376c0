import inspect
from typing import Optional

import torch
from torch import Tensor

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn.stacked_adj import StackedAdj
from diffmm_pyg.nn.weighted_adj import WeightedAdj
from diffmm_pyg.typing import OptTensor, SparseTensor


class StackedConv(torch.nn.Module):
    r"""Runs a convolution for graphs with one type of nodes on a
    :class:`~diffmm_pyg.nn.StackedAdj`, in the form in which the convolution
    takes the weights of edges: as :obj:`edge_weight` :math:`(|\mathcal{E}|)`,
    as features :obj:`edge_attr` :math:`(|\mathcal{E}|, 1)`, or not at all.

    Args:
        conv (torch.nn.Module): The convolution.

    Raises:
        ConfigError: If it needs more than nodes and weighted edges, adds
            self-loops, which the graph has, or caches results.

    Shapes:
        - **input:** node features :math:`(|\mathcal{U}| + |\mathcal{I}|, F)`,
          users first, and the graph
        - **output:** node features
          :math:`(|\mathcal{U}| + |\mathcal{I}|, F)`
    """
    def __init__(self, conv: torch.nn.Module):
        super().__init__()
        name = type(conv).__name__
        if not isinstance(conv, torch.nn.Module):
            raise ConfigError(f"The function that makes a convolution "
                              f"returned an object of type '{name}'; return a "
                              f"torch.nn.Module")
        parameters = inspect.signature(conv.forward).parameters
        required = [p.name for p in parameters.values()
                    if p.default is p.empty
                    and p.kind not in [p.VAR_POSITIONAL, p.VAR_KEYWORD]]
        if required[1:] != ['edge_index']:
            raise ConfigError(f"'{name}' takes {required}; a convolution here "
                              f"is given node features and 'edge_index', in "
                              f"this order, and needs nothing else")
        if getattr(conv, 'add_self_loops', False):
            raise ConfigError(f"'{name}' adds self-loops, but the graphs have "
                              f"them; make it with 'add_self_loops=False'")
        if getattr(conv, 'cached', False):
            raise ConfigError(f"'{name}' would keep what it makes of its "
                              f"first input; make it with 'cached=False'")
        self.conv = conv
        self.weight_name: Optional[str] = None
        if 'edge_weight' in parameters:
            self.weight_name = 'edge_weight'
        # Without 'edge_dim', PyG's layers ignore features of edges.
        elif ('edge_attr' in parameters
              and getattr(conv, 'edge_dim', 1) is not None):
            self.weight_name = 'edge_attr'

    @property
    def takes_weights(self) -> bool:
        r"""Whether the convolution depends on the weights of edges."""
        return self.weight_name is not None

    def forward(self, x: Tensor, adj: StackedAdj) -> Tensor:
        r"""Runs the convolution.

        Raises:
            ConfigError: If it changes the size of the features.
        """
        edge_index, weight = self._edges(adj, x.dtype)
        if weight is None:
            out = self.conv(x, edge_index)
        elif self.weight_name == 'edge_weight':
            out = self.conv(x, edge_index, edge_weight=weight)
        else:
            out = self.conv(x, edge_index, edge_attr=weight)
        if not isinstance(out, Tensor) or out.size() != x.size():
            size = list(out.size()) if isinstance(out, Tensor) else type(out)
            raise ConfigError(f"'{type(self.conv).__name__}' made {size} of "
                              f"{list(x.size())}; the sizes must be equal")
        return out

    def _edges(self, adj: StackedAdj, dtype: torch.dtype) -> WeightedAdj:
        if isinstance(adj.adj_t, SparseTensor):
            if not getattr(self.conv, 'fuse', False):
                # It gains nothing, and code like `row, col = edge_index`, as
                # in PyG's tutorial, works.
                row, col, value = adj.adj_t.coo()
                return torch.stack([col, row]), self._weight(value, dtype)
            value = adj.adj_t.storage.value()
            weight = self._weight(value, dtype)
            if weight is value:
                return adj.adj_t, None
            return adj.adj_t.set_value(weight, layout='coo'), None
        return adj.adj_t, self._weight(adj.edge_weight, dtype)

    def _weight(self, weight: OptTensor, dtype: torch.dtype) -> OptTensor:
        if weight is None or not self.takes_weights:
            return None
        if self.weight_name == 'edge_attr':
            weight = weight.view(-1, 1)
        return weight.to(dtype)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.conv})'
