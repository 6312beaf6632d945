"""An address at which no cluster answers is told so in seconds; Ray itself would ask for more than a minute."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from curation.errors import RunFailed
from curation.runtime import ray_address
from curation.runtime.ray_address import check_answers
from tests.support.small_corpus import curate, write_sound


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of somebody who answers in a way of their own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    answer(connection)
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_port_that_nobody_listens_at_is_told_so() -> None:
    address = closed_port()
    with pytest.raises(RunFailed, match=f"nobody answers at --address {address}: Connection refused"):
        check_answers(address)


def test_a_host_that_there_is_not_is_told_so() -> None:
    with pytest.raises(RunFailed, match=r"nobody answers at --address nohost\.invalid:6379"):
        check_answers("nohost.invalid:6379")


@pytest.mark.parametrize("address", ["head", "head:", "head:x", "ray://head:10001", "head:99999", "", "a b:1"])
def test_what_is_no_address_is_told_how_to_be_one(address: str) -> None:
    with pytest.raises(RunFailed, match="write HOST:PORT"):
        check_answers(address)


def test_somebody_else_who_listens_there_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address, "ANSWER_S", 1.0)
    with (
        server(lambda one: one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as address,
        pytest.raises(RunFailed, match=f"what listens at --address {address} is no Ray"),
    ):
        check_answers(address)
    with (
        server(lambda one: time.sleep(3)) as address,
        pytest.raises(RunFailed, match=f"what listens at --address {address} says nothing"),
    ):
        check_answers(address)


def test_whoever_speaks_http_2_may_be_ray() -> None:
    with server(lambda one: one.sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))) as address:
        check_answers(address)


def test_the_command_says_so_within_15_seconds_and_leaves_its_record(tmp_path: Path) -> None:
    write_sound(tmp_path / "in/a.wav", np.zeros(16000, np.int16))
    started = time.monotonic()
    said = curate("run", "speech-embedded", "--set", f"source.path={tmp_path}/in", "--set", "second_opinion=sidecar",
                  "--store", str(tmp_path / "store"), "--address", closed_port())  # fmt: skip
    assert said.code == 5 and "nobody answers at --address 127.0.0.1:" in said.err
    assert time.monotonic() - started < 15
    assert "nobody answers" in curate("status", "--store", str(tmp_path / "store")).out
