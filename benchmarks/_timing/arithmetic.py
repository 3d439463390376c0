r"""The least that an epoch of DiffMM costs: floating point operations and
bytes moved, by formula.

Two operations per multiplication and addition; products only. Bytes are
those of arrays of 32 bits that have to be read or written once even if all
that lies between is fused. Sparse and dense products count what the exact
rearrangements leave of them, whoever does the work: an implementation that
does more gets no credit for it.
"""
import math
from typing import Dict, NamedTuple, Sequence, Tuple

from diffmm_pyg.nn import DiffMM

# Forward and backward read a parameter and write its gradient; Adam reads
# four arrays, and writes three:
TRAFFIC_PER_PARAMETER = 3 + 7


class Size(NamedTuple):
    r"""What costs depend on beside the model.

    Args:
        edges (int): The number of training interactions.
        evaluated (int): The number of users that are ranked for.
        features ([int]): The number of raw features of every modality.
        anchors (Tuple[float, float]): The number of distinct users and items
            in a batch of interactions.
        batch_size (int): The nominal batch size.
    """
    edges: int
    evaluated: int
    features: Sequence[int]
    anchors: Tuple[float, float]
    batch_size: int


class Work(NamedTuple):
    r"""Operations and bytes of an epoch."""
    flop: float
    bytes: float


def minimal_work(model: DiffMM, size: Size) -> Dict[str, Work]:
    r"""Returns the least work of an epoch, by phase."""
    return {
        'diffusion': _diffusion(model, size),
        'generation': _generation(model, size),
        'ranking': _ranking(model, size),
        'evaluation': _evaluation(model, size),
    }


def _diffusion(model: DiffMM, size: Size) -> Work:
    denoiser = model.diffusion.denoiser
    M, H, I = len(model.modalities), denoiser.hidden_channels, model.num_items
    d, B = model.hidden_channels, min(size.batch_size, model.num_users)
    layer = M * I * H
    first = 4 * B * layer  # Output, and gradient of the weights
    direct = 6 * B * layer  # The same, and the gradient of the input
    if model.diffusion.likelihood == 'gaussian':
        gram = 4 * H * layer + 6 * M * B * H * H
        flop = first + min(direct, gram) + 4 * d * layer + 6 * M * B * H * d
    else:
        flop = first + direct + 4 * M * B * I * d
    steps = model.num_users / B
    traffic = 2 * layer * TRAFFIC_PER_PARAMETER * math.ceil(steps)
    return Work(steps * flop, 4. * (traffic + 3 * steps * B * I))


def _generation(model: DiffMM, size: Size) -> Work:
    denoiser = model.diffusion.denoiser
    M, H, U = len(model.modalities), denoiser.hidden_channels, model.num_users
    layer = M * model.num_items * H
    flop, read = 2. * U * layer, layer
    gathers = 1
    if model.diffusion.sampler != 'direct':
        num_hidden = 2 if denoiser.normalize else 1
        inner = model.diffusion.process.num_steps - 1
        flop += num_hidden * (2 * H * layer + inner * 2 * U * M * H * H)
        read, gathers = 3 * layer, num_hidden
    flop += 2 * gathers * size.edges * M * H
    return Work(flop, 4. * (read + 2 * gathers * U * M * H))


def _ranking(model: DiffMM, size: Size) -> Work:
    M, d = len(model.modalities), model.hidden_channels
    U, I, F = model.num_users, model.num_items, sum(size.features)
    observed = 4 + 2 * model.num_layers * (1 + M)  # Times d columns
    sparse = 2 * d * (observed * size.edges + 3 * M * model.k * U)
    flop = 2. * (sparse + 2 * I * F * d)
    bytes_moved = 2 * (observed + 3 * M) * (U + I) * d + 2 * I * F
    if model.ssl_weight > 0:
        terms = M if model.anchor == 'main' else M * (M - 1) // 2
        pairs = size.anchors[0] * U + size.anchors[1] * I
        flop += terms * 6 * d * pairs
        bytes_moved += terms * 3 * (U + I) * d
    bytes_moved += TRAFFIC_PER_PARAMETER * (U + I + F) * d
    steps = size.edges / size.batch_size
    return Work(steps * flop, 4. * math.ceil(steps) * bytes_moved)


def _evaluation(model: DiffMM, size: Size) -> Work:
    M, d = len(model.modalities), model.hidden_channels
    U, I, F = model.num_users, model.num_items, sum(size.features)
    observed = 4 + 2 * model.num_layers
    sparse = 2 * d * (observed * size.edges + 2 * M * model.k * U)
    flop = sparse + 2 * I * F * d + 2. * size.evaluated * I * d
    return Work(flop, 4. * ((observed + 2 * M + 1) * (U + I) * d + I * F))
