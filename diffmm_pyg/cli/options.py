import argparse
import difflib
import json
import re
from typing import (
    Any,
    Callable,
    Dict,
    List,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
)

from diffmm_pyg.utils.hyper_parameters import HyperParameter, hyper_parameters

# How help calls numbers; texts are called by the name of their option.
METAVARS = {int: 'N', float: 'X', list: 'N,N,...', dict: 'JSON'}


class Parser(argparse.ArgumentParser):
    r"""A parser whose errors are one line, and which guesses nothing."""
    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(
            self, *args: Any, **kwargs: Any) -> Tuple[Any, List[str]]:
        # Also that of a command, which leaves errors to that of all commands.
        out, unknown = super().parse_known_args(*args, **kwargs)
        if len(unknown) > 0:
            close = difflib.get_close_matches(
                unknown[0].split('=')[0], self._option_string_actions, 1)
            hint = f" (is it '{close[0]}'?)" if close else ''
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return out, unknown

    def error(self, message: str) -> NoReturn:
        message = re.sub(r'argument (--\S+): ', r"'\1': ", message)
        self.exit(2, f"error: {message}; '{self.prog} --help' lists all "
                     f"options\n")


def add_hyper_parameters(
    parser: argparse.ArgumentParser,
    fn: Callable[..., Any],
    title: str,
    prefix: str = '',
    presets: Optional[Dict[str, Dict[str, Any]]] = None,
    skip: Sequence[str] = (),
) -> None:
    r"""Adds one option for every hyper-parameter of a function or class, of
    the same name (behind :obj:`prefix`), type and choices. What is not given
    does not appear in the result. The help tells what the presets set it to.
    """
    group = parser.add_argument_group(title)
    texts = describe_arguments(fn)
    for name, option in hyper_parameters(fn).items():
        if name in skip:
            continue
        flag = f'--{prefix}{name}'.replace('_', '-')
        kwargs: Dict[str, Any] = dict(
            dest=f'{prefix}{name}', default=argparse.SUPPRESS,
            help=_help(name, texts.get(name, ''), presets or {}, option))
        if option.type is bool:
            kwargs['action'] = argparse.BooleanOptionalAction
        else:
            kwargs.update(type=_converter(option),
                          metavar=METAVARS.get(option.type, name.upper()))
            if len(option.choices) > 0:
                none = [None] * option.optional
                kwargs['choices'] = [*option.choices, *none]
                shown = [str(choice).lower() for choice in kwargs['choices']]
                kwargs['metavar'] = f"{{{','.join(shown)}}}"
        group.add_argument(flag, **kwargs)


def given_hyper_parameters(args: argparse.Namespace, fn: Callable[..., Any],
                           prefix: str = '') -> Dict[str, Any]:
    r"""Returns the hyper-parameters of :obj:`fn` that were given."""
    values = vars(args)
    return {name: values[f'{prefix}{name}'] for name in hyper_parameters(fn)
            if f'{prefix}{name}' in values}


def describe_arguments(fn: Callable[..., Any]) -> Dict[str, str]:
    r"""Returns what the :obj:`Args` of a docstring say of each argument."""
    doc = re.split(r'\n\s*(?:Returns|Raises|Shapes):', fn.__doc__ or '')[0]
    parts = re.split(r'\n\s+(\w+) \([^)]*\): ', doc.split('Args:')[-1])
    out = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        text = re.sub(r':\w+:`[~.]?([^`]*)`', r'\1', text)
        text = re.sub(r'\\(\w+)_\{\\text\{(\w+)\}\}', r'\1_\2', text)
        out[name] = ' '.join(text.split())
    return out


def _help(name: str, text: str, presets: Dict[str, Dict[str, Any]],
          option: HyperParameter) -> str:
    text = re.sub(r' \(default: .*\)$', '', text)
    values = {k: v.get(name, option.default) for k, v in presets.items()}
    if len(set(values.values())) == 1:
        values = {'default': next(iter(values.values()))}
    shown = ', '.join(f'{k}: {v}' for k, v in values.items())
    return f'{text} ({shown})'.replace('%', '%%') if shown else text


def _converter(option: HyperParameter) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        if option.optional and text.lower() == 'none':
            return None
        if option.type is dict:
            return dict(json.loads(text))
        if option.type is list:
            return [int(number) for number in text.split(',')]
        return option.type(text)

    # Shown in error messages:
    convert.__name__ = ('json' if option.type is dict
                        else option.type.__name__)
    return convert
