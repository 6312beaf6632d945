"""An endpoint that takes JSON and answers JSON over HTTP: slow, refusing, broken or away, it never surprises.

Every attempt has an end in time and in bytes. What may pass (a server in trouble, too many requests, a broken
connection) is tried again; what will not is an error that says what the endpoint said. A redirect is never followed:
a request carries a key, and belongs to the host that the recipe names.
"""

import json
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from curation.errors import CurateError, EngineMissing
from curation.hashing import draw

TOO_MANY = (429, 503)
"""Answers by which an endpoint asks for fewer requests."""
QUOTED_CHARACTERS = 200
"""Of what an endpoint says, in an error."""
KEY_SIGN = "[key]"
"""Stands for the key wherever an endpoint repeats it."""


class EndpointError(CurateError):
    """One request came to nothing. It fails that row alone; the message says what the endpoint said."""

    code: str | None = None
    """The endpoint's own word for it, where it has one."""


class EndpointUnavailable(EngineMissing):
    """No request can succeed: the key is refused, the credit used up, or nobody is there. It ends the run."""


@dataclass(frozen=True)
class Trouble:
    """An attempt that came to nothing.

    Attributes:
        passing: whether it may be tried again.
        wait_s: how long the endpoint asks to be left alone; None where it does not say.
        crowded: whether fewer requests at a time would help.
    """

    error: CurateError
    passing: bool = False
    wait_s: float | None = None
    crowded: bool = False


class Gate:
    """How many requests are under way at a time: one more per round of good answers, half when it is too many.

    Additive increase, multiplicative decrease (Chiu and Jain 1989). Of requests that were under way together, one
    alone halves: they all tell of one crowd.
    """

    def __init__(self, cap: int, start: int = 4) -> None:
        self.cap = cap
        self.limit = float(min(cap, start))
        self._active = 0
        self._round = 0
        self._opens = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def passed(self, stop: threading.Event) -> Iterator[int]:
        """Wait for a place and hold it for the length of the block, unless `stop` is set; yields the round."""
        with self._changed:
            while not stop.is_set() and (wait := self._wait_s()) > 0:
                self._changed.wait(wait)
            self._active += 1
            entered = self._round
        try:
            yield entered
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def went_well(self) -> None:
        with self._changed:
            self.limit = min(float(self.cap), self.limit + 1 / self.limit)

    def too_many(self, entered: int, wait_s: float) -> None:
        """Halve, once for a round, and let nobody in for a while."""
        with self._changed:
            if entered == self._round:
                self.limit = max(1.0, self.limit / 2)
                self._round += 1
            self._opens = max(self._opens, time.monotonic() + wait_s)

    def _wait_s(self) -> float:
        """How long to wait before looking again; 0 where there is a place. Short, since `stop` wakes nobody."""
        closed_s = self._opens - time.monotonic()
        return min(0.1, closed_s) if closed_s > 0 else 0.1 * (self._active >= int(self.limit))


