r"""Which names are public, and under which of their paths they are
documented. Needs no Sphinx.
"""
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Dict, Iterator, List

import diffmm_pyg
import torch_geometric.typing


def public_modules() -> Dict[str, ModuleType]:
    r"""Returns every module that has an :obj:`__all__`, by name, the
    shallowest first.
    """
    found = pkgutil.walk_packages(diffmm_pyg.__path__, 'diffmm_pyg.')
    names = [info.name for info in found
             if not info.name.endswith('.__main__')]
    modules = map(importlib.import_module,
                  ['diffmm_pyg', *sorted(names, key=lambda n: n.count('.'))])
    return {m.__name__: m for m in modules if hasattr(m, '__all__')}


def public_names() -> Dict[str, Dict[str, List[str]]]:
    r"""Returns, for every public module, the full names of what it exports,
    by kind: :obj:`classes`, :obj:`functions` and :obj:`constants`. A class or
    function that several modules export has the name of the shallowest.
    """
    homes: Dict[object, str] = {}
    names = {}
    for path, module in public_modules().items():
        kinds: Dict[str, List[str]] = {}
        for name in sorted(_own_names(module), key=str.lower):
            value, full = getattr(module, name), f'{path}.{name}'
            kind = 'constants'
            if inspect.isclass(value) or inspect.isfunction(value):
                kind = 'classes' if inspect.isclass(value) else 'functions'
                full = homes.setdefault(value, full)
            kinds.setdefault(kind, []).append(full)
        if len(kinds) > 0:
            names[path] = kinds
    return names


def _own_names(module: ModuleType) -> Iterator[str]:
    # Modules have pages of their own, and PyG's types are PyG's.
    for name in module.__all__:
        value = getattr(module, name)
        foreign = getattr(torch_geometric.typing, name, None) is value
        if not inspect.ismodule(value) and not foreign:
            yield name
