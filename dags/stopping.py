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

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked for the end. Whatever lets Ctrl-C through lets this through."""


class Stopping:
    """Which signal ended the command, if any did."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def exit_code(self) -> int:
        """128 and the signal's number; that of Ctrl-C where there was none."""
        return 128 + (self.signal or signal.SIGINT)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise where the command stands; once, so that a second signal does not disturb the tidying up."""
        if self.signal is None:
            self.signal = signal.Signals(number)
            raise Stopped(f"stopped by {self.signal.name}")


@contextmanager
def signals_stop() -> Iterator[Stopping]:
    """Have the signals raise `Stopped` in the main thread while the block runs."""
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stopping.handle)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
