"""A chat endpoint on this machine, over real HTTP, that behaves as a test says."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the endpoint does with one request.

    Attributes:
        missing_bytes: promised in Content-Length and never sent.
        drip_s: the pause after each byte.
    """

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    missing_bytes: int = 0
    drip_s: float = 0.0


def completion(text: str | None, finish: str = "stop", **message: Any) -> Reply:
    """A chat completion of OpenAI's form; a token is a character here."""
    usage = {"prompt_tokens": 10, "completion_tokens": len(text or "")}
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return Reply(json.dumps({"model": "painted-1", "choices": [choice], "usage": usage}).encode())


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error of OpenAI's form."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps({"error": {"message": message, "code": code}}).encode(), status, named)


def text_of(body: dict[str, Any]) -> str:
    """The text of a request's last message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


Behaviour = Callable[[dict[str, Any], int], Reply]
"""From a request's body, and how often its text has been asked before, to what the endpoint does."""


class ChatServer(ThreadingHTTPServer):
    """Counts what is asked, by the request's text, and the most requests that it had at a time."""

    daemon_threads = True

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = behaviour
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.most = 0
        self.now = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = text_of(body)
        with self.server.lock:
            before = self.server.asked[text]
            self.server.asked[text] += 1
            self.server.bodies.append(body)
            self.server.keys.add(self.headers.get("Authorization", ""))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            reply = self.server.behaviour(body, before)
            time.sleep(reply.delay_s)
        finally:
            with self.server.lock:
                self.server.now -= 1
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body) + reply.missing_bytes))
        self.end_headers()
        if not reply.drip_s:
            self.wfile.write(reply.body)
        for byte in reply.body if reply.drip_s else b"":
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(reply.drip_s)
        if reply.missing_bytes:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test tells by its claims."""


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[ChatServer]:
    """An endpoint for the length of a block."""
    server = ChatServer(behaviour)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
