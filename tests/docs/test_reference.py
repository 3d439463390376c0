import ast
import importlib
import inspect
import re
import sys
import textwrap
import typing
from pathlib import Path

import pytest
import torch
from torch import Tensor

SOURCE = Path(__file__).parents[2] / 'docs' / 'source'
sys.path.append(str(SOURCE))

from public_names import public_names  # noqa: E402

NAMES = public_names()
TYPES = {int: 'int', float: 'float', bool: 'bool', str: 'str',
         Tensor: 'torch.Tensor'}


def documented(kind):
    r"""The public objects of a kind, by the name of their page."""
    names = {name: name.rpartition('.')
             for kinds in NAMES.values() for name in kinds.get(kind, [])}
    return {name: getattr(importlib.import_module(module), attr)
            for name, (module, _, attr) in names.items()}


def methods(cls):
    r"""Its public methods, but for those by which PyG or torch call it."""
    foreign = {name for base in cls.__mro__ for name in vars(base)
               if not base.__module__.startswith('diffmm_pyg.')}
    for name, value in vars(cls).items():
        value = getattr(value, '__func__', value)  # A class method.
        if inspect.isfunction(value) and name[0] != '_' and (
                name == 'forward' or name not in foreign):
            yield name, value


FUNCTIONS, CLASSES = documented('functions'), documented('classes')
METHODS = {f'{path}.{name}': (cls, value) for path, cls in CLASSES.items()
           for name, value in methods(cls)}


def arguments(doc):
    r"""The type and the text of every argument in a docstring."""
    section = re.search(r'^Args:\n(( .*)?\n)+', f'{doc}\n', re.M)
    if section is None:
        return {}
    pieces = re.split(r'^    \*{0,2}(\w+(?:, \w+)*) \((.*?)\):', section[0],
                      flags=re.M | re.S)[1:]
    return {name: (' '.join(kind.split()), ' '.join(text.split()))
            for names, kind, text in zip(pieces[::3], pieces[1::3],
                                         pieces[2::3], strict=True)
            for name in names.split(', ')}


def check_arguments(function, doc, skip=0):
    given = arguments(doc)
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    assert list(given) == [p.name for p in parameters]
    hints = typing.get_type_hints(getattr(function, '__init__', function)
                                  if inspect.isclass(function) else function)
    for p in parameters:
        kind, text = given[p.name]
        if p.kind in [p.VAR_POSITIONAL, p.VAR_KEYWORD]:
            continue
        assert kind.endswith('optional') == (p.default is not p.empty), p
        if p.default is not p.empty:
            value = re.search(r'\(default: :obj:`(.*?)`\)', text)
            assert value is not None, p
            assert eval(value[1], {'torch': torch}) == p.default, p
        hint = hints.get(p.name)
        if typing.get_origin(hint) is typing.Union:
            hint = typing.get_args(hint)[0]
        if typing.get_origin(hint) is typing.Literal:
            hint = str
        if hint in TYPES:
            assert re.split(',| or ', kind)[0] == TYPES[hint], p


def raised(function):
    r"""The types of the errors that the body of a function raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree)
             if isinstance(node, ast.Raise)]
    return {call.func.id for call in calls if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id.endswith('Error')}


def check_errors(function, doc):
    section = doc.partition('Raises:')[2]
    assert [e for e in raised(function) if f'{e}: ' not in section] == []


def test_every_public_module_is_in_the_reference():
    text = (SOURCE / 'modules.rst').read_text()
    assert sorted(re.findall(r'^    (diffmm_pyg\S*)$', text, re.M)) == \
        sorted(NAMES)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_docstring_of_function(name):
    doc = inspect.getdoc(FUNCTIONS[name])
    check_arguments(FUNCTIONS[name], doc)
    check_errors(FUNCTIONS[name], doc)


@pytest.mark.parametrize('name', CLASSES)
def test_docstring_of_class(name):
    cls = CLASSES[name]
    assert cls.__doc__
    if hasattr(cls, '_fields') or '__init__' in vars(cls):
        check_arguments(cls, inspect.getdoc(cls))
    if '__init__' in vars(cls):
        check_errors(cls.__init__, cls.__doc__)


@pytest.mark.parametrize('name', METHODS)
def test_docstring_of_method(name):
    cls, method = METHODS[name]
    bases = [base for base in cls.__mro__
             if base.__module__.startswith('diffmm_pyg.')]
    docs = [vars(base)[method.__name__].__doc__ for base in bases
            if method.__name__ in vars(base)]
    doc = next(filter(None, docs), None)
    assert doc is not None
    doc = inspect.cleandoc(doc)
    check_errors(method, doc)
    if len(arguments(doc)) > 0:
        check_arguments(method, doc, skip=1)


@pytest.mark.parametrize('name', documented('constants'))
def test_comment_of_constant(name):
    module, _, attr = name.rpartition('.')
    if typing.get_origin(documented('constants')[name]) is not None:
        return  # The page of an alias says what it stands for.
    source = Path(importlib.import_module(module).__file__).read_text()
    assert re.search(rf'^(#: .*\n)+{attr}\b.* = ', source, re.M)
