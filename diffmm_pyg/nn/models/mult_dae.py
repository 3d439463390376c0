from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import Parameter

from diffmm_pyg.nn.models.pairwise import squared_norm
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.nn.models.row_recommender import RowRecommender
from diffmm_pyg.utils.affine_embeddings import affine_embeddings
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.logsumexp import weighted_logsumexp
from diffmm_pyg.utils.random import (
    dropout_mask,
    keyed_generator,
    quantized_keep,
)
from diffmm_pyg.utils.sparse_rows import SparseRows
from torch_geometric.data import HeteroData


class MultDAE(RowRecommender):
    r"""The denoising auto-encoder with a multinomial likelihood from
    `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_: what
    :class:`~diffmm_pyg.diffusion.Denoiser` is without time, modalities and
    graphs,

    .. math::
        h_u = \tanh \left( \mathbf{W}_1 \, \mathrm{dropout} \left(
        \frac{\mathbf{r}_u}{\| \mathbf{r}_u \|} \right) + \mathbf{b}_1
        \right), \quad
        \mathcal{L} = - \frac{1}{N} \sum_{u} \sum_{i} r_{ui} \log
        \mathrm{softmax} (\mathbf{W}_2 h_u + \mathbf{b}_2)_i + \lambda \left(
        \| \mathbf{W}_1 \|^2 + \| \mathbf{W}_2 \|^2 \right),

    with dropout in training only. Neither rows nor predictions are ever made
    densely.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        hidden_channels (int, optional): The size of :math:`h_u`.
            (default: :obj:`200`)
        dropout (float, optional): The dropout probability.
            (default: :obj:`0.5`)
        reg_weight (float, optional): The weight :math:`\lambda`.
            (default: :obj:`0.`)

    Raises:
        ValueError: If an argument is out of range.
    """
    def __init__(self, num_users: int, num_items: int,
                 hidden_channels: int = 200, dropout: float = 0.5,
                 reg_weight: float = 0.):
        super().__init__(num_users, num_items)
        check_range('hidden_channels', hidden_channels, 1)
        check_range('dropout', dropout, 0, 1)
        check_range('reg_weight', reg_weight, 0)
        if quantized_keep(dropout) == 0:
            raise ValueError(f"'dropout' is so close to 1 that nothing would "
                             f"be kept (got {dropout})")
        self.hidden_channels = hidden_channels
        self.dropout = dropout
        self.reg_weight = reg_weight

        self.weight_in = Parameter(torch.empty(num_items, hidden_channels))
        self.bias_in = Parameter(torch.empty(hidden_channels))
        self.weight_out = Parameter(torch.empty(num_items, hidden_channels))
        self.bias_out = Parameter(torch.empty(num_items))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        for weight in [self.weight_in, self.weight_out]:
            torch.nn.init.xavier_normal_(weight)
        for bias in [self.bias_in, self.bias_out]:
            torch.nn.init.normal_(bias, std=0.001)

    def forward(self, rows: SparseRows,
                count: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
        r"""Returns embeddings :obj:`[N, H + 1]` of rows and
        :math:`(|\mathcal{I}|, H + 1)` of items, whose inner products are the
        logits.

        Args:
            rows (SparseRows): The rows, :math:`(N, |\mathcal{I}|)`.
            count (torch.Tensor, optional): How many ones the rows had before
                dropout, of shape :obj:`[N]`; what is left is rescaled. If not
                given, nothing was dropped. (default: :obj:`None`)
        """
        scale = (rows.count if count is None else count).clamp(min=1) \
            .to(self.bias_in.dtype).rsqrt()
        if count is not None:
            scale = scale / quantized_keep(self.dropout)
        z = scale.view(-1, 1) * rows.matmul(self.weight_in)
        return affine_embeddings(torch.tanh(z + self.bias_in),
                                 self.weight_out, self.bias_out)

    def loss(self, rows: SparseRows, seed: Key = (0, )) -> Dict[str, Tensor]:
        r"""Computes the :obj:`loss` of a batch of rows.

        Args:
            rows (SparseRows): The rows, :math:`(N, |\mathcal{I}|)`.
            seed (Tuple[int], optional): The key of the random draws.
                (default: :obj:`(0, )`)
        """
        kept, count = rows, None
        if self.training and self.dropout > 0:
            generator = keyed_generator(*seed, device=rows.col.device)
            kept = rows.filter(dropout_mask(1, rows.col.numel(), self.dropout,
                                            generator).view(-1))
            count = rows.count
        # Of most users little is known, and even less is kept:
        index, inverse = kept.distinct(rows.count * (kept.count > 0))
        user, item = self(kept.select(index),
                          None if count is None else count[index])
        weight = user.new_zeros(index.numel())
        weight.index_add_(0, inverse, rows.count.to(user.dtype))
        normalizer = weighted_logsumexp(user, item, weight)
        target = torch.zeros_like(user).index_add(0, inverse,
                                                  rows.matmul(item))
        logits = (user * target).sum()
        loss = (normalizer - logits) / rows.num_rows
        if self.reg_weight > 0:
            loss = loss + self.reg_weight * squared_norm(
                [self.weight_in, self.weight_out])
        return {'loss': loss}

    def phases(self, data: HeteroData) -> List[Phase]:
        return [self.row_phase(data, self.loss)]

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        return self(self.rows(data))

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}({self.num_users}, '
                f'{self.num_items}, hidden_channels={self.hidden_channels})')
