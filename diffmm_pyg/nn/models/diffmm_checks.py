from typing import TYPE_CHECKING

import torch_geometric.typing
from diffmm_pyg.errors import ConfigError, MissingExtraError
from diffmm_pyg.utils.checks import check_choice, check_k, check_range

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM


def check_values(model: 'DiffMM') -> None:
    r"""Checks the values that the hyper-parameters of
    :class:`~diffmm_pyg.nn.DiffMM` have.

    Raises:
        ValueError: If one of them is not usable.
    """
    check_choice('anchor', model.anchor, ['main', 'modality'])
    check_range('hidden_channels', model.hidden_channels, 1)
    check_range('num_layers', model.num_layers, 0)
    check_range('denoiser_passes', model.denoiser_passes, 1)
    if model.num_contrasts is not None:
        check_range('num_contrasts', model.num_contrasts, 1)
    check_range('edge_dropout', model.edge_dropout, 0, 1)
    numbers = model.num_neighbors
    if numbers is not None and (len(numbers) != model.num_layers + 2
                                or any(n < 1 and n != -1 for n in numbers)):
        raise ValueError(f"'num_neighbors' must hold num_layers + 2 = "
                         f"{model.num_layers + 2} numbers, one per hop, each "
                         f"at least 1, or -1 for all (got {numbers})")
    for name in ['temperature', 'weight_scale']:
        check_range(name, getattr(model, name), 0, open_low=True)
    for name in ['adj_weight', 'residual_weight', 'ssl_weight', 'reg_weight',
                 'denoiser_weight', 'drift_weight']:
        check_range(name, getattr(model, name), 0)
    check_k(model.k, model.num_items)
    modalities, num_items = list(model.in_channels), model.num_items
    diffusion = model.diffusion
    if modalities != diffusion.modalities:
        raise ValueError(f"'in_channels' names the modalities {modalities}, "
                         f"but 'diffusion' was made for "
                         f"{diffusion.modalities}")
    if num_items != diffusion.denoiser.num_items:
        raise ValueError(f"'num_items' is {num_items}, but 'diffusion' was "
                         f"made for {diffusion.denoiser.num_items} items")


def check_sampling(model: 'DiffMM') -> None:
    r"""Checks that :class:`~diffmm_pyg.nn.DiffMM` can be trained on sampled
    subgraphs.

    Raises:
        ConfigError: If another hyper-parameter needs the whole graph.
        MissingExtraError: If there is nothing to sample neighbors with.
    """
    if model.edge_dropout > 0 or model.num_contrasts is not None:
        raise ConfigError("'num_neighbors' leaves no use for 'edge_dropout', "
                          "as it draws edges already, and 'num_contrasts', "
                          "as batches are contrasted with themselves; set "
                          "these to 0 and None")
    if not (torch_geometric.typing.WITH_PYG_LIB
            or torch_geometric.typing.WITH_TORCH_SPARSE):
        raise MissingExtraError('torch-sparse', 'sparse', "to sample "
                                "neighbors ('num_neighbors')")


def check_weights(model: 'DiffMM') -> None:
    r"""Checks that the convolution on the generated graphs of
    :class:`~diffmm_pyg.nn.DiffMM` can make use of all that makes them up.

    Raises:
        ConfigError: If it would ignore weights that differ.
    """
    for conv in model.denoised_convs.values():
        if not conv.takes_weights and (model.weighting != 'binary'
                                       or model.edge_dropout > 0):
            raise ConfigError(f"'denoised_conv' is '{model.denoised_conv}', "
                              f"which ignores the weights of edges; set "
                              f"'weighting' to 'binary' and 'edge_dropout' to "
                              f"0, or use it for 'conv' alone")
