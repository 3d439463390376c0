from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.diffusion.batch_share import BatchShare
from diffmm_pyg.diffusion.denoiser import Denoiser
from diffmm_pyg.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_pyg.diffusion.noisy_rows import (
    MAX_BLOCK_NUMEL,
    NoisyRows,
    noisy_matmul,
)
from diffmm_pyg.utils.sparse_rows import SparseRows


class HiddenReverse:
    r"""The deterministic reverse process in the hidden space of the
    denoisers. First and last layer are linear, so that a step

    .. math::
        x_{t-1} = c_1(t) \hat{x}_0 + c_2(t) x_t, \quad
        \hat{x}_0 = \mathbf{W}_2 h_t + \mathbf{b}_2

    of rows is a step of their first-layer products,

    .. math::
        z_{t-1} = c_1(t) (\mathbf{W}_1 \mathbf{W}_2 h_t +
        \mathbf{W}_1 \mathbf{b}_2) + c_2(t) z_t,

    and no :math:`x_t` is ever made. Where the input is normalized, its norm
    comes from :math:`x_t = \mathbf{W}_2 g_t + \beta_t \mathbf{b}_2 +
    \gamma_t x_T`.

    Args:
        denoiser (Denoiser): The networks.
        process (GaussianDiffusion): The noise.
        sampler (str, optional): What is done at every step, see
            :class:`~diffmm_pyg.diffusion.GraphDiffusion`.
            (default: :obj:`"posterior"`)
    """
    def __init__(self, denoiser: Denoiser, process: GaussianDiffusion,
                 sampler: str = 'posterior'):
        self.denoiser, self.process = denoiser, process
        self.sampler = sampler
        self.last_step = process.num_steps - 1 if sampler == 'posterior' else 0
        if self.last_step == 0:  # What follows takes inputs to the next ones.
            return
        w_in, w_out = denoiser.weight_in, denoiser.weight_out
        bias = denoiser.bias_out
        num_modalities = w_in.size(1)

        self.step_weight = torch.stack([
            w_out[:, m].t() @ w_in[:, m] for m in range(num_modalities)
        ])  # [M, H, H]
        self.step_bias = torch.einsum('im,imh->mh', bias, w_in)
        if denoiser.normalize:
            self.gram = torch.stack([
                w_out[:, m].t() @ w_out[:, m] for m in range(num_modalities)
            ])  # [M, H, H]
            self.weight_bias = torch.einsum('im,imh->mh', bias, w_out)
            self.bias_bias = bias.square().sum(dim=0)  # [M]

    def __call__(
        self,
        rows: SparseRows,
        noise_step: Optional[int] = None,
        noise: Optional[Tensor] = None,
        seed: Tuple[int, ...] = (0, ),
        share: Optional[BatchShare] = None,
    ) -> Tensor:
        r"""Returns the hidden layer :math:`h_0`, of shape :obj:`[N, M, H]`,
        of which the last layer makes the denoised rows.

        Args:
            rows (SparseRows): The rows to start from.
            noise_step (int, optional): If set, the rows are noised to this
                timestep first. (default: :obj:`None`)
            noise (torch.Tensor, optional): The noise :obj:`[N, I]`, in place
                of draws. (default: :obj:`None`)
            seed (Tuple[int], optional): The key of the draws.
                (default: :obj:`(0, )`)
            share (BatchShare, optional): Where the rows are in the block that
                is drawn for; all of it if not given. (default: :obj:`None`)
        """
        start = None
        if noise_step is not None:
            signal = self.process.sqrt_alphas_cumprod[noise_step]
            std = self.process.sqrt_one_minus_alphas_cumprod[noise_step]
            ones = signal.new_ones(rows.num_rows)
            start = NoisyRows(rows, signal * ones, std * ones, seed=seed,
                              noise=noise, share=share)
        if self.sampler == 'softmax':
            return self._softmax_steps(rows, start)

        def matmul(weight: Tensor) -> Tensor:
            if start is None:
                return rows.matmul(weight)
            return noisy_matmul(start, weight)[0]

        shape = (-1, *self.denoiser.bias_in.size())
        z = matmul(self.denoiser.weight_in.flatten(1)).view(shape)
        norm = None
        if self.denoiser.normalize:
            sq_norm = rows.count.to(z.dtype)
            if start is not None:
                sq_norm = noisy_matmul(start, self.denoiser.bias_out)[1]
            sq_norm = sq_norm.view(-1, 1)
            if self.last_step == 0:
                z = z / sq_norm.clamp(min=1e-24).sqrt().unsqueeze(-1)
            else:
                norm = _InputNorm(
                    self, sq_norm,
                    matmul(self.denoiser.weight_out.flatten(1)).view(shape),
                    matmul(self.denoiser.bias_out))
        return self._steps(z, norm)

    def _steps(self, z: Tensor, norm: Optional['_InputNorm']) -> Tensor:
        process = self.process
        steps = torch.arange(process.num_steps, device=z.device)
        time = self.denoiser.encode_time(steps)  # [T, M, H]
        for t in range(self.last_step, 0, -1):
            c1 = process.posterior_mean_coef1[t]
            c2 = process.posterior_mean_coef2[t]
            h = self._hidden(z, norm, time[t])
            out = (h.transpose(0, 1) @ self.step_weight).transpose(0, 1)
            z = c1 * (out + self.step_bias) + c2 * z
            if norm is not None:
                norm.step(h, c1, c2)
        # At t = 0, c1 is one and c2 is zero.
        return self._hidden(z, norm, time[0])

    def _softmax_steps(self, rows: SparseRows,
                       start: Optional[NoisyRows]) -> Tensor:
        # The softmax is not linear: these steps are those of dense rows.
        denoiser, process = self.denoiser, self.process
        chunk_size = max(1, MAX_BLOCK_NUMEL // rows.num_cols)
        if start is not None:
            chunk_size = rows.num_rows  # One block of noise.
        out = []
        for i in range(0, rows.num_rows, chunk_size):
            chunk = rows.narrow(i, min(i + chunk_size, rows.num_rows))
            if start is None:
                x = chunk.to_dense(process.betas.dtype)
            else:
                x = start.block(0, rows.num_cols)[0]
            count = chunk.count.view(-1, 1, 1)
            x = x.unsqueeze(1).expand(-1, len(denoiser.modalities), -1)
            for t in range(process.num_steps - 1, 0, -1):
                h = self._dense_hidden(x, t)
                logits = torch.einsum('nmh,imh->nmi', h, denoiser.weight_out)
                prob = (logits + denoiser.bias_out.t()).softmax(dim=-1)
                x = process.step(count * prob, t, x)
            out.append(self._dense_hidden(x, 0))
        return torch.cat(out)

    def _dense_hidden(self, x: Tensor, t: int) -> Tensor:
        if self.denoiser.normalize:
            x = F.normalize(x, dim=-1)
        time = self.denoiser.encode_time(torch.full((1, ), t,
                                                    device=x.device))
        z = torch.einsum('nmi,imh->nmh', x, self.denoiser.weight_in)
        return self.denoiser.hidden(z, time)

    def _hidden(self, z: Tensor, norm: Optional['_InputNorm'],
                time: Tensor) -> Tensor:
        if norm is not None:
            z = z / norm.value().unsqueeze(-1)
        return self.denoiser.hidden(z, time)


class _InputNorm:
    # The norm of x_t = W g + beta b + gamma x_T, of shape [N, M].
    def __init__(self, reverse: HiddenReverse, sq_norm: Tensor,
                 row_weight: Tensor, row_bias: Tensor):
        self.reverse, self.sq_norm = reverse, sq_norm
        self.row_weight, self.row_bias = row_weight, row_bias
        self.g = torch.zeros_like(row_weight)
        self.beta, self.gamma = sq_norm.new_zeros(()), sq_norm.new_ones(())

    def step(self, h: Tensor, c1: Tensor, c2: Tensor) -> None:
        self.g = c1 * h + c2 * self.g
        self.beta = c1 + c2 * self.beta
        self.gamma = c2 * self.gamma

    def value(self) -> Tensor:
        r, g, beta, gamma = self.reverse, self.g, self.beta, self.gamma
        gram = (g.transpose(0, 1) @ r.gram).transpose(0, 1)
        sq_norm = ((gram + 2 * beta * r.weight_bias +
                    2 * gamma * self.row_weight) * g).sum(dim=-1)
        sq_norm = sq_norm + beta * beta * r.bias_bias + \
            2 * gamma * beta * self.row_bias + gamma * gamma * self.sq_norm
        # Below its square root, whose gradient at 0 is infinite.
        return sq_norm.clamp(min=1e-24).sqrt()
