r"""What the tests share: random problems, the golden values, and the same
parameters in the form that :obj:`diffmm_pyg.testing.textbook` takes.
"""
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.testing import textbook
from diffmm_pyg.typing import WITH_TORCH_SPARSE
from diffmm_pyg.utils import SparseRows

MODALITIES = ['image', 'text', 'audio']
BACKENDS = [False, True] if WITH_TORCH_SPARSE else [False]
TOLERANCE = {torch.double: 1e-10, torch.float: 1e-5}

PATH = Path(__file__).parent / 'golden' / 'diffmm_reference.npz'
GOLDEN = {k: torch.from_numpy(v) for k, v in np.load(PATH).items()}


def assert_golden(actual, key):
    assert_close(actual, GOLDEN[key], tolerance=1e-5, floor=0.)


def assert_close(actual, expected, tolerance=None, floor=1e-3, what=''):
    r"""Compares relative to the largest value of :obj:`expected`. Values
    below :obj:`floor` may be what is left of a sum that cancels.
    """
    if tolerance is None:
        tolerance = TOLERANCE[actual.dtype]
    assert actual.shape == expected.shape, what
    actual, expected = actual.detach().double(), expected.detach().double()
    if expected.numel() == 0:
        return
    error = (actual - expected).abs().max()
    scale = max(floor, float(expected.abs().max()))
    # Not `error > ...`, which lets NaN pass.
    assert error <= tolerance * scale, (what, float(error), scale)


def assert_grads_close(actual, expected, named_parameters, tolerance=None):
    r"""Compares the gradients of two losses in the same parameters."""
    names, params = zip(*named_parameters, strict=True)
    grads = [
        torch.autograd.grad(loss, params, allow_unused=True,
                            materialize_grads=True)
        for loss in (actual, expected)
    ]
    for name, a, b in zip(names, *grads, strict=True):
        assert_close(a, b, tolerance, what=name)


@contextmanager
def precision(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random_rows(num_rows, num_cols, seed):
    r"""Returns sparse rows and the same densely; a fifth of them is empty."""
    g = generator(seed)
    dense = torch.rand(num_rows, num_cols, generator=g) < 0.3
    dense &= torch.rand(num_rows, 1, generator=g) < 0.8
    edge_index = dense.nonzero().t()
    edge_index = edge_index[:, torch.randperm(edge_index.size(1),
                                              generator=g)]
    rows = SparseRows.from_edge_index(edge_index, num_rows, num_cols)
    return rows, dense.to(torch.get_default_dtype())


def random_diffusion(num_items, num_modalities, seed, **kwargs):
    r"""A model whose every parameter, biases included, matters."""
    noise = {'noise_scale': 0.5, 'noise_min': 0.01, 'noise_max': 0.5}
    if kwargs.get('corruption') == 'mask':
        noise = {}
    kwargs = {'hidden_channels': 5, 'time_channels': 4, **noise, **kwargs}
    out = GraphDiffusion(num_items, MODALITIES[:num_modalities], **kwargs)
    g = generator(seed)
    with torch.no_grad():
        for p in out.parameters():
            p.copy_(0.5 * torch.randn(p.size(), generator=g))
    return out


def textbook_params(denoiser, m):
    r"""The networks of modality :obj:`m`, as views of the parameters."""
    return {
        'time.weight': denoiser.weight_code[m].t(),
        'time.bias': denoiser.bias_code[m],
        'in.weight': denoiser.weight_in[:, m].t(),
        'in.time_weight': denoiser.weight_time[m].t(),
        'in.bias': denoiser.bias_in[m],
        'out.weight': denoiser.weight_out[:, m],
        'out.bias': denoiser.bias_out[:, m],
    }


def textbook_schedule(process):
    out = textbook.noise_schedule(
        textbook.linear_variance_betas(process.num_steps, process.noise_scale,
                                       process.noise_min, process.noise_max,
                                       process.first_beta))
    if process.loss_weighting == 'uniform':
        out['loss_weight'] = torch.ones_like(out['loss_weight'])
    return out


def textbook_scores(diffusion, x0, **kwargs):
    r"""The denoised rows, or their log-probabilities, of all modalities."""
    denoiser = diffusion.denoiser
    return [
        textbook.sample(textbook_params(denoiser, m), x0,
                        textbook_schedule(diffusion.process),
                        sampler=diffusion.sampler,
                        normalize=denoiser.normalize, **kwargs)
        for m in range(len(denoiser.modalities))
    ]


def dense_users(user_emb):
    r"""Embeddings of users as a matrix, whatever form they have."""
    if isinstance(user_emb, torch.Tensor):
        return user_emb
    return user_emb.to_dense()
