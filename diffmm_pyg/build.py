from typing import Any, Dict, Optional

from diffmm_pyg.data import check_data, modality_features
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.presets import load_preset
from diffmm_pyg.typing import ITEM, USER
from diffmm_pyg.utils.hyper_parameters import hyper_parameters
from torch_geometric.data import HeteroData


def build_model(
    data: HeteroData,
    preset: str = 'strict',
    name: Optional[str] = None,
    model: Optional[Dict[str, Any]] = None,
    diffusion: Optional[Dict[str, Any]] = None,
) -> DiffMM:
    r"""Builds a model of the sizes of a graph with the hyper-parameters of a
    preset.

    Args:
        data (HeteroData): The training graph.
        preset (str, optional): The preset: ours (:obj:`"strict"`), or that
            of the released code (:obj:`"reference"`).
            (default: :obj:`"strict"`)
        name (str, optional): The name of a published dataset for which the
            preset has hyper-parameters of its own. (default: :obj:`None`)
        model (Dict, optional): What replaces hyper-parameters of
            :class:`~diffmm_pyg.nn.DiffMM`. (default: :obj:`None`)
        diffusion (Dict, optional): What replaces hyper-parameters of
            :class:`~diffmm_pyg.diffusion.GraphDiffusion`.
            (default: :obj:`None`)

    Raises:
        ConfigError: If there is no such preset or hyper-parameter.
        DataError: If :obj:`data` does not hold what it must hold.
        ValueError: If a hyper-parameter has no usable value.
    """
    check_data(data)
    config = load_preset(preset, name)
    _check_names(DiffMM, model or {})
    _check_names(GraphDiffusion, diffusion or {})
    channels = {m: x.size(1) for m, x in modality_features(data).items()}
    return DiffMM.from_sizes(
        data[USER].num_nodes, data[ITEM].num_nodes, channels,
        diffusion={**config['diffusion'], **(diffusion or {})},
        **{**config['model'], **(model or {})})


def _check_names(cls: type, given: Dict[str, Any]) -> None:
    names = list(hyper_parameters(cls))
    for name in given:
        if name not in names:
            raise ConfigError(f"{cls.__name__} has no hyper-parameter "
                              f"'{name}'; it has {names}")
