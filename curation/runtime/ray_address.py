"""Whether anybody answers at the address of a Ray cluster: Ray itself asks for more than a minute before it says no."""

import os
import re
import socket
import time

from curation.errors import RunFailed

ANSWER_S = 5.0
"""How long to wait for a connection, and then for an answer."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The preface of HTTP/2 with empty settings (RFC 9113, section 3.4): what speaks gRPC answers with its own settings."""
_SETTINGS = 4
_FORM = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s\[\]/:]+):(?P<port>\d{1,5})")


def check_answers(address: str) -> None:
    """Make sure that a cluster's head answers at `HOST:PORT`; `auto` is Ray's to find, which takes no time.

    Raises:
        RunFailed: nobody does, or somebody who is no Ray; within `2 * ANSWER_S`, and the time of a look-up of the name.
    """
    if address in ("auto", "local"):
        return
    found = _FORM.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise RunFailed(f"--address {address}: write HOST:PORT of the cluster's head (6379 by default), or auto")
    host, port = found["host"].strip("[]"), int(found["port"])
    hint = "is the cluster up (`ray start --head`), and the port that of its GCS? `--runner inline` needs no Ray"
    try:
        with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
            if os.environ.get("RAY_USE_TLS") == "1":
                return
            answer = _answer(connection)
    except OSError as error:
        raise RunFailed(f"nobody answers at --address {address}: {error.strerror or error}; {hint}") from error
    if len(answer) < 9 or answer[3] != _SETTINGS:
        said = "says nothing" if not answer else "is no Ray"
        raise RunFailed(f"what listens at --address {address} {said}; {hint}")


def _answer(connection: socket.socket) -> bytes:
    """The head of the first frame that comes back, or as much of it as came in time."""
    ends = time.monotonic() + ANSWER_S
    connection.sendall(_GREETING)
    answer = b""
    while len(answer) < 9 and (left := ends - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data = connection.recv(9 - len(answer))
        except TimeoutError:
            break
        if not data:
            break
        answer += data
    return answer
