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
        \| x_0 - \hat{x} \|^2 = \| \mathbf{W} h \|^2 +
        2 h^{\top} \mathbf{W}^{\top} \mathbf{b} + \| \mathbf{b} \|^2 -
        2 (x_0^{\top} \mathbf{W} h + x_0^{\top} \mathbf{b}) + \| x_0 \|^2

        \hat{x}^{\top} \mathbf{P} = h^{\top} \mathbf{W}^{\top} \mathbf{P} +
        \mathbf{b}^{\top} \mathbf{P},

    so that no prediction :math:`\hat{x}` is ever made.

    Args:
        sq_norm (torch.Tensor): :math:`\| \mathbf{W} h \|^2`, :obj:`[M, N]`.
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
    sq_norm: Tensor
    weight_bias: Tensor
    bias_bias: Tensor
    row_weight: Tensor
    row_bias: Tensor
    weight_feat: Tensor
    bias_feat: Tensor


def _gram(x: Tensor) -> Tensor:
    # x.t() @ x, of which one half is the mirror image of the other.
    blocks = x.chunk(4, dim=1)
    rows = [[x[:0].new_zeros(b.size(1), sum(c.size(1) for c in blocks[:i])),
             *(b.t() @ c for c in blocks[i:])] for i, b in enumerate(blocks)]
    upper = torch.cat([torch.cat(row, dim=1) for row in rows])
    return upper.triu() + upper.triu(1).t()


class _ItemProducts(torch.autograd.Function):
    # Autograd would make one array of the size of the weight per product and
    # add them up; here all of them go into one.
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, hidden: Tensor,
                rows: SparseRows, *features: Tensor) -> Tuple[Tensor, ...]:
        low, h_low = to_matmul_dtype(weight), to_matmul_dtype(hidden)
        num_items, num_modalities, num_hidden = weight.size()
        ctx.rows = rows
        # The squared norm is that of a prediction, or a quadratic form, which
        # does not grow with rows times items: whichever takes less arithmetic.
        ctx.direct = rows.num_rows * num_items < num_hidden * (
            num_items + rows.num_rows) / 2
        sq_norm, wide, weight_feat, bias_feat = [], [], [], []
        for m, x in enumerate(features):
            w, h = low[:, m], h_low[m]
            wide.append(h @ w.t() if ctx.direct else h @ _gram(w))
            other = wide[m] if ctx.direct else hidden[m]
            sq_norm.append((wide[m].to(bias.dtype) * other).sum(dim=1))
            weight_feat.append((w.t() @ x.to(w.dtype)).to(bias.dtype))
            bias_feat.append((bias[:, m] @ x).to(bias.dtype))
        ctx.save_for_backward(low, bias, hidden, *features, *wide)
        row_weight = rows.matmul(weight.flatten(1))
        return (torch.stack(sq_norm), torch.einsum('imh,im->mh', weight, bias),
                bias.square().sum(dim=0),
                row_weight.view(-1, num_modalities, num_hidden),
                rows.matmul(bias), torch.stack(weight_feat),
                torch.stack(bias_feat))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tuple[Optional[Tensor], ...]:
        grad = ItemProducts(*grads)
        weight, bias, hidden, *saved = ctx.saved_tensors
        features, wide = saved[:len(saved) // 2], saved[len(saved) // 2:]
        row, col = ctx.rows.edge_index

        out = bias.new_empty(weight.size())
        out_hidden = torch.empty_like(hidden)
        out_bias = 2 * bias * grad.bias_bias
        for m, x in enumerate(features):
            w, g = weight[:, m], 2 * grad.sq_norm[m].view(-1, 1)
            if ctx.direct:
                scaled = (g * wide[m]).to(w.dtype)
                out[:, m] = scaled.t() @ hidden[m].to(w.dtype)
                out_hidden[m] = scaled @ w
            else:
                gram = hidden[m].t() @ (g * hidden[m])
                out[:, m] = w @ gram.to(w.dtype)
                out_hidden[m] = g * wide[m]
            left = torch.cat([x, bias[:, m:m + 1]], dim=1)
            right = torch.cat(
                [grad.weight_feat[m], grad.weight_bias[m].view(-1, 1)], dim=1)
            out[:, m].addmm_(left, right.t())
            out_bias[:, m] += (w @ grad.weight_bias[m].to(w.dtype)) + \
                x.to(bias.dtype) @ grad.bias_feat[m]
        out.flatten(1).index_add_(0, col, grad.row_weight.flatten(1)[row])
        out_bias.index_add_(0, col, grad.row_bias[row])
        return out, out_bias, out_hidden, None, *[None] * len(features)


def item_products(weight: Tensor, bias: Tensor, hidden: Tensor,
                  rows: SparseRows, features: List[Tensor]) -> ItemProducts:
    r"""Computes :class:`ItemProducts` for weights :obj:`[I, M, H]`, biases
    :obj:`[I, M]`, hidden layers :obj:`[M, N, H]`, rows :obj:`[N, I]` and one
    constant feature matrix :obj:`[I, F]` per modality. Gradients flow into
    weights, biases and hidden layers.
    """
    return ItemProducts(
        *_ItemProducts.apply(weight, bias, hidden, rows, *features))
