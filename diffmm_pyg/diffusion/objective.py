r"""The training objectives of the denoisers: how far the predictions
:math:`\hat{x}^m_0` are from the clean rows (the evidence lower bound), and
how far the items they name look from those of the row (modality-aware signal
injection, MSI).
"""
from functools import partial
from typing import Callable, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor

from diffmm_pyg.diffusion.denoiser import Denoiser
from diffmm_pyg.diffusion.item_products import item_products
from diffmm_pyg.diffusion.softmax_rows import softmax_rows
from diffmm_pyg.utils.chunked_loss import chunked_loss
from diffmm_pyg.utils.sparse_rows import SparseRows

# The largest number of predictions that are in memory at a time:
MAX_BLOCK_NUMEL = 2**23


def gaussian_objective(
    denoiser: Denoiser,
    hidden: Tensor,
    rows: SparseRows,
    features: List[Tensor],
    targets: List[Tensor],
    weight: Tensor,
    msi_weight: float,
) -> Dict[str, Tensor]:
    r"""Returns the mean over rows, summed over modalities, of the weighted
    mean squared error over items and of the MSI loss (Eqs. 9 and 11 of
    `"DiffMM" <https://arxiv.org/abs/2406.11781>`_):

    .. math::
        \frac{1}{|\mathcal{I}|} \| x_0 - \hat{x}^m_0 \|^2 \quad \text{and}
        \quad \frac{1}{F} \| \hat{x}^m_0 \mathbf{P}^m - x_0 \mathbf{E} \|^2.

    Args:
        denoiser (Denoiser): The networks.
        hidden (torch.Tensor): Their hidden layers, of shape
            :obj:`[N, M, H]`.
        rows (SparseRows): The clean rows.
        features ([torch.Tensor]): The constant features :math:`\mathbf{P}^m`
            of the items, of shape :obj:`[I, F]`, per modality.
        targets ([torch.Tensor]): The constant :math:`x_0 \mathbf{E}`, of
            shape :obj:`[N, F]`, per modality.
        weight (torch.Tensor): The weight of the error of every row, of shape
            :obj:`[N]`.
        msi_weight (float): The weight of the MSI loss.

    Returns:
        :obj:`loss`, and its parts :obj:`elbo` and :obj:`msi` without a
        gradient.
    """
    h = hidden.transpose(0, 1)  # [M, N, H]
    p = item_products(denoiser.weight_out, denoiser.bias_out, h, rows,
                      features)

    sq_norm = p.sq_norm.t() + 2 * (hidden * p.weight_bias).sum(dim=-1)
    inner = (hidden * p.row_weight).sum(dim=-1) + p.row_bias
    count = rows.count.view(-1, 1)
    error = (sq_norm + p.bias_bias - 2 * inner + count) / rows.num_cols
    elbo = (weight.view(-1, 1) * error).sum(dim=1).mean()

    msi = linear_msi(h, p.weight_feat, p.bias_feat, targets, msi_weight)
    return {'loss': elbo + msi, 'elbo': elbo.detach(), 'msi': msi.detach()}


def msi_matrices(
    modalities: List[str],
    rows: SparseRows,
    features: Dict[str, Tensor],
    item_embedding: Optional[Tensor],
    masks: Optional[Dict[str, Tensor]],
) -> Tuple[List[Tensor], List[Tensor]]:
    r"""Returns, per modality, the constant :math:`\mathbf{P}` and
    :math:`x_0 \mathbf{E}` of the MSI loss, of which items without the modality
    are left out. Without embeddings, :math:`\mathbf{E} = \mathbf{P}`.
    """
    feats, targets = [], []
    for m in modalities:
        has: Union[float, Tensor] = 1.
        if masks is not None and m in masks:
            has = masks[m].view(-1, 1)
        feats.append(features[m].detach() * has)
        targets.append(rows.matmul(
            feats[-1] if item_embedding is None else
            item_embedding.detach() * has))
    return feats, targets


def linear_msi(h: Tensor, weight_feat: Tensor, bias_feat: Tensor,
               targets: List[Tensor], msi_weight: float) -> Tensor:
    r"""Returns the MSI loss of predictions that are linear in the hidden
    layers :obj:`[M, N, H]`, see
    :class:`~diffmm_pyg.diffusion.item_products.ItemProducts`.
    """
    predicted = h @ weight_feat + bias_feat.unsqueeze(1)  # [M, N, F]
    msi = (predicted - torch.stack(targets)).square().mean(dim=-1).t()
    return msi_weight * msi.sum(dim=1).mean()


def multinomial_objective(
    denoiser: Denoiser,
    hidden: Tensor,
    rows: SparseRows,
    features: List[Tensor],
    targets: List[Tensor],
    weight: Tensor,
    msi_weight: float,
) -> Dict[str, Tensor]:
    r"""Returns the mean over rows, summed over modalities, of the weighted
    multinomial negative log-likelihood :math:`- \sum_i x_{0,i} \log
    \mathrm{softmax}(\hat{x}^m)_i` and of the MSI loss, in which the prediction
    is the expected row :math:`|x_0| \, \mathrm{softmax}(\hat{x}^m)`. Arguments
    and result are those of :meth:`gaussian_objective`.
    """
    weight, msi_weight = weight / rows.num_rows, msi_weight / rows.num_rows
    feats = [x.to(hidden.dtype) for x in features]
    chunk_size = max(1, MAX_BLOCK_NUMEL // rows.num_cols)

    def nll_and_msi(m: int, start: int, end: int, h: Tensor, w: Tensor,
                    b: Tensor) -> Tensor:
        nll, expected = softmax_rows(torch.addmm(b, h, w.t()),
                                     rows.narrow(start, end), feats[m])
        msi = (expected - targets[m][start:end]).square().mean(dim=1)
        return torch.stack([(weight[start:end] * nll).sum(),
                            msi_weight * msi.sum()])

    loss, parts = sum_over_modalities(nll_and_msi, hidden,
                                      denoiser.weight_out, denoiser.bias_out,
                                      chunk_size)
    return {'loss': loss, 'elbo': parts[0], 'msi': parts[1]}


def sum_over_modalities(
    fn: Callable[..., Tensor],
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    chunk_size: int,
) -> Tuple[Tensor, Tensor]:
    r"""Sums :meth:`chunked_loss` over the modalities of hidden layers
    :obj:`[N, M, H]`, weights :obj:`[C, M, H]` and biases :obj:`[C, M]`.

    Args:
        fn (Callable): Maps :obj:`(m, start, end, hidden, weight, bias)` of
            modality :obj:`m` to the parts of the loss of these rows.
        hidden, weight, bias (torch.Tensor): The layers.
        chunk_size (int): The number of rows of a chunk.
    """
    loss, parts = hidden.new_zeros(()), hidden.new_zeros(())
    layers = zip(hidden.unbind(1), weight.unbind(1), bias.unbind(1),
                 strict=True)
    for m, layer in enumerate(layers):
        value, part = chunked_loss(partial(fn, m), *layer,
                                   chunk_size=chunk_size)
        loss, parts = loss + value, parts + part
    return loss, parts


OBJECTIVES = {
    'gaussian': gaussian_objective,
    'multinomial': multinomial_objective,
}
