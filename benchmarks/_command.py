r"""What the commands of benchmarks share."""
import argparse
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Sequence

from _checkout import ROOT
from diffmm_pyg.cli.output import plain_warnings
from diffmm_pyg.errors import DiffMMError


def positive(text: str) -> int:
    r"""Reads a number of things from the command line."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got '{text}')")
    return int(text)


def interruptible(run: Callable[[], int], out: Path) -> int:
    r"""Runs a command that goes on where it stopped, and returns its exit
    code: that of :obj:`run`, 1 on an error that can be mended, 130 if it was
    interrupted.
    """
    old = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with plain_warnings():
            return run()
    except DiffMMError as e:
        sys.stderr.write(f'error: {e}\n')
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; the same command goes on from what "
                         f"'{out}' holds\n")
        return 130
    finally:
        signal.signal(signal.SIGTERM, old)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def describe_command(script: str, argv: Sequence[str]) -> str:
    r"""Returns the command, without where folders lie on this machine: those
    of the checkout by their place in it, others by their names.
    """
    own = [x.replace(f'{ROOT}/', '') for x in argv]
    return shlex.join(['python', f'benchmarks/{script}',
                       *[re.sub(r'(^|=)/.*/', r'\1', x) for x in own]])
