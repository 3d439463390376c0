r"""Plans: which models run on which datasets, and how often."""
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import diffmm_pyg
from _experiments.datasets import base_of
from _experiments.models import (
    Config,
    Description,
    load_description,
    model_names,
    override,
    resolve,
)
from diffmm_pyg.errors import ConfigError

FOLDER = Path(__file__).parents[1] / 'plans'
BEST_BASELINE = 'best baseline'
FIRST_SEED = 11  # Settings were chosen with smaller ones.


def _is_texts(x: Any) -> bool:
    return isinstance(x, list) and all(isinstance(y, str) for y in x)


def _is_count(x: Any) -> bool:
    return type(x) is int and x > 0


# What plans and their models hold, and how that is told:
PLAN_KEYS = {
    'title': (lambda x: isinstance(x, str), 'a text'),
    'datasets': (_is_texts, 'a list of names'),
    'seeds': (_is_count, 'a whole number of 1 or more'),
    'models': (lambda x: x == 'all' or isinstance(x, list),
               "'all' or a list of models"),
    'set': (lambda x: isinstance(x, dict), 'an object of dotted keys'),
    'max_epochs': (_is_count, 'a whole number of 1 or more'),
    'compare_with': (_is_texts, 'a list of labels'),
    'notes': (_is_texts, 'a list of texts'),
}
MODEL_KEYS = {
    'base': (lambda x: isinstance(x, str), 'a name'),
    'label': (lambda x: isinstance(x, str), 'a text'),
    'set': PLAN_KEYS['set'],
}


class Entry(NamedTuple):
    r"""A model of a plan.

    Args:
        label (str): What the report calls it.
        base (str): The description that it starts from.
        description (Description): The description, with what is changed.
    """
    label: str
    base: str
    description: Description


class Cell(NamedTuple):
    r"""One training.

    Args:
        label (str): What the report calls the model.
        dataset (str): The dataset.
        seed (int): The seed.
        config (Config): All that the model depends on.
    """
    label: str
    dataset: str
    seed: int
    config: Config

    def key(self, data_hash: str) -> str:
        r"""Returns what tells the cell from all others with different
        numbers.
        """
        text = json.dumps([self.config, self.seed, data_hash,
                           diffmm_pyg.__version__], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


class Plan(NamedTuple):
    r"""What is to be run.

    Args:
        title (str): The title of the report.
        entries ([Entry]): The models, in the order of the report.
        cells ([Cell]): The trainings, in the order they run.
        compare_with ([str]): The labels of the models that others are
            compared with, where :obj:`"best baseline"` is the one that
            validation tells.
        notes ([str]): What a reader of the report should know first.
    """
    title: str
    entries: List[Entry]
    cells: List[Cell]
    compare_with: List[str]
    notes: List[str]


def read_plan(path: Path, seeds: Optional[int] = None) -> Plan:
    r"""Reads a plan, see the README.

    Args:
        path (Path): The JSON file.
        seeds (int, optional): The number of seeds, instead of the plan's.

    Raises:
        ConfigError: If it is no plan, or names what does not exist.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as e:
        raise ConfigError(f"The plan '{path}' cannot be read "
                          f"({e.strerror})") from e
    except ValueError as e:
        raise ConfigError(f"The plan '{path}' is no JSON ({e})") from e
    needed = ['title', 'datasets', 'models']
    _check(content, PLAN_KEYS, needed + ['seeds'] * (seeds is None),
           f"The plan '{path}'")
    return _to_plan(content, seeds)


def _check(content: Any, keys: Dict[str, Any], needed: List[str],
           what: str) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{what} must be an object (got {content!r})")
    for key, value in content.items():
        if key not in keys:
            raise ConfigError(f"{what} has no '{key}'; choose among "
                              f"{', '.join(keys)}")
        holds, kind = keys[key]
        if not holds(value):
            raise ConfigError(f"{what} needs {kind} as '{key}' (got "
                              f"{value!r})")
    for key in needed:
        if key not in content:
            raise ConfigError(f"{what} lacks '{key}'")


def _to_plan(content: Dict[str, Any], seeds: Optional[int]) -> Plan:
    models = content['models']
    entries = [_to_entry(x, content.get('set', {})) for x in
               (model_names() if models == 'all' else models)]
    labels = [entry.label for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"The plan calls two models '{label}'; give "
                              f"each a 'label' of its own")
    compare_with = content.get('compare_with', [BEST_BASELINE])
    for label in compare_with:
        if label not in [BEST_BASELINE, *labels]:
            raise ConfigError(f"'compare_with' must hold '{BEST_BASELINE}' or "
                              f"labels of the plan (got '{label}')")
    cells = []
    for dataset in content['datasets']:
        if content['datasets'].count(dataset) > 1:
            raise ConfigError(f"The plan names '{dataset}' twice in "
                              f"'datasets'")
        configs = [resolve(e.description, base_of(dataset))
                   for e in entries]
        # One seed after the other, so that what there is can be compared.
        for i in range(seeds or content['seeds']):
            for entry, config in zip(entries, configs, strict=True):
                if i > 0 and entry.description.get('deterministic'):
                    continue
                cells.append(Cell(entry.label, dataset, FIRST_SEED + i,
                                  _shorten(config,
                                           content.get('max_epochs'))))
    return Plan(content['title'], entries, cells, compare_with,
                content.get('notes', []))


def _to_entry(item: Any, common: Dict[str, Any]) -> Entry:
    item = {'base': item} if isinstance(item, str) else item
    _check(item, MODEL_KEYS, ['base'], 'A model of the plan')
    description = load_description(item['base'])
    if 'set' in item:
        # What was published is not about a variant:
        description.pop('published', None)
    return Entry(item.get('label', description['title']), item['base'],
                 override(description, {**common, **item.get('set', {})}))


def _shorten(config: Config, max_epochs: Optional[int]) -> Config:
    if max_epochs is None:
        return config
    out = dict(config)
    if 'training' in config:
        epochs = min(max_epochs, config['training']['epochs'])
        out['training'] = {**config['training'], 'epochs': epochs}
    if 'models' in config:
        out['models'] = [_shorten(part, max_epochs)
                         for part in config['models']]
    return out


def select(plan: Plan, only: Sequence[str]) -> List[Cell]:
    r"""Returns the cells of the models and datasets that are named.

    Raises:
        ConfigError: If one of them is not in the plan.
    """
    datasets = {cell.dataset for cell in plan.cells}
    names = {entry.label: {entry.label.lower()} for entry in plan.entries}
    for entry in plan.entries:
        if entry.label == entry.description['title']:  # It is no variant.
            names[entry.label].add(entry.base)
    wanted = {name.lower() for name in only}
    for name in sorted(wanted):
        if name not in datasets and all(name not in x for x in names.values()):
            known = ', '.join(f"'{x}'" for x in [*sorted(datasets), *names])
            raise ConfigError(f"The plan has no model or dataset '{name}'; "
                              f"choose among {known}")
    chosen_data = wanted & datasets or datasets
    chosen = {label for label, x in names.items() if x & wanted} or set(names)
    return [cell for cell in plan.cells
            if cell.dataset in chosen_data and cell.label in chosen]
