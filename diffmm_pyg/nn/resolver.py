import inspect
import json
from functools import partial
from typing import Any, Callable, Dict, Optional, Union

import torch

import torch_geometric.nn.conv
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn.conv import ModalityConv

# A convolution by its name in `torch_geometric.nn`, as a class, or as a
# function that makes one of the number of channels:
Conv = Union[str, Callable[..., torch.nn.Module]]

CONVS: Dict[str, Any] = {
    'ModalityConv': ModalityConv,
    **{name: getattr(torch_geometric.nn.conv, name)
       for name in torch_geometric.nn.conv.__all__},
}

# What follows from the graphs of :class:`~diffmm_pyg.nn.StackedAdj`, for the
# classes that have such an argument: they are normalized and hold self-loops,
# an edge has one weight, and what comes out is as wide as what goes in.
GRAPH_KWARGS = {'normalize': False, 'add_self_loops': False, 'edge_dim': 1,
                'in_edge_channels': 1, 'concat': False}


# The convolutions of PyG that call it otherwise.
WITH_DIM = (torch_geometric.nn.conv.CGConv, torch_geometric.nn.conv.GMMConv,
            torch_geometric.nn.conv.SplineConv)


def conv_name(conv: Conv) -> str:
    r"""Returns the name of a convolution: that by which
    :meth:`conv_resolver` finds it, or, for code of the user's own, one with
    its module, by which it does not.
    """
    if isinstance(conv, str):
        return conv
    named = conv if hasattr(conv, '__qualname__') else type(conv)
    name = named.__qualname__
    return name if CONVS.get(name) is conv else f'{named.__module__}.{name}'


def conv_resolver(
    conv: Conv,
    channels: int,
    conv_kwargs: Optional[Dict[str, Any]] = None,
) -> torch.nn.Module:
    r"""Makes a convolution that maps :obj:`channels` to as many. A name is
    only looked up in :obj:`torch_geometric.nn`, nothing is imported for it.

    Args:
        conv (str or Callable): The name of a convolution of
            :obj:`torch_geometric.nn`, a class, or a function that is called
            with :obj:`channels`.
        channels (int): The number of channels.
        conv_kwargs (Dict[str, Any], optional): More arguments of the class or
            function, plain values. (default: :obj:`None`)

    Raises:
        ConfigError: If there is no such convolution, or it takes other
            arguments.
    """
    name, kwargs = conv_name(conv), dict(conv_kwargs or {})
    try:
        json.dumps(kwargs)
    except TypeError as e:
        raise ConfigError(f"The arguments of '{name}' must be plain values "
                          f"({e}); pass a function that makes the convolution "
                          f"of others") from e
    if isinstance(conv, str):
        if conv not in CONVS:
            raise ConfigError(f"There is no convolution '{conv}' in "
                              f"torch_geometric.nn; name another, or pass the "
                              f"class itself, or a function that makes it")
        conv = CONVS[conv]
    if not callable(conv) or isinstance(conv, torch.nn.Module):
        raise ConfigError(f"Every graph has a convolution of its own; pass a "
                          f"class, or a function that makes it (got {conv})")
    make: Callable[..., torch.nn.Module] = conv
    if inspect.isclass(conv):
        kwargs = {**_class_kwargs(conv, channels), **kwargs}
    else:
        make = partial(conv, channels)
    try:
        return make(**kwargs)
    except (TypeError, ValueError, ImportError) as e:
        raise ConfigError(f"'{name}' cannot be made from {kwargs} ({e}); call "
                          f"its sizes 'channels', or 'in_channels' and "
                          f"'out_channels', and name its other arguments, or, "
                          f"in Python, pass a function of the number of "
                          f"channels that makes it") from e


def _class_kwargs(cls: type, channels: int) -> Dict[str, Any]:
    kwargs = {**dict.fromkeys(['in_channels', 'out_channels', 'channels'],
                              channels), **GRAPH_KWARGS}
    if issubclass(cls, WITH_DIM):  # The number of weights of an edge.
        kwargs['dim'] = 1
    names = inspect.signature(cls).parameters
    return {k: v for k, v in kwargs.items() if k in names}
