from typing import Any, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    if _is_low(x):  # Matrix units are faster on one large product.
        return x.t() @ x
    # One half is the mirror image of the other.
    blocks = x.chunk(4, dim=1)
    rows = [[x.new_zeros(b.size(1), sum(c.size(1) for c in blocks[:i])),
             *(b.t() @ c for c in blocks[i:])] for i, b in enumerate(blocks)]
    upper = torch.cat([torch.cat(row, dim=1) for row in rows])
    return upper.triu() + upper.triu(1).t()


def _is_low(x: Tensor) -> bool:
    return x.dtype.itemsize < 4


def _is_direct(h: Tensor, num_items: int) -> bool:
    # The squared norm is that of a prediction, or a quadratic form, which
    # does not grow with rows times items: whichever takes less arithmetic.
    num_rows, num_hidden = h.size()
    gram = 1 if _is_low(h) else 10 / 16
    return 3 * num_rows * num_items < num_hidden * (
        (1 + gram) * num_items + 2 * num_rows)


class _ItemProducts(torch.autograd.Function):
    # All products over the items are parts of one, A.t() @ A with
    # A = [W, P, b], and the gradients of W and b are columns of A @ K with a
    # small matrix K. Autograd would make one array of the size of W for each.
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, hidden: Tensor,
                rows: SparseRows, *features: Tensor) -> Tuple[Tensor, ...]:
        num_items, num_modalities, H = weight.size()
        hidden_low = to_matmul_dtype(hidden)
        ctx.rows, ctx.direct = rows, _is_direct(hidden_low[0], num_items)
        sq_norm, wide, arrays, tails = [], [], [], []
        for m, (h, x) in enumerate(zip(hidden_low, features, strict=True)):
            a = h.new_empty(num_items, H + x.size(1) + 1)
            a[:, :H], a[:, H:-1], a[:, -1] = weight[:, m], x, bias[:, m]
            if ctx.direct:
                wide.append(h @ a[:, :H].t())
                tails.append(a.t() @ a[:, H:])
            else:
                gram = _gram(a)
                wide.append(h @ gram[:H, :H])
                tails.append(gram[:, H:])
            wide[m] = wide[m].to(bias.dtype)
            other = wide[m] if ctx.direct else hidden[m]
            sq_norm.append((wide[m] * other).sum(dim=1))
            arrays.append(a)
        ctx.save_for_backward(bias, hidden, *arrays, *wide)
        tail = torch.stack(tails).to(bias.dtype)  # [M, H + F + 1, F + 1]
        row_weight = rows.matmul(weight.flatten(1))
        return (torch.stack(sq_norm), tail[:, :H, -1], tail[:, -1, -1],
                row_weight.view(-1, num_modalities, H), rows.matmul(bias),
                tail[:, :H, :-1], tail[:, H:-1, -1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tuple[Optional[Tensor], ...]:
        grad = ItemProducts(*grads)
        bias, hidden, *saved = ctx.saved_tensors
        arrays, wide = saved[:len(saved) // 2], saved[len(saved) // 2:]
        num_modalities, _, H = hidden.size()

        out = bias.new_empty(*bias.size(), H)
        out_bias, out_hidden = torch.empty_like(bias), torch.empty_like(hidden)
        for m, a in enumerate(arrays):
            g = 2 * grad.sq_norm[m].view(-1, 1)
            h, scaled = hidden[m].to(a.dtype), g * wide[m]
            # Rows are those of W, P and b; columns, gradients of W and b.
            k = bias.new_zeros(a.size(1), H + 1)
            k[:H, H] = k[-1, :H] = grad.weight_bias[m]
            k[H:-1, :H], k[H:-1, H] = grad.weight_feat[m].t(), \
                grad.bias_feat[m]
            k[-1, H] = 2 * grad.bias_bias[m]
            if ctx.direct:
                scaled = scaled.to(a.dtype)
                out_hidden[m] = scaled @ a[:, :H]
                out[:, m] = scaled.t() @ h
                out[:, m] += a[:, H:] @ k[H:, :H].to(a.dtype)
                out_bias[:, m] = a @ k[:, H].to(a.dtype)
            else:
                out_hidden[m] = scaled
                k[:H, :H] = h.t() @ (g * hidden[m]).to(a.dtype)
                product = a @ k.to(a.dtype)
                out[:, m], out_bias[:, m] = product[:, :H], product[:, H]
                del product  # Before the next one is made.
        ctx.rows.add_transposed_matmul(out.flatten(1),
                                       grad.row_weight.flatten(1))
        ctx.rows.add_transposed_matmul(out_bias, grad.row_bias)
        return out, out_bias, out_hidden, None, *[None] * len(arrays)


def item_products(weight: Tensor, bias: Tensor, hidden: Tensor,
                  rows: SparseRows, features: List[Tensor]) -> ItemProducts:
    r"""Computes :class:`ItemProducts` for weights :obj:`[I, M, H]`, biases
    :obj:`[I, M]`, hidden layers :obj:`[M, N, H]`, rows :obj:`[N, I]` and one
    constant feature matrix :obj:`[I, F]` per modality. Gradients flow into
    weights, biases and hidden layers.
    """
    return ItemProducts(
        *_ItemProducts.apply(weight, bias, hidden, rows, *features))
