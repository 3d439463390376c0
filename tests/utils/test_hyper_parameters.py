from typing import Any, Callable, Dict, List, Literal, Optional, Union

import pytest

from diffmm_pyg.utils.hyper_parameters import hyper_parameters


class Base:
    def __init__(self, size, data: Dict[str, int], on: bool = False,
                 num: int = 3, rate: float = 0.5, name: str = 'a',
                 kind: Literal['x', 'y'] = 'y', untyped=1,
                 names: List[str] = (), seed: Optional[int] = None,
                 mode: Optional[Literal['p', 'q']] = None,
                 layer: Union[str, Callable] = 'relu',
                 kwargs: Optional[Dict[str, Any]] = None,
                 sizes: Optional[List[int]] = None,
                 callback: Optional[Callable] = None):
        pass


def function(model: int, on: bool = True, *, lr: float = 1.) -> int:
    return 0


def test_hyper_parameters_of_a_class():
    # Neither what must be given nor what is no plain value:
    assert hyper_parameters(Base) == {
        'on': (bool, False, (), False),
        'num': (int, 3, (), False),
        'rate': (float, 0.5, (), False),
        'name': (str, 'a', (), False),
        'kind': (str, 'y', ('x', 'y'), False),
        'seed': (int, None, (), True),
        'mode': (str, None, ('p', 'q'), True),
        'layer': (str, 'relu', (), False),
        'kwargs': (dict, None, (), True),
        'sizes': (list, None, (), True),
    }


def test_hyper_parameters_of_a_function():
    assert hyper_parameters(function) == {
        'on': (bool, True, (), False),
        'lr': (float, 1., (), False),
    }


@pytest.mark.parametrize('name', ['on', 'num'])
def test_fields_have_names(name):
    option = hyper_parameters(Base)[name]
    assert option.type is type(option.default)
    assert option.choices == () and not option.optional
