import math
from typing import Dict, Literal, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def time_code(t: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    r"""Cosines, then sines, of :math:`t \cdot 10000^{-k/h}` for
    :math:`k = 0, \ldots, h - 1`, where :math:`h` is half the width; an odd
    width ends in a zero.

    Args:
        t (torch.Tensor): The steps.
        width (int): The size of a code.
        dtype (torch.dtype): The type of the codes.

    Shapes:
        - **t:** :math:`(B)`
        - **output:** :math:`(B, width)`
    """
    half = width // 2
    k = torch.arange(half, dtype=dtype, device=t.device)
    angle = t.to(dtype)[:, None] * torch.exp(-math.log(10000) * k / half)
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=1), (0, width % 2))


def denoise(
    params: Dict[str, Tensor],
    x_t: Tensor,
    t: Tensor,
    *,
    normalize: bool = False,
    dropout_mask: Optional[Tensor] = None,
) -> Tensor:
    r"""The denoiser: a linear layer, tanh, and a linear layer, the first of
    which also reads the step's time code through a linear layer of its own.

    Args:
        params (Dict[str, torch.Tensor]): :obj:`time.weight` :math:`(C, C)`,
            :obj:`time.bias` :math:`(C)`, :obj:`in.weight` :math:`(H, I)`,
            :obj:`in.time_weight` :math:`(H, C)`, :obj:`in.bias`
            :math:`(H)`, :obj:`out.weight` :math:`(I, H)` and
            :obj:`out.bias` :math:`(I)`.
        x_t (torch.Tensor): The noised rows.
        t (torch.Tensor): Their steps.
        normalize (bool, optional): Whether rows are divided by their L2
            norm first. (default: :obj:`False`)
        dropout_mask (torch.Tensor, optional): Multiplies the (normalized)
            rows: 0 where dropped, :math:`1/(1-p)` where kept.
            (default: :obj:`None`)

    Shapes:
        - **x_t:** :math:`(B, I)`
        - **t:** :math:`(B)`
        - **output:** :math:`(B, I)`, the predicted :math:`x_0`, or the
          logits of a multinomial head
    """
    if normalize:
        x_t = F.normalize(x_t)
    if dropout_mask is not None:
        x_t = x_t * dropout_mask
    code = time_code(t, params['time.weight'].size(1), x_t.dtype)
    code = F.linear(code, params['time.weight'], params['time.bias'])
    hidden = F.linear(x_t, params['in.weight'], params['in.bias'])
    hidden = torch.tanh(hidden + F.linear(code, params['in.time_weight']))
    return F.linear(hidden, params['out.weight'], params['out.bias'])


def add_noise(
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    schedule: Dict[str, Tensor],
) -> Tensor:
    r"""Draws :math:`x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t}
    \epsilon` for given standard normal noise.

    Args:
        x0 (torch.Tensor): The rows.
        t (torch.Tensor): Their steps.
        noise (torch.Tensor): Their standard normal noise.
        schedule (Dict[str, torch.Tensor]): See :func:`noise_schedule`.

    Shapes:
        - **x0:** :math:`(B, I)`
        - **t:** :math:`(B)`
        - **noise:** :math:`(B, I)`
        - **output:** :math:`(B, I)`
    """
    alpha_bar = schedule['alphas_cumprod'][t][:, None]
    return (alpha_bar.sqrt().to(x0.dtype) * x0 +
            (1 - alpha_bar).sqrt().to(x0.dtype) * noise)


