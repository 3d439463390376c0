import argparse
import logging
import os
import signal
import sys
import traceback
import warnings
from typing import Any, Callable, List, Optional, Tuple

from diffmm_pyg.cli.commands import doctor, evaluate, recommend
from diffmm_pyg.cli.data import EMBEDDED
from diffmm_pyg.cli.options import Parser, add_hyper_parameters
from diffmm_pyg.cli.output import plain_warnings
from diffmm_pyg.cli.train import PRESET, train
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.presets import load_preset, presets
from diffmm_pyg.training import fit
from diffmm_pyg.utils.processes import Processes

logger = logging.getLogger('diffmm_pyg')


def main(argv: Optional[List[str]] = None) -> int:
    r"""Runs a command and returns its exit code: 0, 1 if it failed, 2 if an
    option is wrong, 130 if Ctrl-C and 143 if SIGTERM interrupted it, 141 if
    what reads its output has ended.

    Args:
        argv ([str], optional): The command and its options; those of the
            process if not given. (default: :obj:`None`)
    """
    argv = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(argv)
    args.argv = argv
    # Where there is no progress bar to be seen, there are lines to be read.
    handler = logging.StreamHandler(sys.stderr)
    level = logging.WARNING if sys.stderr.isatty() else logging.INFO
    processes = Processes.launched()
    if not processes.is_first:
        level = logging.ERROR
    old = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False  # Other packages may have set up their own lines.
    logger.setLevel(level)
    try:
        with plain_warnings():
            if not processes.is_first:
                warnings.simplefilter('ignore')
            args.command(args)
            sys.stdout.flush()
    except BrokenPipeError:  # As `head` has seen enough, which is no error.
        # The interpreter flushes once more, which would fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as e:
        code = 128 + getattr(e, 'signum', signal.SIGINT)
        if not processes.is_first:  # All stop together.
            return code
        return _fail(str(e) or 'interrupted', args, code)
    except Exception as e:  # Whatever it is, it is told in one line.
        message = str(e).strip().split('\n')[0]
        return _fail(message or type(e).__name__, args, 1)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(old[0])
        logger.propagate = old[1]
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog='diffmm-pyg', description='Multi-modal '
                    'recommendation by graph diffusion.')
    commands = parser.add_subparsers(dest='name', required=True,
                                     parser_class=Parser, metavar='COMMAND')

    sub = commands.add_parser('train', help='train DiffMM and write a run')
    sub.set_defaults(command=train)
    sub.add_argument('--resume', dest='run', metavar='RUN', help="go on with "
                     "the training in this folder, with its data and options; "
                     "only '--epochs', '--patience', '--on-nan' and "
                     "'--checkpoint-...' may change")
    sub.add_argument('--data', metavar='NAME_OR_FOLDER',
                     help=f"'{EMBEDDED}' (generated, the default), 'tiktok', "
                     f"'baby', 'sports', or a folder of your own")
    sub.add_argument('--root', metavar='DIR', help="where downloaded and "
                     "processed data live (default: the checkout's "
                     "'datasets', else the user's cache folder)")
    sub.add_argument('--source', metavar='DIR_OR_URL', help="where the files "
                     "of a published dataset are (default: $DIFFMM_DATA, else "
                     "the authors' repository)")
    sub.add_argument('--modalities', nargs='+', metavar='M',
                     help='the modalities to use (default: all)')
    sub.add_argument('--preset', choices=presets(),
                     help="the hyper-parameters to start from: ours "
                     f"('{PRESET}', the default), or those of the released "
                     "code ('reference')")
    groups: List[Tuple[Callable[..., Any], str, str]] = [
        (fit, 'training', ''),
        (DiffMM, 'model', ''),
        (GraphDiffusion, 'diffusion', 'diffusion_'),
    ]
    for fn, title, prefix in groups:
        values = {name: load_preset(name)[title] for name in presets()}
        add_hyper_parameters(sub, fn, title, prefix, values,
                             ['progress', 'resume', 'origin'])

    sub = commands.add_parser('evaluate', help='evaluate a run')
    sub.set_defaults(command=evaluate)
    sub.add_argument('run', metavar='RUN', help='the folder of the run')
    sub.add_argument('--k', type=int, nargs='+', metavar='K',
                     help='the numbers of recommendations (default: that of '
                     'the training)')

    sub = commands.add_parser('recommend', help='recommend items to users')
    sub.set_defaults(command=recommend)
    sub.add_argument('run', metavar='RUN', help='the folder of the run')
    sub.add_argument('--users', nargs='+', metavar='ID',
                     help='ids of users (default: all)')
    sub.add_argument('--k', type=int, default=20, metavar='K',
                     help='the number of items per user (default: 20)')
    sub.add_argument('--output', metavar='FILE', help='a .csv or .parquet '
                     'file (default: CSV on standard output)')

    sub = commands.add_parser('doctor', help='show versions and backends')
    sub.set_defaults(command=doctor)

    for sub in commands.choices.values():
        sub.add_argument('--debug', action='store_true',
                         help='show where an error comes from')
    return parser


def _fail(message: str, args: argparse.Namespace, code: int) -> int:
    if args.debug:
        traceback.print_exc()
    rank, size = Processes.launched()
    where = f' in process {rank + 1} of {size}' if size > 1 else ''
    sys.stderr.write(f'error{where}: {message}\n')
    return code
