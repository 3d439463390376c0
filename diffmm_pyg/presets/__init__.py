r"""Named sets of hyper-parameters, as data."""
import json
from importlib.resources import files
from typing import Any, Dict, List, Optional

from diffmm_pyg.errors import ConfigError

__all__ = [
    'load_preset',
    'presets',
]

# The hyper-parameters of the model, of its diffusion, and of its training:
Config = Dict[str, Dict[str, Any]]


def presets() -> List[str]:
    r"""Returns the names of the presets."""
    names = (path.name for path in files(__package__).iterdir())
    return sorted(name[:-5] for name in names if name.endswith('.json'))


def load_preset(name: str, data: Optional[str] = None) -> Config:
    r"""Returns the hyper-parameters of a preset.

    Args:
        name (str): The name of the preset.
        data (str, optional): The name of a published dataset; what was chosen
            for it takes the place of the rest. (default: :obj:`None`)

    Raises:
        ConfigError: If there is no such preset.
    """
    if name not in presets():
        raise ConfigError(f"There is no preset '{name}'; choose one of "
                          f"{', '.join(presets())}")
    text = files(__package__).joinpath(f'{name}.json').read_text()
    content = json.loads(text)
    special = content['data'].get(data, {})
    return {group: {**values, **special.get(group, {})}
            for group, values in content['default'].items()}
