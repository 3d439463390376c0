import os
import signal
import threading

import pytest

from diffmm_pyg.errors import LostProcessError
from diffmm_pyg.utils.interrupt import Interrupted, Signals, uninterrupted
from diffmm_pyg.utils.processes import Processes


@pytest.fixture(autouse=True)
def handlers():
    r"""Signals may be ignored where tests run in the background."""
    old = {s: signal.getsignal(s) for s in [signal.SIGINT, signal.SIGTERM]}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for signum, handler in old.items():
        signal.signal(signum, handler)


def send(signum):
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_at_once_or_at_the_end_of_what_must_not_be_halved(signum):
    done = []
    with Signals() as signals:
        with pytest.raises(Interrupted) as info:
            send(signum)
            done.append('never')
        assert info.value.signum == signum
        with pytest.raises(Interrupted):
            with signals.held():
                with signals.held():
                    send(signum)
                    done.append('inner')
                done.append('outer')
        with signals.held():  # What was raised is not raised again.
            pass
    assert done == ['inner', 'outer']
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_is_a_keyboard_interrupt_that_says_what_to_do():
    error = Interrupted(signal.SIGTERM, 'go on')
    assert isinstance(error, KeyboardInterrupt)
    assert str(error) == 'interrupted by SIGTERM; go on'
    assert str(Interrupted(signal.SIGINT)) == 'interrupted by SIGINT'


def test_another_error_is_not_hidden():
    with Signals() as signals:
        with pytest.raises(ValueError, match='mine'):
            with signals.held():
                send(signal.SIGTERM)
                raise ValueError('mine')


def test_what_the_process_ignores_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # As by `nohup`.
    with Signals():
        send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_uninterrupted():
    with Signals():
        with uninterrupted():
            send(signal.SIGINT), send(signal.SIGTERM)
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


class Others(Processes):
    r"""Two processes, of which the other one has received a signal, or 0."""
    signum = 0

    def max(self, value):
        return max(value, self.signum)


def test_processes_stop_together():
    others = Others(0, 2)
    with Signals(others) as signals:
        send(signal.SIGTERM)  # Not at once: the other one does not know.
        with pytest.raises(Interrupted) as info, signals.held():
            pass
        assert info.value.signum == signal.SIGTERM
        with signals.held():
            pass
        Others.signum = signal.SIGINT
        with pytest.raises(Interrupted) as info, signals.held():
            pass
        assert info.value.signum == signal.SIGINT


def test_signal_while_processes_agree():
    class Slow(Processes):
        def max(self, value):
            if value == 0:
                send(signal.SIGTERM)
            return value

    with Signals(Slow(0, 2)) as signals:
        with signals.held():
            pass
        with pytest.raises(Interrupted) as info, signals.held():
            pass
    assert info.value.signum == signal.SIGTERM


@pytest.mark.parametrize('block', [Signals, uninterrupted])
def test_launcher_does_not_silence_the_last_message(block):
    for _ in range(2):  # Whoever tries again.
        with pytest.raises(LostProcessError), block():
            raise LostProcessError('ended')
    send(signal.SIGTERM)  # Would end this process.
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize('error', [KeyError, LostProcessError])
def test_in_a_thread(error):
    errors = []

    def run():
        try:
            with Signals() as signals, signals.held(), uninterrupted():
                raise error('mine')
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=run)
    thread.start(), thread.join()
    assert [type(e) for e in errors] == [error]
