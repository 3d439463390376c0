import torch
from torch import Tensor


def linear_variance_betas(
    num_steps: int,
    noise_scale: float = 0.1,
    noise_min: float = 1e-4,
    noise_max: float = 0.02,
) -> Tensor:
    r"""Returns the betas :obj:`[num_steps]`, in double precision, for which
    the variance of the noise grows linearly,

    .. math::
        1 - \bar{\alpha}_t = s \left( \sigma_{\min} + \frac{t}{T - 1}
        (\sigma_{\max} - \sigma_{\min}) \right),

    from `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_
    (Eq. 4), as used by `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_.

    Args:
        num_steps (int): The number of steps :math:`T`.
        noise_scale (float, optional): The scale :math:`s`.
            (default: :obj:`0.1`)
        noise_min (float, optional): The smallest variance before scaling.
            (default: :obj:`1e-4`)
        noise_max (float, optional): The largest variance before scaling.
            (default: :obj:`0.02`)

    Raises:
        ValueError: If there is no step, or a variance is not within (0, 1).
    """
    low, high = noise_scale * noise_min, noise_scale * noise_max
    if num_steps < 1:
        raise ValueError(f"'num_steps' must be at least 1 (got {num_steps})")
    if not 0 < low <= high < 1:
        raise ValueError(f"The noise variances must satisfy 0 < noise_scale * "
                         f"noise_min <= noise_scale * noise_max < 1 "
                         f"(got {low} and {high})")

    variance = torch.linspace(low, high, num_steps, dtype=torch.double)
    alpha_bar = 1 - variance
    previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    return (1 - alpha_bar / previous).clamp_(max=0.999)
