import math
from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from diffmm_pyg.utils.checks import check_names, check_range
from diffmm_pyg.utils.random import quantized_keep


class Denoiser(torch.nn.Module):
    r"""One time-conditioned network per modality that predicts a clean row
    from a noised one, as in `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_:

    .. math::
        \hat{x}^m_0 = \mathbf{W}^m_2 \tanh( \mathbf{W}^m_1 x_t + \mathbf{W}^m_e
        \mathbf{e}^m(t) + \mathbf{b}^m_1 ) + \mathbf{b}^m_2,

    where the code :math:`\mathbf{e}^m(t)` of cosines and sines of :math:`t`
    passes a linear layer of its own. Dropout applies to :math:`x_t`.

    The networks share nothing; their weights are stacked, and stored by item,
    so that all first layers are one matrix product.

    Args:
        num_items (int): The length of a row.
        modalities ([str]): The names of the modalities.
        hidden_channels (int, optional): The width of the hidden layer.
            (default: :obj:`1000`)
        time_channels (int, optional): The size of the time code.
            (default: :obj:`10`)
        dropout (float, optional): The dropout probability of the input.
            (default: :obj:`0.5`)
        normalize (bool, optional): If set to :obj:`True`, the input is
            divided by its :math:`L_2` norm before dropout.
            (default: :obj:`False`)

    Raises:
        ValueError: If an argument is out of range.

    Shapes:
        - **input:** rows :math:`(N, |\mathcal{I}|)`, timesteps :math:`(N)`
        - **output:** predictions :math:`(N, M, |\mathcal{I}|)`
    """
    freq: Tensor

    def __init__(
        self,
        num_items: int,
        modalities: List[str],
        hidden_channels: int = 1000,
        time_channels: int = 10,
        dropout: float = 0.5,
        normalize: bool = False,
    ):
        super().__init__()
        check_names('modalities', modalities)
        check_range('hidden_channels', hidden_channels, 1)
        check_range('dropout', dropout, 0, 1)
        if quantized_keep(dropout) == 0:
            raise ValueError(f"'dropout' is so close to 1 that nothing would "
                             f"be kept (got {dropout})")
        if time_channels < 2 or time_channels % 2 != 0:
            raise ValueError(f"'time_channels' must be a positive even number "
                             f"(got {time_channels})")
        self.num_items = num_items
        self.modalities = list(modalities)
        self.hidden_channels = hidden_channels
        self.time_channels = time_channels
        self.dropout = dropout
        self.normalize = normalize

        M, H, C = len(self.modalities), hidden_channels, time_channels
        self.weight_in = Parameter(torch.empty(num_items, M, H))
        self.weight_time = Parameter(torch.empty(M, C, H))
        self.bias_in = Parameter(torch.empty(M, H))
        self.weight_out = Parameter(torch.empty(num_items, M, H))
        self.bias_out = Parameter(torch.empty(num_items, M))
        self.weight_code = Parameter(torch.empty(M, C, C))
        self.bias_code = Parameter(torch.empty(M, C))

        exponent = torch.arange(C // 2, dtype=torch.double) / (C // 2)
        freq = torch.exp(-math.log(10000) * exponent)
        self.register_buffer('freq', freq.to(torch.get_default_dtype()),
                             persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        I, H, C = self.num_items, self.hidden_channels, self.time_channels
        for weight, fan_in, fan_out in [
            (self.weight_in, I + C, H),
            (self.weight_time, I + C, H),
            (self.weight_out, H, I),
            (self.weight_code, C, C),
        ]:
            std = math.sqrt(2 / (fan_in + fan_out))
            torch.nn.init.normal_(weight, std=std)
        for bias in [self.bias_in, self.bias_out, self.bias_code]:
            torch.nn.init.normal_(bias, std=0.001)

    def encode_time(self, timestep: Tensor) -> Tensor:
        r"""Returns what the timesteps :obj:`[N]` add to the hidden layer
        before its activation, bias included, of shape :obj:`[N, M, H]`.
        """
        angle = timestep.view(-1, 1).to(self.freq.dtype) * self.freq
        code = torch.cat([angle.cos(), angle.sin()], dim=-1)  # [N, C]
        code = torch.einsum('nc,mcd->nmd', code, self.weight_code)
        code = code + self.bias_code
        return torch.einsum('nmc,mch->nmh', code, self.weight_time) + \
            self.bias_in

    def hidden(self, z: Tensor, time: Tensor) -> Tensor:
        r"""Returns the hidden layer :obj:`[N, M, H]` for the first-layer
        products :obj:`z`, of shape :obj:`[N, M, H]`, of inputs that are
        normalized already, and the output of :meth:`encode_time`.
        """
        return torch.tanh(z + time)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        r"""Predicts clean rows from noisy ones."""
        if self.normalize:
            x = F.normalize(x, dim=-1)
        x = F.dropout(x, self.dropout, self.training)
        z = (x @ self.weight_in.flatten(1)).view(-1, *self.bias_in.size())
        h = self.hidden(z, self.encode_time(timestep))
        return torch.einsum('nmh,imh->nmi', h, self.weight_out) + \
            self.bias_out.t()

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}({self.num_items}, '
                f'{self.hidden_channels}, modalities={self.modalities})')
