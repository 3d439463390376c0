import signal
import threading
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from diffmm_pyg.errors import LostProcessError
from diffmm_pyg.utils.processes import SINGLE, Processes

SIGNALS = [signal.SIGINT, signal.SIGTERM]


class Interrupted(KeyboardInterrupt):
    r"""Ctrl-C or SIGTERM has asked to stop.

    Args:
        signum (int): The number of the signal.
        advice (str, optional): What to do next. (default: :obj:`""`)
    """
    def __init__(self, signum: int, advice: str = ''):
        name = signal.Signals(signum).name
        super().__init__(f'interrupted by {name}; {advice}' if advice else
                         f'interrupted by {name}')
        self.signum = signum


class Signals:
    r"""While it is entered, Ctrl-C and SIGTERM raise :class:`Interrupted`: at
    once, or, where work must not be left half done, at the end of
    :meth:`held`. Signals that the process ignores stay ignored.

    If there are several processes, none of them stops on its own: at the end
    of :meth:`held`, all of them raise what one of them has received. After a
    :class:`~diffmm_pyg.errors.LostProcessError`, one SIGTERM is ignored: a
    launcher sends it to those that still have to tell what was.

    Args:
        processes (Processes, optional): The processes; this one only if not
            given.
    """
    def __init__(self, processes: Processes = SINGLE) -> None:
        self.processes = processes
        self._old: Dict[int, Any] = {}
        self._is_held = False
        self._received = 0

    def __enter__(self) -> 'Signals':
        self._old = _set_handlers(self._receive)
        return self

    def __exit__(self, _: Any, error: Optional[BaseException],
                 *__: Any) -> None:
        _reset_handlers(self._old, error)

    @contextmanager
    def held(self) -> Iterator[None]:
        r"""Lets signals wait until the end of the block."""
        was_held, self._is_held = self._is_held, True
        try:
            yield
        finally:
            self._is_held = was_held
        if was_held:
            return
        # Another one may arrive while this one waits for other processes.
        received, self._received = self._received, 0
        signum = self.processes.max(received)
        if signum > 0:
            raise Interrupted(signum)

    def _receive(self, signum: int, _: Any) -> None:
        if not self._is_held and self.processes.size == 1:
            raise Interrupted(signum)
        self._received = signum


@contextmanager
def uninterrupted() -> Iterator[None]:
    r"""Ignores Ctrl-C and SIGTERM while work that is already done is being
    kept.
    """
    old, error = _set_handlers(signal.SIG_IGN), None
    try:
        yield
    except BaseException as e:
        error = e
        raise
    finally:
        _reset_handlers(old, error)


class IgnoreOnce:
    r"""A handler that lets a single signal pass."""
    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def __call__(self, signum: int, _: Any) -> None:
        signal.signal(signum, self.handler)


def _set_handlers(handler: Any) -> Dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}  # Signals are the affair of the main thread.
    return {s: signal.signal(s, handler) for s in SIGNALS
            if signal.getsignal(s) not in [signal.SIG_IGN, None]}


def _reset_handlers(old: Dict[int, Any],
                    error: Optional[BaseException]) -> None:
    for signum, handler in old.items():
        if (isinstance(error, LostProcessError) and signum == signal.SIGTERM
                and not isinstance(handler, IgnoreOnce)):
            handler = IgnoreOnce(handler)
        signal.signal(signum, handler)
