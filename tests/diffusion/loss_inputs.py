r"""Random arguments of :meth:`GraphDiffusion.loss`, and a check of losses."""
import torch
from oracle import assert_close, assert_grads_close, generator


def make_inputs(diffusion, num_rows, seed, with_masks):
    g, num_items = generator(seed), diffusion.denoiser.num_items
    size = (num_rows, num_items)
    features = {
        m: torch.randn(num_items, 3, generator=g)
        for m in diffusion.modalities
    }
    masks = {
        m: torch.rand(num_items, generator=g) < 0.6
        for m in diffusion.modalities[1:]  # The first one is complete.
    } if with_masks else None
    return features, torch.randn(num_items, 3, generator=g), masks, {
        'timestep': torch.randint(diffusion.process.num_steps, (num_rows, ),
                                  generator=g),
        'noise': torch.randn(size, generator=g),
        'mask': torch.rand(size, generator=g) < 0.7,
    }


def assert_losses(out, elbo, msi, diffusion):
    r"""Compares losses, parts and gradients with those of an oracle."""
    assert_close(out['elbo'], elbo)
    assert_close(out['msi'], msi)
    assert_close(out['loss'], elbo + msi)
    assert not out['elbo'].requires_grad and not out['msi'].requires_grad
    assert_grads_close(out['loss'], elbo + msi, diffusion.named_parameters())
