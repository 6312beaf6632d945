"""Whether somebody has asked for the end of the run.

A signal raises `Stopped` where the process stands. Where that is within the import of a C extension, or a callback of a
library, the exception may come out as another, or not at all: so the request is also remembered here, and asked for
before anything lands.
"""

import signal


class Stopped(KeyboardInterrupt):
    """A signal asked for the end. Whatever lets Ctrl-C through lets this through."""


_asked: list[signal.Signals] = []


def ask(number: int) -> None:
    """Remember that a signal asked for the end."""
    _asked.append(signal.Signals(number))


def asked() -> signal.Signals | None:
    """The first signal that asked for the end."""
    return _asked[0] if _asked else None


def forget() -> None:
    """What was asked of an earlier command of this process."""
    _asked.clear()


def check() -> None:
    """Raise `Stopped` if the end was asked for."""
    if number := asked():
        raise Stopped(reason(number))


def reason(number: signal.Signals) -> str:
    """For the run's record."""
    return "stopped" if number == signal.SIGINT else f"stopped by {number.name}"
