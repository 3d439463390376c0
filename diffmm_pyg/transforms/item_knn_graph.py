from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.utils import SparseRows, inner_product_topk
from torch_geometric.nn.conv.gcn_conv import gcn_norm


def item_knn_graph(
    x: Tensor,
    k: int,
    mask: Optional[Tensor] = None,
    loop: bool = False,
    weighted: bool = True,
    normalize: bool = True,
) -> Tuple[Tensor, Tensor]:
    r"""Builds the graph that leads to every item from the :obj:`k` items of
    the largest cosine similarity :math:`s_{ij} > 0`, as in `"Mining Latent
    Structures for Multimedia Recommendation"
    <https://arxiv.org/abs/2104.09036>`_, one block of scores at a time.

    With the normalization :math:`s_{ij} / \sqrt{d_i d_j}, d_i = \sum_j
    s_{ij}`, a product with the matrix of the graph is a convolution.

    Args:
        x (torch.Tensor): The features :math:`(|\mathcal{I}|, F)`.
        k (int): The largest number of edges to an item.
        mask (torch.Tensor, optional): The items :math:`(|\mathcal{I}|)` that
            have features; the others have no edges. (default: :obj:`None`)
        loop (bool, optional): If set to :obj:`True`, an item is its own
            neighbor, one of the :obj:`k`. (default: :obj:`False`)
        weighted (bool, optional): If set to :obj:`False`, edges have the
            weight 1 before the normalization. (default: :obj:`True`)
        normalize (bool, optional): If set to :obj:`False`, weights are not
            normalized. (default: :obj:`True`)

    Returns:
        The edge indices :math:`(2, |\mathcal{E}|)` from neighbors to items,
        sorted by item, and the edge weights :math:`(|\mathcal{E}|)`.

    Raises:
        ValueError: If :obj:`k` is less than 1.
    """
    if k < 1:
        raise ValueError(f"'k' must be at least 1 (got {k})")
    num_items = x.size(0)
    node = torch.arange(num_items, device=x.device)
    node = node if mask is None else node[mask]
    num = node.numel() - (not loop)  # Of those that may be neighbors.
    if num < 1:
        return node.new_empty(2, 0), x.new_empty(0)

    x = F.normalize(x[node])
    own = torch.arange(node.numel(), device=x.device)
    exclude = None
    if not loop:
        exclude = SparseRows.from_edge_index(torch.stack([own, own]),
                                             own.numel(), own.numel())
    value, index = inner_product_topk(x, x, min(k, num), exclude=exclude)
    keep = value > 0
    item = own.view(-1, 1).expand_as(index)[keep]
    edge_index = torch.stack([node[index[keep]], node[item]])
    edge_weight = value[keep] if weighted else torch.ones_like(value[keep])
    if normalize:
        edge_index, edge_weight = gcn_norm(edge_index, edge_weight,
                                           num_items,
                                           add_self_loops=False)
    return edge_index, edge_weight
