import signal
import threading
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def uninterrupted() -> Iterator[None]:
    r"""Ignores Ctrl-C while work that is already done is being kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
