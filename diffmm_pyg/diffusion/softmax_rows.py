from typing import Any, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffmm_pyg.utils.precision import shifted_exp, sum_rows
from diffmm_pyg.utils.sparse_rows import SparseRows


class _SoftmaxRows(torch.autograd.Function):
    # Of arrays of the size of the logits, only one is made and kept, the
    # exponentials; autograd would make one per operation.
    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: SparseRows,
                features: Tensor) -> Tuple[Tensor, Tensor]:
        row, col = rows.edge_index
        observed = logits[row, col].to(features.dtype)
        prob, shift = shifted_exp(logits)
        norm = sum_rows(prob, features.dtype)
        count = rows.count.to(features.dtype)

        log_norm = norm.log() + shift.view(-1).to(features.dtype)
        nll = (count * log_norm).index_add_(0, row, observed, alpha=-1)
        expected = (prob @ features.to(prob.dtype)).to(features.dtype)
        expected *= (count / norm).view(-1, 1)
        ctx.rows = rows
        ctx.save_for_backward(prob, norm, count, features, expected)
        return nll, expected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nll: Tensor,
                 grad_expected: Tensor) -> Tuple[Optional[Tensor], ...]:
        prob, norm, count, features, expected = ctx.saved_tensors
        # Of the probabilities p, without their factor 1 / norm:
        per_row = count * grad_nll - (grad_expected * expected).sum(dim=1)
        per_feat = count.view(-1, 1) * grad_expected
        grad = torch.addmm(
            (per_row / norm).view(-1, 1).to(prob.dtype),
            (per_feat / norm.view(-1, 1)).to(prob.dtype),
            features.t().to(prob.dtype))
        grad *= prob
        row, col = ctx.rows.edge_index
        grad[row, col] -= grad_nll[row].to(grad.dtype)
        return grad, None, None


def softmax_rows(logits: Tensor, rows: SparseRows,
                 features: Tensor) -> Tuple[Tensor, Tensor]:
    r"""Returns the negative log-likelihood of every row :math:`x_0` under
    the probabilities :math:`p = \mathrm{softmax}(\hat{x})`, and the features
    of its expectation:

    .. math::
        - \sum_i x_{0,i} \log p_i \quad \text{and} \quad
        |x_0| \, p^{\top} \mathbf{P}.

    Args:
        logits (torch.Tensor): The logits :math:`\hat{x}`, of shape
            :obj:`[N, I]`, into which gradients flow.
        rows (SparseRows): The rows :math:`x_0`, of shape :obj:`[N, I]`.
        features (torch.Tensor): The constant features :math:`\mathbf{P}`, of
            shape :obj:`[I, F]`, whose type is that of all sums.

    Returns:
        The likelihoods, of shape :obj:`[N]`, and the expected features, of
        shape :obj:`[N, F]`.
    """
    return _SoftmaxRows.apply(logits, rows, features)
