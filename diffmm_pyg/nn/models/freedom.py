from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, ModuleDict

from diffmm_pyg.data import modality_features, modality_masks
from diffmm_pyg.nn.conv import ModalityConv
from diffmm_pyg.nn.item_adj import fused_item_adj
from diffmm_pyg.nn.loss import bpr_loss
from diffmm_pyg.nn.models.embedding_recommender import ModalityRecommender
from diffmm_pyg.nn.models.pairwise import Triplets, bpr_phase
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.nn.propagation import mean_of_layers
from diffmm_pyg.nn.weighted_adj import WeightedAdj, normalized_adj
from diffmm_pyg.typing import ITEM
from diffmm_pyg.utils import keyed_generator
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.degree_pruning import degree_pruning
from torch_geometric.data import HeteroData


class FREEDOM(ModalityRecommender):
    r"""The recommender from `"A Tale of Two Graphs: Freezing and Denoising
    Graph Structures for Multimodal Recommendation"
    <https://arxiv.org/abs/2211.06924>`_.

    The item-item graph :math:`\mathbf{S} = \sum_m \alpha_m \mathbf{D}_m^{-1/2}
    \mathbf{S}_m \mathbf{D}_m^{-1/2}` is made of the :math:`k` nearest items
    by every modality, and frozen. In training, :math:`\mathbf{\hat{A}} =
    \mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}` is made of interactions
    that are drawn anew for every epoch, each with odds :math:`1 / \sqrt{d_u
    d_i}`, and else of all. With :math:`\mathbf{p}^m_i = \mathbf{f}^m_i
    \mathbf{W}_m` (a bias would cancel out),

    .. math::
        [\mathbf{x}_u; \mathbf{y}_i] &= \frac{1}{L + 1} \sum_{l=0}^{L}
        \mathbf{\hat{A}}^l \mathbf{E}, \quad \mathbf{x}_i = \mathbf{y}_i +
        \left( \mathbf{S}^{L'} \mathbf{E}_I \right)_i

        \mathcal{L} &= - \frac{1}{B} \sum_{(u,i,j)} \Big( \ln \sigma(
        \mathbf{x}_u^{\top} \mathbf{x}_i - \mathbf{x}_u^{\top} \mathbf{x}_j)
        + \mu \sum_m \ln \sigma(\mathbf{x}_u^{\top} \mathbf{p}^m_i -
        \mathbf{x}_u^{\top} \mathbf{p}^m_j) \Big).

    Where an item lacks a modality, its row of :math:`\mathbf{S}` is made of
    the others alone, and its terms of that modality are left out.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        in_channels (Dict[str, int]): The size of the features of every
            modality.
        hidden_channels (int, optional): The size of the embeddings.
            (default: :obj:`64`)
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`2`)
        num_item_layers (int, optional): The number of layers :math:`L'`.
            (default: :obj:`1`)
        k (int, optional): The number of nearest items, itself included.
            (default: :obj:`10`)
        weighted (bool, optional): If set to :obj:`True`, the entries of
            :math:`\mathbf{S}_m` are cosine similarities, else 1, as in the
            paper. (default: :obj:`False`)
        first_weight (float, optional): The weight :math:`\alpha` of the first
            modality, where the others share the rest; equal weights if not
            given. (default: :obj:`None`)
        pruning (float, optional): The share of interactions that are left out
            in an epoch. (default: :obj:`0.8`)
        modality_weight (float, optional): The weight :math:`\mu`.
            (default: :obj:`1e-3`)
        reg_weight (float, optional): The weight of the squared norms of the
            embeddings of a batch, which the paper does without.
            (default: :obj:`0.0`)
    """
    def __init__(self, num_users: int, num_items: int,
                 in_channels: Dict[str, int], hidden_channels: int = 64,
                 num_layers: int = 2, num_item_layers: int = 1, k: int = 10,
                 weighted: bool = False, first_weight: Optional[float] = None,
                 pruning: float = 0.8, modality_weight: float = 1e-3,
                 reg_weight: float = 0.0):
        super().__init__(in_channels, num_users=num_users,
                         num_items=num_items, hidden_channels=hidden_channels,
                         reg_weight=reg_weight)
        check_range('num_layers', num_layers, 0)
        check_range('num_item_layers', num_item_layers, 0)
        check_range('k', k, 1)
        check_range('pruning', pruning, 0, 1)
        check_range('modality_weight', modality_weight, 0)
        if first_weight is not None:
            check_range('first_weight', first_weight, 0, 1)
        self.num_layers = num_layers
        self.num_item_layers = num_item_layers
        self.k = k
        self.weighted = weighted
        self.first_weight = first_weight
        self.pruning = pruning
        self.modality_weight = modality_weight
        self.conv = ModalityConv()
        self.lins = ModuleDict({
            m: Linear(channels, hidden_channels, bias=False)
            for m, channels in in_channels.items()
        })
        # The frozen graph, with the features that it was made from:
        self._frozen: Tuple[List[Tensor], Optional[WeightedAdj]] = ([], None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        super().reset_parameters()
        for weight in self.lins.parameters():
            torch.nn.init.xavier_uniform_(weight)

    def forward(self, adj: WeightedAdj,
                item_adj: WeightedAdj) -> Tuple[Tensor, Tensor]:
        r"""Computes the embeddings of all users and items from the normalized
        matrix of interactions, and that of the item-item graph.
        """
        x = mean_of_layers(self.conv, adj, self.embedding, self.num_layers)
        user, item = x.split(self.sizes)
        similar = self.item_embedding.weight
        for _ in range(self.num_item_layers):
            similar = self.conv(similar, *item_adj)
        return user, item + similar

    def item_adj(self, data: HeteroData) -> WeightedAdj:
        r"""Returns the matrix of the item-item graph, which is made once for
        the same features.
        """
        tensors = [value for key, value in data[ITEM].items()
                   if key.startswith(('x_', 'has_'))]
        kept, adj = self._frozen
        if (adj is None or len(kept) != len(tensors)
                or any(a is not b for a, b in zip(kept, tensors))):
            adj = fused_item_adj(modality_features(data), self.k,
                                 modality_masks(data), self.weighted,
                                 self.first_weight)
            self._frozen = tensors, adj
        return adj

    def phases(self, data: HeteroData) -> List[Phase]:
        edge_index = self.interactions(data).edge_index
        item_adj = self.item_adj(data)
        x_dict, mask_dict = modality_features(data), modality_masks(data)
        adj: List[WeightedAdj] = []

        def prune(key: Key) -> None:
            # Two longer than the key, which the order of batches depends on.
            generator = keyed_generator(*key, 0, 0, device=edge_index.device)
            left = degree_pruning(edge_index, *self.sizes, self.pruning,
                                  generator)
            adj[:] = [normalized_adj(left, *self.sizes)]

        def embed(user: Tensor, item: Tensor,
                  key: Key) -> Tuple[Tensor, Tensor]:
            x_user, x_item = self(adj[0], item_adj)
            return F.embedding(user, x_user), F.embedding(item, x_item)

        def losses(batch: Triplets) -> Dict[str, Tensor]:
            return self.modality_losses(batch, x_dict, mask_dict)

        return [bpr_phase(self, data, embed, extra_losses=losses,
                          begin=prune)]

    def modality_losses(
        self,
        batch: Triplets,
        x_dict: Dict[str, Tensor],
        mask_dict: Dict[str, Tensor],
    ) -> Dict[str, Tensor]:
        r"""Computes the terms of all modalities, times :math:`\mu`, from the
        features :math:`(|\mathcal{I}|, F_m)` and masks
        :math:`(|\mathcal{I}|)`.
        """
        out = {}
        for m, lin in self.lins.items():
            user, (pos, neg) = batch.x_user, (batch.pos_item, batch.neg_item)
            if m in mask_dict:
                both = mask_dict[m][pos] & mask_dict[m][neg]
                user, pos, neg = user[both], pos[both], neg[both]
            x_pos, x_neg = (lin(x_dict[m][item]) for item in (pos, neg))
            out[f'bpr_{m}'] = self.modality_weight * bpr_loss(
                (user * x_pos).sum(dim=-1), (user * x_neg).sum(dim=-1),
                batch.batch_size)
        return out

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        edge_index = self.interactions(data).edge_index
        return self(normalized_adj(edge_index, *self.sizes),
                    self.item_adj(data))
