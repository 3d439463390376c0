r"""What the denoisers see in training, and what they are to find in it."""
import warnings
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.diffusion.batch_share import BatchShare
from diffmm_pyg.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_pyg.diffusion.noisy_rows import NoisyRows, noisy_matmul
from diffmm_pyg.diffusion.sampled_items import (
    SampledItems,
    sampled_noisy_matmul,
)
from diffmm_pyg.utils.hyper_parameters import hyper_parameters
from diffmm_pyg.utils.random import dropout_mask, quantized_keep, random_ranks
from diffmm_pyg.utils.sparse_rows import SparseRows

if TYPE_CHECKING:
    from diffmm_pyg.diffusion.graph_diffusion import GraphDiffusion

NOISE_ARGS = ['num_steps', 'noise_scale', 'noise_min', 'noise_max',
              'first_beta']


class CorruptedRows(NamedTuple):
    r"""Corrupted rows, as denoisers see them.

    Args:
        hidden (torch.Tensor): The hidden layers, :obj:`[N, M, H]`.
        target (SparseRows): What they are to predict.
        weight (torch.Tensor): The weight of the error of every row,
            :obj:`[N]`.
        items (SampledItems, optional): The items that the loss is estimated
            from; all of them if not given.
    """
    hidden: Tensor
    target: SparseRows
    weight: Tensor
    items: Optional[SampledItems]


def check_mask(diffusion: 'GraphDiffusion') -> None:
    r"""Raises :exc:`ValueError` if denoisers that are to find hidden items
    were given what has no meaning for them. (The weighting of timesteps is
    let through, so that presets can say what it would be.)
    """
    likelihood, sampler = diffusion.likelihood, diffusion.sampler
    if sampler != 'direct':
        raise ValueError(f"'corruption' can be 'mask' only where "
                         f"'likelihood' is 'multinomial' and 'sampler' is "
                         f"'direct' (got '{likelihood}' and '{sampler}')")
    options = hyper_parameters(GaussianDiffusion)
    for name in NOISE_ARGS:
        if getattr(diffusion.process, name) != options[name].default:
            raise ValueError(f"'{name}' is about noise, and 'corruption' is "
                             f"'mask'; leave it out, or set 'corruption' to "
                             f"'noise'")


def training_rows(diffusion: 'GraphDiffusion', rows: SparseRows) -> Tensor:
    r"""Returns the indices of the rows that there is something to learn from:
    all of them or, if items are hidden, those with two or more.
    """
    all_rows = torch.arange(rows.num_rows, device=rows.col.device)
    if diffusion.corruption == 'noise':
        return all_rows
    if not (rows.count > 1).any():
        warnings.warn("No row has two entries, of which one could be hidden, "
                      "and the denoisers learn nothing; set 'corruption' to "
                      "'noise'", stacklevel=2)
        return all_rows
    return all_rows[rows.count > 1]


def add_noise(
    diffusion: 'GraphDiffusion',
    share: BatchShare,
    generator: torch.Generator,
    seed: Tuple[int, ...],
    timestep: Optional[Tensor] = None,
    noise: Optional[Tensor] = None,
    mask: Optional[Tensor] = None,
) -> CorruptedRows:
    r"""Adds Gaussian noise to rows, which are to be found again. Arguments
    are those of :meth:`GraphDiffusion.loss`.
    """
    process, denoiser = diffusion.process, diffusion.denoiser
    if timestep is None:
        timestep = process.sample_timesteps(share.batch.num_rows, generator)
    rows, timestep = share.rows, share.of_rows(timestep)
    x = NoisyRows(
        rows=rows,
        signal=process.sqrt_alphas_cumprod[timestep],
        std=process.sqrt_one_minus_alphas_cumprod[timestep],
        dropout=denoiser.dropout if diffusion.training else 0.,
        seed=seed,
        noise=None if noise is None else share.of_rows(noise),
        mask=(None if mask is None or not diffusion.training else
              share.of_rows(mask)),
        share=share,
    )
    items, weight = None, denoiser.weight_in.flatten(1)
    if diffusion.num_sampled_items is None:
        z, sq_norm = noisy_matmul(x, weight)
    else:
        items = SampledItems.draw(rows, diffusion.num_sampled_items, generator)
        z, sq_norm = sampled_noisy_matmul(x, items, weight)
    if denoiser.normalize:
        z = z / sq_norm.sqrt().clamp(min=1e-12).view(-1, 1)
    steps = torch.arange(process.num_steps, device=z.device)
    time = F.embedding(timestep, denoiser.encode_time(steps).flatten(1))
    shape = (-1, *denoiser.bias_in.size())
    hidden = denoiser.hidden(z.view(shape), time.view(shape))
    return CorruptedRows(hidden, rows, process.loss_weights[timestep], items)