class Endpoint:
    """One URL of one host. Shared by the threads of a process."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        max_retries: int,
        first_wait_s: float,
        max_wait_s: float,
        concurrency: int,
        max_answer_bytes: int,
    ) -> None:
        import httpx

        self.url = url
        self.timeout_s = timeout_s
        self.max_retries = max_retries
        self.first_wait_s = first_wait_s
        self.max_wait_s = max_wait_s
        self.max_answer_bytes = max_answer_bytes
        self.gate = Gate(concurrency)
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        # An answer that is packed could unpack to anything before its size is known.
        self._client = httpx.Client(
            timeout=timeout_s, limits=limits, follow_redirects=False, headers={"Accept-Encoding": "identity"}
        )
        weakref.finalize(self, self._client.close)

    def post(self, body: Mapping[str, Any], key: str, secret: str, stop: threading.Event) -> dict[str, Any]:
        """The endpoint's JSON object for a JSON object.

        Args:
            key: names the request; retries of different requests are spread by it.
            secret: sent as the bearer's token; empty where none is needed.
            stop: when set, nothing is sent any more.

        Raises:
            EndpointError: this request came to nothing.
            EndpointUnavailable: none would succeed.
        """
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        attempt = 0
        while True:
            with self.gate.passed(stop) as entered:
                if stop.is_set():
                    raise EndpointError(f"{self.url}: the request was not sent, since the run is ending")
                found = self._attempt(data, secret)
            if not isinstance(found, Trouble):
                self.gate.went_well()
                return found
            wait_s = self._wait_s(found, key, attempt)
            if found.crowded:
                self.gate.too_many(entered, 0.0 if found.wait_s is None else wait_s)
            if not found.passing or attempt == self.max_retries:
                raise found.error
            attempt += 1
            stop.wait(wait_s)

    def _wait_s(self, trouble: Trouble, key: str, attempt: int) -> float:
        """Seconds before the next attempt: what the endpoint asks for, or twice the last, less up to half by lot."""
        doubled = self.first_wait_s * 2**attempt * (1 - draw(attempt, key, "retry") / 2)
        return min(self.max_wait_s, doubled if trouble.wait_s is None else trouble.wait_s)

    def _attempt(self, data: bytes, secret: str) -> dict[str, Any] | Trouble:
        import httpx

        ends = time.monotonic() + self.timeout_s
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
        received = bytearray()
        # The library's exceptions may quote headers, so none of them is raised on or chained.
        try:
            with self._client.stream("POST", self.url, content=data, headers=headers) as response:
                for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > self.max_answer_bytes:
                        return self._trouble(f"answered more than {self.max_answer_bytes} bytes")
                    if time.monotonic() > ends:
                        return self._trouble(f"had not answered after {self.timeout_s:g} s", passing=True, crowded=True)
        except httpx.ConnectError as error:
            why = f"cannot be reached: {redacted(str(error), secret)}; is `base_url` right, and the server running?"
            return Trouble(EndpointUnavailable(f"{self.url} {why}"), passing=True)
        except httpx.TimeoutException:
            return self._trouble(f"had not answered after {self.timeout_s:g} s", passing=True, crowded=True)
        except httpx.TransportError as error:
            return self._trouble(f"broke off ({type(error).__name__})", passing=True)
        except httpx.HTTPError as error:
            return self._trouble(f"gave an answer that cannot be read ({type(error).__name__})")
        return self._read(response.status_code, response.headers, bytes(received), secret)

    def _read(self, status: int, headers: Mapping[str, str], data: bytes, secret: str) -> dict[str, Any] | Trouble:
        """The object that an answer holds, or what is wrong with it."""
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if status == 200:
            if isinstance(answer, dict):
                return answer
            return self._trouble(f"answered what is no JSON object: {quoted(data, secret)}")
        if 300 <= status < 400:
            elsewhere = quoted(_host(headers.get("Location", "")), secret)
            return self._trouble(f"sends on to {elsewhere} ({status}), which is not followed")
        said = f"answered {status}: {quoted(_message(answer) or data, secret)}"
        if status in (401, 402) or (status == 429 and _code(answer) == "insufficient_quota"):
            return Trouble(EndpointUnavailable(f"{self.url} {said}"))
        crowded = status in TOO_MANY
        passing = crowded or status == 408 or status >= 500
        wait_s = retry_after_s(headers.get("Retry-After"))
        return self._trouble(said, passing=passing, crowded=crowded, wait_s=wait_s, code=_code(answer))

    def _trouble(
        self,
        what: str,
        *,
        passing: bool = False,
        crowded: bool = False,
        wait_s: float | None = None,
        code: str | None = None,
    ) -> Trouble:
        error = EndpointError(f"{self.url} {what}")
        error.code = code
        return Trouble(error, passing, wait_s, crowded)


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date (RFC 9110, section 10.2.3); None if none."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def redacted(text: str, secret: str) -> str:
    """A text without the key."""
    return text.replace(secret, KEY_SIGN) if secret else text


def quoted(said: bytes | str, secret: str) -> str:
    """The beginning of what an endpoint said, on one line."""
    text = said if isinstance(said, str) else said.decode("utf-8", "replace")
    # The key goes first: cut in two it would not be found.
    text = redacted(text, secret)[: 8 * QUOTED_CHARACTERS]
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:QUOTED_CHARACTERS] or "nothing"


def _host(url: str) -> str:
    """The host that a URL names, or what it names instead."""
    try:
        return urlsplit(url).hostname or "another path"
    except ValueError:
        return "no address"


def _message(answer: Any) -> str | None:
    """The message in an error of OpenAI's form, `{"error": {"message"}}`, or of those who write `{"error": "…"}`."""
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else None


def _code(answer: Any) -> str | None:
    error = answer.get("error") if isinstance(answer, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None
