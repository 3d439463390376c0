from typing import Any, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from diffmm_pyg.utils.precision import to_matmul_dtype
from diffmm_pyg.utils.sparse_rows import SparseRows


class ItemProducts(NamedTuple):
    r"""Every product over the items that a squared error of
    :math:`\hat{x} = \mathbf{W} h + \mathbf{b}` against a row :math:`x_0`, and
    against features :math:`\mathbf{P}`, consists of:

    .. math::
        \| x_0 - \hat{x} \|^2 = h^{\top} \mathbf{W}^{\top} \mathbf{W} h +
        2 h^{\top} \mathbf{W}^{\top} \mathbf{b} + \| \mathbf{b} \|^2 -
        2 (x_0^{\top} \mathbf{W} h + x_0^{\top} \mathbf{b}) + \| x_0 \|^2

        \hat{x}^{\top} \mathbf{P} = h^{\top} \mathbf{W}^{\top} \mathbf{P} +
        \mathbf{b}^{\top} \mathbf{P},

    so that no prediction :math:`\hat{x}` is ever made.

    Args:
        gram (torch.Tensor): :math:`\mathbf{W}^{\top} \mathbf{W}`, of shape
            :obj:`[M, H, H]`.
        weight_bias (torch.Tensor): :math:`\mathbf{W}^{\top} \mathbf{b}`, of
            shape :obj:`[M, H]`.
        bias_bias (torch.Tensor): :math:`\| \mathbf{b} \|^2`, :obj:`[M]`.
        row_weight (torch.Tensor): :math:`x_0^{\top} \mathbf{W}`, of shape
            :obj:`[N, M, H]`.
        row_bias (torch.Tensor): :math:`x_0^{\top} \mathbf{b}`, :obj:`[N, M]`.
        weight_feat (torch.Tensor): :math:`\mathbf{W}^{\top} \mathbf{P}`, of
            shape :obj:`[M, H, F]`.
        bias_feat (torch.Tensor): :math:`\mathbf{b}^{\top} \mathbf{P}`, of
            shape :obj:`[M, F]`.
    """
    gram: Tensor
    weight_bias: Tensor
    bias_bias: Tensor
    row_weight: Tensor
    row_bias: Tensor
    weight_feat: Tensor
    bias_feat: Tensor


class _ItemProducts(torch.autograd.Function):
    # Autograd would make one array of the size of the weight per product and
    # add them up; here all of them go into one.
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, rows: SparseRows,
                *features: Tensor) -> Tuple[Tensor, ...]:
        low = to_matmul_dtype(weight)
        ctx.rows = rows
        ctx.save_for_backward(low, bias, *features)
        gram, weight_feat, bias_feat = [], [], []
        for m, x in enumerate(features):
            w = low[:, m]
            gram.append((w.t() @ w).to(bias.dtype))
            weight_feat.append((w.t() @ x.to(w.dtype)).to(bias.dtype))
            bias_feat.append((bias[:, m] @ x).to(bias.dtype))
        row_weight = rows.matmul(weight.flatten(1))
        return (torch.stack(gram), torch.einsum('imh,im->mh', weight, bias),
                bias.square().sum(dim=0),
                row_weight.view(-1, *weight.size()[1:]), rows.matmul(bias),
                torch.stack(weight_feat), torch.stack(bias_feat))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tuple[Optional[Tensor], ...]:
        grad = ItemProducts(*grads)
        weight, bias, *features = ctx.saved_tensors
        row, col = ctx.rows.edge_index

        out = bias.new_empty(weight.size())
        out_bias = 2 * bias * grad.bias_bias
        for m, x in enumerate(features):
            w = weight[:, m]
            gram = grad.gram[m] + grad.gram[m].t()
            out[:, m] = w @ gram.to(w.dtype)
            left = torch.cat([x, bias[:, m:m + 1]], dim=1)
            right = torch.cat(
                [grad.weight_feat[m], grad.weight_bias[m].view(-1, 1)], dim=1)
            out[:, m].addmm_(left, right.t())
            out_bias[:, m] += (w @ grad.weight_bias[m].to(w.dtype)) + \
                x.to(bias.dtype) @ grad.bias_feat[m]
        out.flatten(1).index_add_(0, col, grad.row_weight.flatten(1)[row])
        out_bias.index_add_(0, col, grad.row_bias[row])
        return out, out_bias, None, *[None] * len(features)


def item_products(weight: Tensor, bias: Tensor, rows: SparseRows,
                  features: List[Tensor]) -> ItemProducts:
    r"""Computes :class:`ItemProducts` for weights :obj:`[I, M, H]`, biases
    :obj:`[I, M]`, rows :obj:`[N, I]` and one constant feature matrix
    :obj:`[I, F]` per modality. Gradients flow into weights and biases.
    """
    return ItemProducts(*_ItemProducts.apply(weight, bias, rows, *features))
