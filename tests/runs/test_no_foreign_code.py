r"""No file that is read can run code: no part of the package unpickles or
evaluates, but the one that is written for it.
"""
import ast
import re
from pathlib import Path

import pytest

import diffmm_pyg

PACKAGE = Path(diffmm_pyg.__file__).parent
MODULES = {'pickle', '_pickle', 'cPickle', 'cloudpickle', 'dill', 'joblib',
           'marshal', 'shelve', 'code', 'imp', 'runpy', 'yaml', 'builtins'}
# Names that run code or may, whatever they are attributes of: modules are
# imported under any name.
NAMES = re.compile(r'loads?|load_file|torch_load|load\w*_url|eval|exec|compile'
                   r'|__\w*import\w*__|__builtins__|import_module|fs'
                   r'|PackageImporter|Unpickler|read_pickle|read_array'
                   r'|fromfile|\w*_object(_list)?')
ALLOWED = {
    '': {
        're.compile',  # Builds a pattern.
        'json.load', 'json.loads',  # Build plain values.
        # Modules leave the mode of training:
        'model.eval', 'self.eval', 'self.state.model.eval',
    },
    # Unpickles, but builds nothing else than matrices:
    'datasets/safe_pickle.py': {
        'import pickle', 'pickle.Unpickler',
        'MatrixUnpickler(io.BytesIO(content)).load'},
    # The package's own:
    'cli/commands.py': {'load'},
    'datasets/multimodal_rec.py': {'self.load'},
    'training/keeper.py': {'checkpoints.load'},
    # Of Safetensors:
    'runs/load.py': {'module.torch.load_file'},
    'training/checkpoint.py': {'import_safetensors().torch.load_file'},
    # Unpickles what another process of the same launch sends, not a file:
    'utils/processes.py': {'dist.broadcast_object_list'},
}


def suspects(tree):
    r"""Yields every use of a name that may run code."""
    safe = {  # These build tensors and plain values.
        node.func for node in ast.walk(tree) if isinstance(node, ast.Call)
        and ast.unparse(node.func) == 'torch.load' and any(
            k.arg == 'weights_only' and ast.unparse(k.value) == 'True'
            for k in node.keywords)
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imports(node)
        elif isinstance(node, ast.keyword) and node.arg == 'allow_pickle':
            if ast.unparse(node.value) != 'False':
                yield node.arg
        elif isinstance(node, ast.Constant) and node.value == 'allow_pickle':
            yield node.value
        elif isinstance(node, (ast.Name, ast.Attribute)) and node not in safe:
            name = node.id if isinstance(node, ast.Name) else node.attr
            if NAMES.fullmatch(name):
                yield ast.unparse(node)


def imports(node):
    module = getattr(node, 'module', None) or ''
    if getattr(node, 'level', 0) > 0 or module.startswith('diffmm_pyg'):
        return  # It is searched itself.
    for alias in node.names:
        path = f'{module}.{alias.name}'.strip('.')
        if path.split('.')[0] in MODULES or NAMES.fullmatch(
                path.split('.')[-1]):
            yield f'import {path}'


def offences(code):
    return set(suspects(ast.parse(code))) - ALLOWED['']


def test_package_runs_no_foreign_code():
    found = {str(path.relative_to(PACKAGE)): offences(path.read_text())
             for path in PACKAGE.rglob('*.py')}
    assert len(found) > 50
    assert {path: names for path, names in found.items() if names} == {
        path: names for path, names in ALLOWED.items() if path}


@pytest.mark.parametrize('code', [
    'import pickle', 'import _pickle', 'from pickle import load',
    'from _pickle import Unpickler as U', 'import marshal as m', 'eval("1")',
    'exec(x)', 'run = exec', '__import__("pickle")', 'builtins.eval(x)',
    '__builtins__["eval"](x)', 'from builtins import exec as run',
    'importlib.import_module("pickle")', 'torch.load(f)',
    'torch.load(f, weights_only=False)', 'torch.load(f, weights_only=safe)',
    'torch.serialization.load(f)', 'import torch as t\nt.load(f)',
    'from torch import load as read', 'read = torch.load\nread(f)',
    'torch.hub.load("a/b", "c")', 'torch.hub.load_state_dict_from_url(f)',
    'torch.jit.load(f)', 'torch.package.PackageImporter(f)',
    'fs.torch_load(f)', 'from torch_geometric.io import fs',
    'np.load(f)', 'import numpy as n\nn.load(f)',
    'np.lib.format.read_array(f, True)', 'np.fromfile(f)',
    'f(x, allow_pickle=True)', 'f(x, **{"allow_pickle": True})',
    'pandas.read_pickle(f)', 'from pandas import read_pickle',
    'dist.broadcast_object_list(v, 0)', 'dist.all_gather_object(v, x)',
    'joblib.load(f)',
])
def test_offences_are_found(code):
    assert len(offences(code)) > 0


@pytest.mark.parametrize('code', [
    'model.eval()', 'import pickletools', 'torch.load(f, weights_only=True)',
    're.compile("a")', 'from diffmm_pyg.runs import load',
    'from torch import Tensor', 'f(x, allow_pickle=False)',
    'model.load_state_dict(x)',
])
def test_innocent_code_is_let_through(code):
    assert offences(code) == set()
