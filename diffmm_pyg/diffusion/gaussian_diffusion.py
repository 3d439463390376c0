from typing import Literal, Optional

import torch
from torch import Tensor

from diffmm_pyg.diffusion.schedule import linear_variance_betas
from diffmm_pyg.utils.checks import check_choice


class GaussianDiffusion(torch.nn.Module):
    r"""The forward and reverse process of a diffusion model over rows that
    predicts the clean row, from `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_. It knows the noise; the network is
    somebody else's.

    .. math::
        x_t &= \sqrt{\bar{\alpha}_t} x_0 + \sqrt{1 - \bar{\alpha}_t} \epsilon

        x_{t-1} &= \frac{\sqrt{\bar{\alpha}_{t-1}} \beta_t}{1-\bar{\alpha}_t}
        \hat{x}_0 + \frac{\sqrt{\alpha_t} (1 - \bar{\alpha}_{t-1})}
        {1 - \bar{\alpha}_t} x_t

    Timesteps run from :obj:`0` to :obj:`num_steps - 1`.

    Args:
        num_steps (int, optional): The number of steps :math:`T`.
            (default: :obj:`5`)
        noise_scale (float, optional): The scale of the noise.
            (default: :obj:`0.1`)
        noise_min (float, optional): The smallest variance before scaling.
            (default: :obj:`1e-4`)
        noise_max (float, optional): The largest variance before scaling.
            (default: :obj:`0.02`)
        first_beta (float, optional): If set, replaces the first beta, as the
            released code of DiffMM does with :obj:`1e-4`.
            (default: :obj:`None`)
        loss_weighting (str, optional): The weight of a timestep in the loss:
            :obj:`"snr"`, the difference of signal-to-noise ratios
            :math:`\mathrm{SNR}(t-1) - \mathrm{SNR}(t)`, and 1 at
            :math:`t = 0`; or :obj:`"uniform"`. (default: :obj:`"snr"`)
    """
    betas: Tensor
    alphas_cumprod: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    posterior_variance: Tensor
    loss_weights: Tensor

    def __init__(
        self,
        num_steps: int = 5,
        noise_scale: float = 0.1,
        noise_min: float = 1e-4,
        noise_max: float = 0.02,
        first_beta: Optional[float] = None,
        loss_weighting: Literal['snr', 'uniform'] = 'snr',
    ):
        super().__init__()
        check_choice('loss_weighting', loss_weighting, ['snr', 'uniform'])
        self.num_steps = num_steps
        self.noise_scale = noise_scale
        self.noise_min = noise_min
        self.noise_max = noise_max
        self.first_beta = first_beta
        self.loss_weighting = loss_weighting

        # In double precision first: `1 - alphas_cumprod` cancels in single.
        betas = linear_variance_betas(num_steps, noise_scale, noise_min,
                                      noise_max)
        if first_beta is not None:
            betas[0] = first_beta
        alpha = 1 - betas
        alpha_bar = alpha.cumprod(dim=0)
        previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
        noise = 1 - alpha_bar

        loss_weights = torch.ones_like(betas)
        if loss_weighting == 'snr':
            snr = alpha_bar / noise
            loss_weights[1:] = snr[:-1] - snr[1:]

        for name, value in {
                'betas': betas,
                'alphas_cumprod': alpha_bar,
                'sqrt_alphas_cumprod': alpha_bar.sqrt(),
                'sqrt_one_minus_alphas_cumprod': noise.sqrt(),
                'posterior_mean_coef1': betas * previous.sqrt() / noise,
                'posterior_mean_coef2': alpha.sqrt() * (1 - previous) / noise,
                'posterior_variance': betas * (1 - previous) / noise,
                'loss_weights': loss_weights,
        }.items():
            dtype = torch.get_default_dtype()
            self.register_buffer(name, value.to(dtype))

    def sample_timesteps(self, num: int,
                         generator: Optional[torch.Generator] = None,
                         ) -> Tensor:
        r"""Draws :obj:`num` timesteps uniformly."""
        return torch.randint(self.num_steps, (num, ), generator=generator,
                             device=self.betas.device)

    def add_noise(self, sample: Tensor, noise: Tensor,
                  timestep: Tensor) -> Tensor:
        r"""Returns :math:`x_t` for clean rows :obj:`[N, I]`, noise
        :obj:`[N, I]` and timesteps :obj:`[N]`.
        """
        signal = self.sqrt_alphas_cumprod[timestep]
        std = self.sqrt_one_minus_alphas_cumprod[timestep]
        return signal.view(-1, 1) * sample + std.view(-1, 1) * noise

    def step(self, prediction: Tensor, timestep: int,
             sample: Tensor) -> Tensor:
        r"""Returns the mean of :math:`x_{t-1}` given the prediction of the
        clean rows and :math:`x_t`, both of shape :obj:`[N, I]`.
        """
        return (self.posterior_mean_coef1[timestep] * prediction +
                self.posterior_mean_coef2[timestep] * sample)

    def extra_repr(self) -> str:
        return (f"num_steps={self.num_steps}, "
                f"loss_weighting='{self.loss_weighting}'")
