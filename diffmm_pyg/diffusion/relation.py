r"""What a diffusion model is trained on and denoises: the edges of a bipartite
relation of any graph as rows, and features of its destination nodes.
"""
from typing import TYPE_CHECKING, Dict, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.data import check_edges, check_relation
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.typing import EdgeType
from diffmm_pyg.utils.sparse_rows import SparseRows
from torch_geometric.data import HeteroData

if TYPE_CHECKING:
    from diffmm_pyg.diffusion.graph_diffusion import GraphDiffusion


def relation_rows(diffusion: 'GraphDiffusion', data: HeteroData,
                  edge_type: EdgeType) -> SparseRows:
    r"""Returns the edges of a relation as rows, one per source node, on the
    device of the diffusion model. Duplicates count once.

    Raises:
        DataError: If :obj:`data` has no such edges, or none, or they are not
            valid.
        ConfigError: If the model was made for rows of another length.
    """
    check_relation(data, edge_type)
    src, _, dst = edge_type
    for node_type in [src, dst]:
        if not data[node_type].num_nodes:
            raise DataError(f"data['{node_type}'].num_nodes is missing or 0; "
                            f"set it to the number of '{node_type}' nodes")
    num_src, num_dst = data[src].num_nodes, data[dst].num_nodes
    if num_dst != diffusion.denoiser.num_items:
        raise ConfigError(f"The data has {num_dst} '{dst}' nodes, but the "
                          f"diffusion model was made for rows of length "
                          f"{diffusion.denoiser.num_items}")
    edge_index = data[edge_type].edge_index
    if edge_index.numel() == 0:
        raise DataError(f"The relation {edge_type} has no edges; add some")
    check_edges(edge_index, num_src, num_dst, kinds=(src, dst))
    return SparseRows.from_edge_index(
        edge_index.to(diffusion.denoiser.bias_out.device), num_src, num_dst)


def relation_features(
    diffusion: 'GraphDiffusion',
    data: HeteroData,
    node_type: str,
    features: Optional[Dict[str, str]],
) -> Optional[Dict[str, Tensor]]:
    r"""Returns the features :math:`\mathbf{P}^m` for the signal injection
    where nothing projects them: raw ones, of unit norm, padded with zeros to
    a common width, so that all modalities weigh the same. A row of NaN says
    that a node lacks the modality, and becomes zero, as good as left out.

    Args:
        diffusion (GraphDiffusion): The diffusion model.
        data (HeteroData): The graph.
        node_type (str): The type of the nodes.
        features (Dict[str, str], optional): The attribute of these nodes that
            holds the features of every modality.

    Raises:
        DataError: If an attribute is missing or does not hold finite features.
        ConfigError: If the model was made for other modalities.
    """
    if features is None:
        return None
    if set(features) != set(diffusion.modalities):
        raise ConfigError(f"'features' names the modalities {list(features)}, "
                          f"but the diffusion model was made for "
                          f"{diffusion.modalities}")
    out = {m: _unit_rows(data, node_type, attr).to(diffusion.denoiser.bias_out)
           for m, attr in features.items()}
    width = max(x.size(1) for x in out.values())
    return {m: F.pad(x, (0, width - x.size(1))) for m, x in out.items()}


def _unit_rows(data: HeteroData, node_type: str, attr: str) -> Tensor:
    store, name = data[node_type], f"data['{node_type}'].{attr}"
    if attr not in store:
        raise DataError(f"{name} does not exist; there are "
                        f"{list(store.keys())}")
    x = store[attr]
    if not isinstance(x, Tensor) or x.is_complex() or x.dim() != 2 or \
            x.size(0) != store.num_nodes or x.size(1) == 0:
        got = (f'{x.dtype}, {list(x.shape)}' if isinstance(x, Tensor) else
               type(x).__name__)
        raise DataError(f"{name} must be a tensor of real numbers of shape "
                        f"[{store.num_nodes}, F] (got {got})")
    x = x.to_dense().to(torch.get_default_dtype())
    missing = x.isnan().all(dim=1, keepdim=True)
    x = x.masked_fill(missing, 0.)
    bad = ~x.isfinite().all(dim=1)
    if bad.any():
        raise DataError(f"Row {int(bad.nonzero()[0])} of {name} holds NaN or "
                        f"infinite values; mend it, or set all of it to NaN "
                        f"where the feature is missing")
    return F.normalize(x, dim=1)
