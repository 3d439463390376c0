from typing import Callable, Dict, Hashable, TypeVar

import numpy as np
import torch
from torch import Tensor

K = TypeVar('K', bound=Hashable)


def integrated_gradients(
    fn: Callable[[Dict[K, Tensor]], Tensor],
    masks: Dict[K, Tensor],
    num_points: int = 8,
) -> Dict[K, Tensor]:
    r"""Attributes a scalar function of masks by the integrated gradients from
    `"Axiomatic Attribution for Deep Networks"
    <https://arxiv.org/abs/1703.01365>`_

    .. math::
        \mathbf{m} \odot \int_0^1 \nabla f(\alpha \mathbf{m}) \, d\alpha,

    which sum up to :math:`f(\mathbf{m}) - f(\mathbf{0})`.

    Args:
        fn (Callable): The function :math:`f`.
        masks (Dict[Any, torch.Tensor]): The masks :math:`\mathbf{m}`.
        num_points (int, optional): The number of points of the Gauss-Legendre
            quadrature, which is exact where :math:`f` is a polynomial of at
            most twice that degree. (default: :obj:`8`)
    """
    points, weights = np.polynomial.legendre.leggauss(num_points)
    out = {key: torch.zeros_like(mask) for key, mask in masks.items()}
    for point, weight in zip(points.tolist(), weights.tolist(), strict=True):
        scaled = {key: ((point + 1) / 2 * mask).detach().requires_grad_()
                  for key, mask in masks.items()}
        with torch.enable_grad():
            grads = torch.autograd.grad(fn(scaled), list(scaled.values()),
                                        allow_unused=True,
                                        materialize_grads=True)
        for (key, mask), grad in zip(masks.items(), grads, strict=True):
            out[key] += weight / 2 * mask * grad
    return out