def denoiser_loss(
    params: Dict[str, Tensor],
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    schedule: Dict[str, Tensor],
    features: Tensor,
    item_emb: Tensor,
    *,
    likelihood: Literal['gaussian', 'multinomial'] = 'gaussian',
    normalize: bool = False,
    dropout_mask: Optional[Tensor] = None,
    has: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor]:
    r"""Both terms of one modality's denoiser loss (Sec. 3.2 of the
    `"DiffMM: Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper), per user and before any
    factor: the objective of the diffusion, and the multi-modal signal.

    The first is :obj:`schedule['loss_weight'][t]` times the mean over items
    of :math:`(x_0 - \hat{x})^2`, or, of a multinomial head, times
    :math:`-\sum_i x_{0,i} \log \mathrm{softmax}(\hat{x})_i`.
    The second is the mean over channels of
    :math:`(\hat{r} P - x_0 E)^2`, where :math:`\hat{r}` is :math:`\hat{x}`,
    or, of a multinomial head, :math:`|x_0| \, \mathrm{softmax}(\hat{x})`,
    the row that it expects.

    Args:
        params (Dict[str, torch.Tensor]): See :func:`denoise`.
        x0 (torch.Tensor): The users' rows.
        t (torch.Tensor): Their steps.
        noise (torch.Tensor): Their standard normal noise.
        schedule (Dict[str, torch.Tensor]): See :func:`noise_schedule`.
        features (torch.Tensor): The projected item features :math:`P`.
        item_emb (torch.Tensor): The item table :math:`E`.
        likelihood (str, optional): :obj:`"gaussian"` or
            :obj:`"multinomial"`. (default: :obj:`"gaussian"`)
        normalize (bool, optional): See :func:`denoise`.
            (default: :obj:`False`)
        dropout_mask (torch.Tensor, optional): See :func:`denoise`.
            (default: :obj:`None`)
        has (torch.Tensor, optional): :obj:`False` for items without this
            modality, which the second term leaves out of both of its sums.
            (default: :obj:`None`)

    Shapes:
        - **x0**, **noise**, **dropout_mask:** :math:`(B, I)`
        - **t:** :math:`(B)`
        - **features**, **item_emb:** :math:`(I, d)`
        - **has:** :math:`(I)`
        - **output:** :math:`(B)` and :math:`(B)`
    """
    x_t = add_noise(x0, t, noise, schedule)
    out = denoise(params, x_t, t, normalize=normalize,
                  dropout_mask=dropout_mask)
    if likelihood == 'gaussian':
        error = (x0 - out).pow(2).mean(dim=1)
        row = out
    else:
        log_prob = F.log_softmax(out, dim=1)
        error = -(x0 * log_prob).sum(dim=1)
        row = x0.sum(dim=1, keepdim=True) * log_prob.exp()
    if has is not None:
        features = features * has[:, None]
        item_emb = item_emb * has[:, None]
    weight = schedule['loss_weight'][t].to(x0.dtype)
    msi = (row @ features - x0 @ item_emb).pow(2).mean(dim=1)
    return weight * error, msi


def sample(
    params: Dict[str, Tensor],
    x0: Tensor,
    schedule: Dict[str, Tensor],
    *,
    sampler: Literal['posterior', 'softmax', 'direct'] = 'posterior',
    normalize: bool = False,
    noised_steps: int = 0,
    noise: Optional[Tensor] = None,
) -> Tensor:
    r"""Denoises rows by all :math:`T` reverse steps, without randomness.

    * :obj:`"posterior"` (gaussian head):
      :math:`x_{t-1} = c_1(t) \hat{x} + c_2(t) x_t`; returns the last one.
    * :obj:`"softmax"` (multinomial head): the same with
      :math:`\hat{x} = |x_0| \, \mathrm{softmax}(\mathrm{logits})`; returns
      the log-softmax of the last evaluation, whose exponential times
      :math:`|x_0|` is the last row.
    * :obj:`"direct"` (multinomial head): one evaluation at :math:`t = 0`;
      returns its log-softmax.

    Args:
        params (Dict[str, torch.Tensor]): See :func:`denoise`.
        x0 (torch.Tensor): The users' rows.
        schedule (Dict[str, torch.Tensor]): See :func:`noise_schedule`.
        sampler (str, optional): See above. (default: :obj:`"posterior"`)
        normalize (bool, optional): See :func:`denoise`.
            (default: :obj:`False`)
        noised_steps (int, optional): If positive, starts from the rows
            noised to :obj:`t = noised_steps - 1`, else from the rows.
            (default: :obj:`0`)
        noise (torch.Tensor, optional): Standard normal noise, needed if
            :obj:`noised_steps` is positive. (default: :obj:`None`)

    Shapes:
        - **x0**, **noise:** :math:`(B, I)`
        - **output:** :math:`(B, I)`
    """
    x, step = x0, torch.zeros(x0.size(0), dtype=torch.long, device=x0.device)
    if noised_steps > 0:
        assert noise is not None
        x = add_noise(x0, step + noised_steps - 1, noise, schedule)
    if sampler == 'direct':
        out = denoise(params, x, step, normalize=normalize)
        return F.log_softmax(out, dim=1)

    count = x0.sum(dim=1, keepdim=True)
    for t in reversed(range(schedule['betas'].numel())):
        out = denoise(params, x, step + t, normalize=normalize)
        if sampler == 'softmax':
            if t == 0:  # c1 is 1 and c2 is 0.
                return F.log_softmax(out, dim=1)
            out = count * out.softmax(dim=1)
        x = (schedule['posterior_mean_coef1'][t].to(x.dtype) * out +
             schedule['posterior_mean_coef2'][t].to(x.dtype) * x)
    return x
