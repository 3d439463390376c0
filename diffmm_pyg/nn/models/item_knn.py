from typing import Literal, Optional, Tuple

import torch
from torch import Tensor

from diffmm_pyg.nn.models.row_recommender import RowRecommender
from diffmm_pyg.utils.checks import check_choice, check_range
from diffmm_pyg.utils.item_gram import add_content_gram, interaction_gram
from diffmm_pyg.utils.row_embedding import RowEmbedding
from diffmm_pyg.utils.sparse_rows import SparseRows
from diffmm_pyg.utils.topk import MAX_BLOCK_NUMEL
from torch_geometric.data import HeteroData


class ItemKNN(RowRecommender):
    r"""The item-based nearest neighbours of `"Item-based Collaborative
    Filtering Recommendation Algorithms"
    <https://doi.org/10.1145/371920.372071>`_, with the shrinkage of `"A
    Troubling Analysis of Reproducibility and Progress in Recommender Systems
    Research" <https://arxiv.org/abs/1911.07698>`_: an item is scored by its
    similarity to the items of a user that are among its :math:`k` most
    similar ones,

    .. math::
        \hat{y}_{ui} = \sum_{j \in \mathcal{N}_k(i)} r_{uj} s_{ij}, \quad
        s_{ij} = \frac{\mathbf{v}_i^{\top} \mathbf{v}_j}
        {\| \mathbf{v}_i \| \| \mathbf{v}_j \| + \lambda},

    where :math:`\mathbf{v}_i` is the column of an item in the interaction
    matrix, or its features: those of every modality that it has, of unit norm
    each, side by side. No item is its own neighbour. Two items have less in
    common if it is a user of many items. The row of one with :math:`n_u`
    items may be weighted for that by :math:`\log (|\mathcal{I}| /
    (1 + n_u))`, as in the second paper, or by :math:`n_u^{-1/2}`, as in
    `"Item-Based Top-N Recommendation Algorithms"
    <https://doi.org/10.1145/963770.963776>`_.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        k (int, optional): The number :math:`k` of neighbours.
            (default: :obj:`100`)
        shrink (float, optional): The shrinkage :math:`\lambda`, which takes
            weight from similarities that rest on few interactions.
            (default: :obj:`100.`)
        similarity (str, optional): What items are compared by:
            :obj:`"collaborative"`, interactions, or :obj:`"content"`,
            features. (default: :obj:`"collaborative"`)
        weighting (str, optional): How users are weighted where items are
            compared by interactions: :obj:`"none"`, :obj:`"idf"`, by the
            logarithm, or :obj:`"unit"`, to unit norm.
            (default: :obj:`"none"`)
    """
    def __init__(
        self,
        num_users: int,
        num_items: int,
        k: int = 100,
        shrink: float = 100.,
        similarity: Literal['collaborative', 'content'] = 'collaborative',
        weighting: Literal['none', 'idf', 'unit'] = 'none',
    ):
        super().__init__(num_users, num_items)
        check_range('k', k, 1)
        check_range('shrink', shrink, 0)
        check_choice('similarity', similarity, ['collaborative', 'content'])
        check_choice('weighting', weighting, ['none', 'idf', 'unit'])
        self.k = k
        self.shrink = shrink
        self.similarity = similarity
        self.weighting = weighting

    def embed(self, data: HeteroData) -> Tuple[RowEmbedding, Tensor]:
        rows = self.rows(data)
        if self.similarity == 'collaborative':
            gram = interaction_gram(rows, self._user_weight(rows))
        else:
            gram = torch.zeros(self.num_items, self.num_items,
                               device=rows.col.device)
            add_content_gram(gram, data, 1.)
        return RowEmbedding.from_rows(rows), self._neighbors_(gram)

    def _user_weight(self, rows: SparseRows) -> Optional[Tensor]:
        r"""Returns the squared weights of users, if they have some."""
        count = rows.count.to(torch.get_default_dtype())
        if self.weighting == 'idf':
            return (self.num_items / (1 + count)).log().clamp(min=0.).square()
        return 1 / count.clamp(min=1) if self.weighting == 'unit' else None

    def _neighbors_(self, gram: Tensor) -> Tensor:
        # In place: there is one matrix of all pairs of items.
        norm = gram.diagonal().sqrt()
        tiny = torch.finfo(gram.dtype).tiny
        size = max(1, MAX_BLOCK_NUMEL // self.num_items)
        for start in range(0, self.num_items, size):
            block = gram[start:start + size]
            pair = norm[start:start + size].view(-1, 1) * norm
            block.div_(pair.add_(self.shrink).clamp_(min=tiny))
            block.diagonal(start).fill_(float('-inf'))
            top = block.topk(min(self.k, self.num_items), dim=1)
            block.zero_().scatter_(1, top.indices, top.values)
        return gram.fill_diagonal_(0.)
