r"""The training objectives of the denoisers, estimated from a sample of the
items: no prediction is made but of the sampled items and of the ones of a row.
"""
from typing import Callable, Dict, List, Tuple

import torch
from torch import Tensor

from diffmm_pyg.diffusion.denoiser import Denoiser
from diffmm_pyg.diffusion.objective import (
    MAX_BLOCK_NUMEL,
    linear_msi,
    sum_over_modalities,
)
from diffmm_pyg.diffusion.sampled_items import SampledItems
from diffmm_pyg.utils.sparse_rows import SparseRows


def sampled_gaussian_objective(
    denoiser: Denoiser,
    hidden: Tensor,
    items: SampledItems,
    features: List[Tensor],
    targets: List[Tensor],
    weight: Tensor,
    msi_weight: float,
) -> Dict[str, Tensor]:
    r"""Estimates :meth:`gaussian_objective`. The squared errors of a row's
    ones are exact; those of its :math:`z` zeros are :math:`z / z_S` times
    those of the :math:`z_S` zeros in the sample, which is unbiased where
    :math:`z_S` cannot be zero, *i.e.*, where the sample is larger than
    :math:`|x_0|`. The MSI loss is exact, since it is linear in the prediction:
    :math:`\hat{x} \mathbf{P} = h (\mathbf{W}^{\top} \mathbf{P}) +
    \mathbf{b}^{\top} \mathbf{P}`.

    Arguments and result are those of :meth:`gaussian_objective`, but for the
    sampled :obj:`items` in place of the rows.
    """
    weight = weight / (items.rows.num_rows * items.num_items)
    factor = items.num_zeros_per_sample.to(hidden.dtype)

    def error(m: int, start: int, end: int, h: Tensor, w: Tensor,
              b: Tensor) -> Tensor:
        chunk = items.rows.narrow(start, end)
        zeros, ones = _predictions(h, w, b, chunk, items.num_sampled, 0.)
        zeros = factor[start:end] * zeros.square().sum(dim=1)
        error = zeros.index_add(0, chunk.row, (1 - ones).square())
        return (weight[start:end] * error).sum().view(1)

    elbo, _ = _sum_over_modalities(error, denoiser, hidden, items)
    # In this order, so that gradients come out in the layout of the weights.
    feat = torch.stack(features).to(hidden.dtype).transpose(1, 2)  # [M, F, I]
    weight_feat = feat @ denoiser.weight_out.transpose(0, 1)
    bias_feat = feat @ denoiser.bias_out.t().unsqueeze(2)
    msi = linear_msi(hidden.transpose(0, 1),
                     weight_feat.transpose(1, 2).to(hidden.dtype),
                     bias_feat.squeeze(2).to(hidden.dtype), targets,
                     msi_weight)
    return {'loss': elbo + msi, 'elbo': elbo.detach(), 'msi': msi.detach()}


def sampled_multinomial_objective(
    denoiser: Denoiser,
    hidden: Tensor,
    items: SampledItems,
    features: List[Tensor],
    targets: List[Tensor],
    weight: Tensor,
    msi_weight: float,
) -> Dict[str, Tensor]:
    r"""Estimates :meth:`multinomial_objective` by a sampled softmax. In its
    denominator, a row's ones are exact, and :math:`\log (z / z_S)` is added
    to the logits of the :math:`z_S` of its :math:`z` zeros that are in the
    sample: the denominator is unbiased where :math:`z_S` cannot be zero,
    *i.e.*, where the sample is larger than :math:`|x_0|`; its logarithm, and
    the MSI loss, approach the exact ones as the sample grows.

    Arguments and result are those of :meth:`multinomial_objective`, but for
    the sampled :obj:`items` in place of the rows.
    """
    num_rows, num_sampled = items.rows.num_rows, items.num_sampled
    weight, msi_weight = weight / num_rows, msi_weight / num_rows
    log_factor = items.num_zeros_per_sample.to(hidden.dtype).log().view(-1, 1)
    count = items.rows.count.to(hidden.dtype)
    features = [x[items.touched].to(hidden.dtype) for x in features]

    def nll_and_msi(m: int, start: int, end: int, h: Tensor, w: Tensor,
                    b: Tensor) -> Tensor:
        chunk, x = items.rows.narrow(start, end), features[m]
        row, col = chunk.edge_index
        zeros, ones = _predictions(h, w, b, chunk, num_sampled, -torch.inf)
        zeros = zeros + log_factor[start:end]
        shift = zeros.detach().amax(dim=1).scatter_reduce(
            0, row, ones.detach(), 'amax')
        zeros = (zeros - shift.view(-1, 1)).exp()
        exp_ones = (ones - shift[row]).exp()
        norm = zeros.sum(dim=1).index_add(0, row, exp_ones)
        log_prob = ones - (norm.log() + shift)[row]
        nll = -(log_prob * weight[start:end][row]).sum()
        if msi_weight == 0:
            return torch.stack([nll, torch.zeros_like(nll)])
        predicted = (zeros @ x[:num_sampled]).to(norm.dtype).index_add(
            0, row, exp_ones.view(-1, 1) * x[col])
        predicted = (count[start:end] / norm).view(-1, 1) * predicted
        msi = (predicted - targets[m][start:end]).square().mean(dim=1)
        return torch.stack([nll, msi_weight * msi.sum()])

    loss, parts = _sum_over_modalities(nll_and_msi, denoiser, hidden, items)
    return {'loss': loss, 'elbo': parts[0], 'msi': parts[1]}


def _sum_over_modalities(fn: Callable[..., Tensor], denoiser: Denoiser,
                         hidden: Tensor,
                         items: SampledItems) -> Tuple[Tensor, Tensor]:
    # Predictions of the sample, and the weights of every one:
    num_rows, num_ones = items.rows.num_rows, items.rows.col.numel()
    numel = items.num_sampled + num_ones * hidden.size(2) // max(1, num_rows)
    weight = denoiser.weight_out.index_select(0, items.touched)
    bias = denoiser.bias_out.index_select(0, items.touched)
    return sum_over_modalities(fn, hidden, weight, bias,
                               max(1, MAX_BLOCK_NUMEL // numel))


def _predictions(hidden: Tensor, weight: Tensor, bias: Tensor,
                 rows: SparseRows, num_sampled: int,
                 fill: float) -> Tuple[Tensor, Tensor]:
    # Those of the sample, of which a row's ones are set to `fill`, [N, S], and
    # those of the ones, [nnz].
    row, col = rows.edge_index
    ones = (hidden[row] * weight[col]).sum(dim=1) + bias[col]
    zeros = torch.addmm(bias[:num_sampled], hidden, weight[:num_sampled].t())
    zeros = zeros.to(ones.dtype)
    inside = col < num_sampled
    zeros[row[inside], col[inside]] = fill
    return zeros, ones


SAMPLED_OBJECTIVES = {
    'gaussian': sampled_gaussian_objective,
    'multinomial': sampled_multinomial_objective,
}
