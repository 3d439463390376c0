r"""Random arguments of :meth:`GraphDiffusion.loss`."""
import torch
from oracle import generator


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
