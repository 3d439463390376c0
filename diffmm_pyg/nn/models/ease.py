from typing import Tuple

import torch
from torch import Tensor

from diffmm_pyg.nn.models.row_recommender import RowRecommender
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.item_gram import add_content_gram, interaction_gram
from diffmm_pyg.utils.row_embedding import RowEmbedding
from torch_geometric.data import HeteroData


class EASE(RowRecommender):
    r"""The linear auto-encoder from `"Embarrassingly Shallow Autoencoders for
    Sparse Data" <https://arxiv.org/abs/1905.03375>`_, optionally collective,
    *i.e.*, with the features of items as further rows: with the interaction
    matrix :math:`\mathbf{X}`, and :math:`\mathbf{F}` the features of every
    modality, of unit norm each and zero where an item lacks one, side by
    side, scores are :math:`\mathbf{X} \mathbf{B}`, where

    .. math::
        \mathbf{B} = \underset{\text{diag}(\mathbf{B}) = 0}{\arg\min} \quad
        \| \mathbf{X} - \mathbf{X} \mathbf{B} \|_F^2 +
        w^2 \| \mathbf{F}^{\top} - \mathbf{F}^{\top} \mathbf{B} \|_F^2 +
        \lambda \| \mathbf{B} \|_F^2.

    This is the problem of the paper for the rows :math:`[\mathbf{X};
    w \mathbf{F}^{\top}]`, which has a closed form.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        reg (float, optional): The weight :math:`\lambda` of the squared norm.
            (default: :obj:`50.`)
        content_weight (float, optional): The weight :math:`w` of the
            features. (default: :obj:`0.`)
    """
    def __init__(self, num_users: int, num_items: int, reg: float = 50.,
                 content_weight: float = 0.):
        super().__init__(num_users, num_items)
        check_range('reg', reg, 0, open_low=True)
        check_range('content_weight', content_weight, 0)
        self.reg = reg
        self.content_weight = content_weight

    def embed(self, data: HeteroData) -> Tuple[RowEmbedding, Tensor]:
        rows = self.rows(data)
        gram = interaction_gram(rows)
        if self.content_weight > 0:
            add_content_gram(gram, data, self.content_weight**2)
        weight = ease_weights(gram, self.reg).to(gram.dtype)
        return RowEmbedding.from_rows(rows), weight.t().contiguous()


def ease_weights(gram: Tensor, reg: float) -> Tensor:
    r"""Returns the item-item weights

    .. math::
        \mathbf{B} = \mathbf{I} - \mathbf{P} \,
        \text{diagMat}(\mathbf{1} \oslash \text{diag}(\mathbf{P})), \quad
        \mathbf{P} = (\mathbf{G} + \lambda \mathbf{I})^{-1}

    from `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_ (Eq. 8), in double precision, of
    shape :math:`(|\mathcal{I}|, |\mathcal{I}|)`. Beside :obj:`gram`, memory
    is at most two such matrices.

    Args:
        gram (torch.Tensor): The inner products :math:`\mathbf{G} =
            \mathbf{X}^{\top} \mathbf{X}` of the columns, of shape
            :math:`(|\mathcal{I}|, |\mathcal{I}|)`.
        reg (float): The weight :math:`\lambda > 0` of the squared norm.
    """
    out = gram.to(torch.double, copy=True)
    out.diagonal().add_(reg)
    # LAPACK works in place on columns; the matrix is its own transpose.
    torch.linalg.cholesky(out.mT, out=out.mT)
    torch.cholesky_inverse(out.mT, out=out.mT)
    return out.div_(-out.diagonal().clone()).fill_diagonal_(0.)
