import inspect
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Literal,
    NamedTuple,
    Tuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)


class HyperParameter(NamedTuple):
    r"""A keyword argument with a plain value.

    Args:
        type (type): One of :obj:`bool`, :obj:`int`, :obj:`float`,
            :obj:`str`, :obj:`list` for several integers, or :obj:`dict` for
            more arguments by name.
        default (Any): The default value.
        choices (Tuple[str], optional): The values it may have.
        optional (bool): Whether it may be :obj:`None`.
    """
    type: type
    default: Any
    choices: Tuple[str, ...]
    optional: bool


def hyper_parameters(fn: Callable[..., Any]) -> Dict[str, HyperParameter]:
    r"""Returns the arguments of a function or class that have a default and a
    plain type, so that names, types and defaults stand in one place, the
    signature.
    """
    hints = get_type_hints(fn.__init__ if inspect.isclass(fn) else fn)
    out = {}
    for name, parameter in inspect.signature(fn).parameters.items():
        if parameter.default is inspect.Parameter.empty or name not in hints:
            continue
        kinds, choices = [hints[name]], ()
        if get_origin(hints[name]) is Union:
            kinds = list(get_args(hints[name]))
        optional = type(None) in kinds
        # Of a name or an object, the name is plain:
        kind = next(t for t in kinds if t is not type(None))
        if get_origin(kind) is Literal:
            kind, choices = str, get_args(kind)
        if kind == Dict[str, Any]:
            kind = dict
        if kind == List[int]:
            kind = list
        if kind in (bool, int, float, str, list, dict):
            out[name] = HyperParameter(kind, parameter.default, choices,
                                       optional)
    return out


def hyper_parameter_values(cls: type, *modules: Any) -> Dict[str, Any]:
    r"""Returns the hyper-parameters of a class as the attributes that they
    have become, of an object or of its parts.
    """
    return {name: getattr(module, name) for name in hyper_parameters(cls)
            for module in modules if hasattr(module, name)}
