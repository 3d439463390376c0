r"""Models as data: `models/<name>.json` describes each."""
import copy
import inspect
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from _experiments.controls import CONTROLS
from diffmm_pyg.data import modality_features
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn.models import MODELS, LateFusion, Recommender
from diffmm_pyg.presets import load_preset
from diffmm_pyg.training import fit
from diffmm_pyg.typing import ITEM, USER
from diffmm_pyg.utils.hyper_parameters import HyperParameter, hyper_parameters
from torch_geometric.data import HeteroData

FOLDER = Path(__file__).parents[1] / 'models'
CLASSES = {**MODELS, 'LateFusion': LateFusion, **CONTROLS}
# What is said of a model, and what it is computed from:
SAID = ['title', 'role', 'deterministic', 'published']
GROUPS = ['model', 'diffusion', 'training']
KEYS = [*SAID, 'class', 'preset', 'models', 'modalities', 'tuned', *GROUPS]
TRAINING = ['epochs', 'batch_size', 'lr', 'patience', 'precision']

Description = Dict[str, Any]
Config = Dict[str, Any]


def model_names() -> List[str]:
    r"""Returns the names of all models that are described."""
    return sorted(path.stem for path in FOLDER.glob('*.json'))


def load_description(name: str) -> Description:
    r"""Reads the description of a model.

    Raises:
        ConfigError: If there is none.
    """
    if name not in model_names():
        raise ConfigError(f"There is no model '{name}'; choose among "
                          f"{', '.join(model_names())}")
    return json.loads((FOLDER / f'{name}.json').read_text())


def override(description: Description,
             changes: Dict[str, Any]) -> Description:
    r"""Returns a copy in which what dotted keys such as :obj:`"model.k"`,
    :obj:`"models.0"` or :obj:`"models.0.model.k"` name is replaced, whatever
    was tuned.
    """
    out = copy.deepcopy(description)
    for key, value in changes.items():
        try:
            _replace(out, key.split('.'), value)
        except (ValueError, LookupError, AttributeError, TypeError) as e:
            raise ConfigError(f"'{key}' names nothing that can be "
                              f"set") from e
        for tuned in out.get('tuned', {}).values():
            tuned['set'] = {k: v for k, v in tuned['set'].items()
                            if not f'{k}.'.startswith(f'{key}.')}
    return out


def _replace(out: Any, path: List[str], value: Any) -> None:
    if path[0] == 'models' and len(path) > 2:  # Of a part of a fusion.
        parts, index = out['models'], int(path[1])
        if isinstance(parts[index], str):
            parts[index] = load_description(parts[index])
        parts[index] = override(parts[index], {'.'.join(path[2:]): value})
        return
    for part in path[:-1]:
        out = out.setdefault(part, {})
    out[int(path[-1]) if isinstance(out, list) else path[-1]] = value


def resolve(description: Description, dataset: str) -> Config:
    r"""Returns all that the numbers of a model depend on, defaults included:
    presets and descriptions may change, and what was computed must be known
    by what it was computed with.

    Raises:
        ConfigError: If the description names what does not exist.
    """
    for key in description:
        if key not in KEYS:
            raise ConfigError(f"A model has no '{key}'; choose among "
                              f"{', '.join(KEYS)}")
    name = description.get('class')
    if name not in CLASSES:
        raise ConfigError(f"There is no model class '{name}'; choose among "
                          f"{', '.join(sorted(CLASSES))}")
    tuned = description.get('tuned', {}).get(dataset, {'set': {}})
    description = override(description, tuned['set'])
    given = {group: {} for group in GROUPS}
    if 'preset' in description:
        given.update(load_preset(description['preset'], dataset))
    for group in GROUPS:
        given[group] = {**given[group], **description.get(group, {})}

    out: Config = {
        'class': name,
        'model': _complete(CLASSES[name], given['model'], name),
        'training': {k: v for k, v in _complete(
            fit, given['training'], 'training', TRAINING).items()
            if k in TRAINING},
        'modalities': description.get('modalities'),
    }
    if 'diffusion' in inspect.signature(CLASSES[name]).parameters:
        out['diffusion'] = _complete(GraphDiffusion, given['diffusion'],
                                     'diffusion')
    elif len(given['diffusion']) > 0:
        raise ConfigError(f"'{name}' has no 'diffusion'")
    if 'models' in description:
        alone = given['training'] if out['model']['trained'] else None
        out['models'] = [_resolve_part(part, dataset, alone)
                         for part in description['models']]
    return out


def _resolve_part(part: Any, dataset: str,
                  training: Optional[Dict[str, Any]]) -> Config:
    description = load_description(part) if isinstance(part, str) else part
    config = resolve(override(description, {
        f'training.{key}': value for key, value in (training or {}).items()
    }), dataset)
    del config['modalities']
    if training is None:  # It is trained with the others.
        del config['training']
    return config


def _complete(fn: Callable, values: Dict[str, Any], where: str,
              allowed: Optional[List[str]] = None) -> Dict[str, Any]:
    known = hyper_parameters(fn)
    names = allowed or list(inspect.signature(fn).parameters)
    out = {name: option.default for name, option in known.items()}
    for name, value in values.items():
        if name not in names:
            raise ConfigError(f"'{where}' has no '{name}'; choose among "
                              f"{', '.join(names)}")
        option = known.get(name)
        if option is not None:
            if option.type is float and type(value) is int:
                value = float(value)  # 1 and 1.0 are the same learning rate.
            _check(f'{where}.{name}', value, option)
        out[name] = value
    return out


def _check(name: str, value: Any, option: HyperParameter) -> None:
    if value is None and option.optional:
        return
    if type(value) is not option.type:
        raise ConfigError(f"'{name}' must be of type {option.type.__name__} "
                          f"(got {value!r})")
    if option.choices and value not in option.choices:
        raise ConfigError(f"'{name}' must be one of "
                          f"{', '.join(option.choices)} (got {value!r})")


def build(config: Config, data: HeteroData) -> Recommender:
    r"""Builds a model of the sizes of a graph."""
    cls, kwargs = CLASSES[config['class']], dict(config['model'])
    if 'models' in config:
        return cls([build(part, data) for part in config['models']], **kwargs)
    if 'diffusion' in config:
        kwargs['diffusion'] = config['diffusion']
    channels = {m: x.size(1) for m, x in modality_features(data).items()}
    return cls.from_sizes(data[USER].num_nodes, data[ITEM].num_nodes,
                          channels, **kwargs)
