from typing import Dict, Optional

import torch
from torch import Tensor


def linear_variance_betas(
    num_steps: int,
    noise_scale: float,
    noise_min: float,
    noise_max: float,
    first_beta: Optional[float] = None,
) -> Tensor:
    r"""The :math:`\beta_t` under which the variance of the noise,
    :math:`1 - \bar\alpha_t`, is linear in :math:`t` from
    :obj:`noise_scale * noise_min` to :obj:`noise_scale * noise_max`, as in
    the `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_
    paper.

    Args:
        num_steps (int): The number of steps :math:`T`.
        noise_scale (float): The factor of both ends.
        noise_min (float): The variance at :math:`t = 0`, before the factor.
        noise_max (float): The variance at :math:`t = T - 1`, before the
            factor.
        first_beta (float, optional): If given, replaces :math:`\beta_0`
            after the others were derived, which shifts every
            :math:`\bar\alpha_t`. (default: :obj:`None`)

    Shapes:
        - **output:** :math:`(T)`, :obj:`torch.float64`
    """
    variance = torch.linspace(noise_scale * noise_min, noise_scale * noise_max,
                              num_steps, dtype=torch.float64)
    alpha_bar = 1 - variance
    previous = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    betas = (1 - alpha_bar / previous).clamp(max=0.999)
    if first_beta is not None:
        betas[0] = first_beta
    return betas


def noise_schedule(betas: Tensor) -> Dict[str, Tensor]:
    r"""Everything that training and sampling read off the
    :math:`\beta_t`, by name and all of shape :math:`(T)`.

    * :obj:`betas`, :obj:`alphas_cumprod`
    * :obj:`posterior_mean_coef1`, :obj:`posterior_mean_coef2`: the
      coefficients of :math:`x_0` and :math:`x_t` in the mean of
      :math:`q(x_{t-1} | x_t, x_0)` (Eq. (7) of `"Denoising Diffusion
      Probabilistic Models" <https://arxiv.org/abs/2006.11239>`_); 1 and 0
      at :math:`t = 0`
    * :obj:`posterior_variance`, :obj:`posterior_log_variance_clipped`: the
      variance, 0 at :math:`t = 0`, and its logarithm with the value at
      :math:`t = 1` there
    * :obj:`loss_weight`: :math:`\mathrm{SNR}(t-1) - \mathrm{SNR}(t)`, and 1
      at :math:`t = 0`

    Args:
        betas (torch.Tensor): The :math:`\beta_t`, of shape :math:`(T)`.
    """
    alphas = 1 - betas
    alphas_cumprod = alphas.cumprod(0)
    previous = torch.cat(
        [torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])
    variance = betas * (1 - previous) / (1 - alphas_cumprod)
    # The clamp only serves T = 1, whose single variance is 0.
    clipped = torch.cat([variance[1:2], variance[1:]])
    clipped = clipped if clipped.numel() > 0 else variance.clamp(min=1e-20)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return {
        'betas': betas,
        'alphas_cumprod': alphas_cumprod,
        'posterior_mean_coef1':
        betas * previous.sqrt() / (1 - alphas_cumprod),
        'posterior_mean_coef2':
        (1 - previous) * alphas.sqrt() / (1 - alphas_cumprod),
        'posterior_variance': variance,
        'posterior_log_variance_clipped': clipped.log(),
        'loss_weight': torch.cat([torch.ones_like(snr[:1]),
                                  snr[:-1] - snr[1:]]),
    }
