"""SIGTERM and SIGHUP end the command as Ctrl-C does: what is done is kept, no unit is charged, the run says so.

A preempted machine or a scheduler sends SIGTERM and, half a minute later, what cannot be caught. The exit code is 128
and the signal's number, as a shell would have it: 143 or 129; Ctrl-C has 130. A signal that whoever started the command
chose to ignore (`nohup`) stays ignored.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from curation.runtime import stopping

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_stop() -> Iterator[None]:
    """Have the signals raise `Stopped` in the main thread while the block runs."""
    stopping.forget()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stopping.asked() else handler)


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise where the command stands; a second signal does not disturb the tidying up, unless it is a second Ctrl-C."""
    first = stopping.asked() is None
    stopping.ask(number)
    if first or number == signal.SIGINT:
        raise stopping.Stopped(stopping.reason(signal.Signals(number)))
