import copy
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Tuple

import torch
from torch import Tensor

from diffmm_pyg.data import (
    modality_features,
    modality_masks,
    observed_rows,
)
from diffmm_pyg.datasets.ids import node_ids
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn.models.diffmm_forward import (
    diffmm_features,
    diffmm_propagate,
)
from diffmm_pyg.nn.stacked_adj import StackedAdj, denoised_adjs
from diffmm_pyg.recommendation import Id, positions
from diffmm_pyg.typing import INTERACTS, ITEM, USER, denoised_edge_type
from diffmm_pyg.utils.integrated_gradients import integrated_gradients
from torch_geometric.data import HeteroData
from torch_geometric.explain import HeteroExplanation
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.typing import EdgeType

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM


class EdgeContribution(NamedTuple):
    r"""What an edge contributes to a score.

    Args:
        relation (str): :obj:`"interacts"`, or the relation of the generated
            edges of a modality.
        user (int or str): The id of its user.
        item (int or str): The id of its item.
        value (float): The contribution.
    """
    relation: str
    user: Id
    item: Id
    value: float


class DiffMMExplanation(HeteroExplanation):
    r"""Why :class:`~diffmm_pyg.nn.DiffMM` gives an item its :obj:`score` for a
    user: what every edge contributes, as :obj:`edge_mask`
    :math:`(|\mathcal{E}|)` of its type, and what the features of every item
    contribute, as :obj:`node_mask` :math:`(|\mathcal{I}|, M)` of the items,
    with one column per modality. All of them add up to the difference to
    :obj:`base_score`, the score without edges and features.
    """
    def top_edges(self, k: int = 10) -> List[EdgeContribution]:
        r"""Returns the :obj:`k` edges, observed or generated, that raise the
        score most, the largest contribution first; fewer where no more do.
        """
        out = []
        ids = {kind: node_ids(self, kind) for kind in [USER, ITEM]}
        for edge_type in self.edge_types:
            store = self[edge_type]
            top = store.edge_mask.topk(min(k, store.edge_mask.numel()))
            user, item = store.edge_index[:, top.indices].tolist()
            for u, i, value in zip(user, item, top.values.tolist(),
                                   strict=True):
                out.append(EdgeContribution(edge_type[1], ids[USER][u],
                                            ids[ITEM][i], value))
        out = [edge for edge in out if edge.value > 0]
        return sorted(out, key=lambda edge: -edge.value)[:k]

    def modalities(self) -> Dict[str, Dict[str, float]]:
        r"""Returns what the :obj:`features` of every modality and its
        generated :obj:`edges` contribute.
        """
        out = {}
        for m, mask in zip(self.columns, self[ITEM].node_mask.t(),
                           strict=True):
            edge_mask = self[denoised_edge_type(m)].edge_mask
            out[m] = {'features': float(mask.sum()),
                      'edges': float(edge_mask.sum())}
        return out


def explain_diffmm(model: 'DiffMM', data: HeteroData, user: Id, item: Id,
                   num_points: int = 8) -> DiffMMExplanation:
    r"""Attributes the inner product of two final embeddings of
    :class:`~diffmm_pyg.nn.DiffMM` to edges and features by
    integrated gradients in masks of all messages, as those of
    :obj:`torch_geometric.explain`, and of all normalized features. Both
    directions of an edge share a mask, self-loops have none.

    Args:
        model (DiffMM): The model.
        data (HeteroData): The graph, with generated edges.
        user (int or str): The id of the user.
        item (int or str): The id of the item.
        num_points (int, optional): The number of forward and backward passes.
            (default: :obj:`8`)

    Raises:
        ConfigError: If an id is unknown, or a convolution is no
            :class:`~torch_geometric.nn.conv.MessagePassing`.
        DataError: If :obj:`data` holds no generated edges.
    """
    model.check(data)
    data = copy.copy(data)
    data[INTERACTS].edge_index = observed_rows(data).edge_index
    u, = positions(user, node_ids(data, USER), USER)
    i, = positions(item, node_ids(data, ITEM), ITEM)
    graphs = _graphs(model, data)
    adj, *denoised = [graph for _, graph in graphs.values()]
    denoised_adj_dict = dict(zip(model.modalities, denoised, strict=True))
    mask_dict = modality_masks(data)
    with torch.no_grad():
        feat_dict = diffmm_features(model, modality_features(data), mask_dict)

    def score(masks: Dict[Any, Tensor]) -> Tensor:
        for edge_type, (conv, graph) in graphs.items():
            mask = masks[edge_type]
            # To users, to items, to themselves:
            loops = mask.new_ones(model.num_users + model.num_items)
            set_masks(conv, torch.cat([mask, mask, loops]), graph.adj_t,
                      apply_sigmoid=False)
        feats = {m: masks[m].view(-1, 1) * x for m, x in feat_dict.items()}
        out = diffmm_propagate(model, feats, adj, denoised_adj_dict, mask_dict,
                               with_views=False)
        return out.user[u] @ out.item[i]

    ones = feat_dict[model.modalities[0]].new_ones
    masks = {**{t: ones(data[t].num_edges) for t in graphs},
             **{m: ones(model.num_items) for m in model.modalities}}
    training = model.training
    try:
        model.eval()
        values = integrated_gradients(score, masks, num_points)
        with torch.no_grad():
            scores = [float(score({k: scale * x for k, x in masks.items()}))
                      for scale in (0, 1)]
    finally:
        for conv, _ in graphs.values():
            clear_masks(conv)
        model.train(training)

    out = DiffMMExplanation(columns=model.modalities, base_score=scores[0],
                            score=scores[1])
    for kind in [USER, ITEM]:
        out[kind].num_nodes = data[kind].num_nodes
        if 'ids' in data[kind]:
            out[kind].ids = data[kind].ids
    out[ITEM].node_mask = torch.stack([values[m] for m in model.modalities],
                                      dim=1)
    for edge_type in graphs:
        out[edge_type].edge_index = data[edge_type].edge_index
        out[edge_type].edge_mask = values[edge_type]
    return out


def _graphs(model: 'DiffMM', data: HeteroData,
            ) -> Dict[EdgeType, Tuple[torch.nn.Module, StackedAdj]]:
    sizes = model.num_users, model.num_items
    dropout = model.edge_dropout if model.dropout_at_test else 0.
    denoised = denoised_adjs(data, model.modalities, *sizes, dropout,
                             sparse=False)
    adj = StackedAdj.from_edge_index(data[INTERACTS].edge_index, *sizes,
                                     sparse=False)
    out: Dict[EdgeType, Tuple[torch.nn.Module, StackedAdj]] = {
        INTERACTS: (model.observed_conv, adj)}
    for m, conv in model.denoised_convs.items():
        out[denoised_edge_type(m)] = conv, denoised[m]
    for conv, _ in out.values():
        if not any(isinstance(x, MessagePassing) for x in conv.modules()):
            raise ConfigError(f"{conv} cannot be explained, as its messages "
                              f"cannot be masked; make it a MessagePassing of "
                              f"torch_geometric.nn")
    return out