def mask_rows(
    diffusion: 'GraphDiffusion',
    share: BatchShare,
    generator: torch.Generator,
    seed: Tuple[int, ...],
    timestep: Optional[Tensor] = None,
    noise: Optional[Tensor] = None,
    mask: Optional[Tensor] = None,
) -> CorruptedRows:
    r"""Hides some ones of rows, which are to be found from the others: with
    the number :math:`n` of ones of :math:`x_0`, the size of the subset
    :math:`s` that is kept uniform in :math:`1, \ldots, n - 1`, and all of
    that size equally likely, the loss of a row is

    .. math::
        - \sum_{i \in x_0 \setminus s} \log \mathrm{softmax}(
        \hat{x}(s))_i.

    This is the order-agnostic process of `"Autoregressive Diffusion Models"
    <https://arxiv.org/abs/2110.02037>`_ on the ones of a row alone, of which
    one is always known, and without the factors that would make a bound of
    its loss. Other arguments are those of :meth:`GraphDiffusion.loss`.

    Raises:
        ValueError: If timesteps or noise are given, or :obj:`mask` is not
            boolean, or of another shape.
    """
    if timestep is not None or noise is not None:
        raise ValueError("'timestep' and 'noise' are for denoisers that learn "
                         "from noise, and these find hidden items")
    denoiser, batch = diffusion.denoiser, share.batch
    if mask is None:
        keep = draw_kept(batch, generator)
    elif mask.dtype != torch.bool or mask.size() != (batch.num_rows,
                                                     batch.num_cols):
        raise ValueError(f"'mask' must be boolean, of shape "
                         f"{(batch.num_rows, batch.num_cols)} (got "
                         f"{mask.dtype} of shape {tuple(mask.size())})")
    else:
        keep = mask[batch.row, batch.col]
    kept, target = batch.filter(keep), batch.filter(~keep)
    count = share.of_rows(kept.count)
    scale = torch.ones_like(denoiser.bias_in[:1, :1])
    if diffusion.training and denoiser.dropout > 0:
        kept = kept.filter(dropout_mask(1, kept.col.numel(), denoiser.dropout,
                                        generator).view(-1))
        scale = scale / quantized_keep(denoiser.dropout)
    items = None
    if not share.is_all:
        kept, target = [x.narrow(share.start, share.end)
                        for x in [kept, target]]
    if diffusion.num_sampled_items is not None:
        items = SampledItems.draw(target, diffusion.num_sampled_items,
                                  generator)
    if denoiser.normalize:
        scale = scale * count.clamp(min=1).to(scale.dtype).rsqrt().view(-1, 1)
    z = scale * kept.matmul(denoiser.weight_in.flatten(1))
    time = denoiser.encode_time(torch.zeros_like(count[:1]))
    hidden = denoiser.hidden(z.view(-1, *denoiser.bias_in.size()), time)
    return CorruptedRows(hidden, target, torch.ones_like(z[:, 0]), items)


def draw_kept(rows: SparseRows, generator: torch.Generator) -> Tensor:
    r"""Draws which ones of every row are kept, of shape :obj:`[nnz]`: a
    number of them that is uniform among 1 and all but one, and all subsets of
    that size with the same probability. The only one of a row is kept.
    """
    row, count = rows.row, rows.count
    draw = torch.rand(rows.num_rows, generator=generator, dtype=torch.double,
                      device=row.device)
    num_kept = 1 + (draw * (count - 1)).long()  # The draw is less than 1.

    return random_ranks(row, rows.rowptr, generator) < num_kept[row]


CORRUPTIONS = {'noise': add_noise, 'mask': mask_rows}
