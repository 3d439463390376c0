from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear

from diffmm_pyg.utils.checks import check_choice


class ModalityEncoder(torch.nn.Module):
    r"""Projects the raw features of one modality into the space of the
    embeddings (Eq. 1 of `"DiffMM" <https://arxiv.org/abs/2406.11781>`_).

    Args:
        in_channels (int): The size of the raw features.
        out_channels (int): The size of the embeddings.
        projection (str, optional): :obj:`"linear"`, with bias, or
            :obj:`"leaky_relu"`, without bias and followed by a LeakyReLU of
            slope 0.2. (default: :obj:`"linear"`)

    Shapes:
        - **input:** :math:`(|\mathcal{I}|, F_{in})`
        - **output:** :math:`(|\mathcal{I}|, F_{out})`
    """
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        projection: Literal['linear', 'leaky_relu'] = 'linear',
    ):
        super().__init__()
        check_choice('projection', projection, ['linear', 'leaky_relu'])
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.projection = projection
        self.lin = Linear(in_channels, out_channels,
                          bias=projection == 'linear')
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        self.lin.reset_parameters()
        if self.projection == 'leaky_relu':
            torch.nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, x: Tensor) -> Tensor:
        r"""Projects raw features."""
        x = self.lin(x.to(self.lin.weight.dtype))
        return x if self.projection == 'linear' else F.leaky_relu(x, 0.2)

    def __repr__(self) -> str:
        return (f"{self.__class__.__name__}({self.in_channels}, "
                f"{self.out_channels}, projection='{self.projection}')")
