from typing import Tuple

import torch
from torch import Tensor


def affine_embeddings(hidden: Tensor, weight: Tensor,
                      bias: Tensor) -> Tuple[Tensor, Tensor]:
    r"""Returns :math:`[h_u, 1]` and :math:`[\mathbf{w}_i, b_i]`, whose inner
    product is what a linear layer with bias makes of :math:`h_u`.

    Args:
        hidden (torch.Tensor): The inputs of the layer, :obj:`[N, H]`.
        weight (torch.Tensor): Its weight, :obj:`[I, H]`.
        bias (torch.Tensor): Its bias, :obj:`[I]`.
    """
    ones = hidden.new_ones(hidden.size(0), 1)
    return (torch.cat([hidden, ones], dim=1),
            torch.cat([weight, bias.view(-1, 1)], dim=1))
