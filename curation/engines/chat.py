"""Chat: messages of text and images in, an answer out, from a model behind an OpenAI-compatible endpoint."""

import base64
import os
import re
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from curation.engines.engine import Engine, loaded
from curation.engines.json_endpoint import Endpoint, EndpointError, EndpointUnavailable, quoted, redacted
from curation.engines.recordings import Recordings, recordings_of
from curation.errors import CurateError, MediaError, StoreError
from curation.hashing import bytes_digest, digest

Role = Literal["system", "user", "assistant"]

REFUSAL_CODES = ("content_filter", "content_policy_violation")
"""Codes of errors by which a provider turns a request away for what it shows or says."""
MAX_TOKENS_TOLD = 2**31 - 1
"""A larger count of tokens is no count."""


class ChatRefused(CurateError):
    """The model declined to answer, or its provider's filter stopped it.

    `answer` has what was said and what it cost; None where the request was turned away unread.
    """

    answer: "ChatAnswer | None" = None


class EmptyAnswer(CurateError):
    """The model answered without a word. `answer` has what it cost."""

    answer: "ChatAnswer | None" = None


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image, as it is in its file."""

    data: bytes
    mime: Literal["image/jpeg", "image/png", "image/webp", "image/gif"]

    @staticmethod
    def of(data: bytes) -> "EncodedImage":
        """An image whose type its first bytes tell; what a file or a page says of it is not asked.

        Raises:
            MediaError: no type that endpoints take.
        """
        if data.startswith(b"\xff\xd8\xff"):
            return EncodedImage(data, "image/jpeg")
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return EncodedImage(data, "image/png")
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return EncodedImage(data, "image/webp")
        if data.startswith((b"GIF87a", b"GIF89a")):
            return EncodedImage(data, "image/gif")
        raise MediaError("the image is not JPEG, PNG, WebP or GIF, the formats that chat endpoints accept")


@dataclass(frozen=True)
class Message:
    """One turn of a chat: texts and images, in order."""

    role: Role
    parts: tuple[str | EncodedImage, ...]


@dataclass(frozen=True)
class ChatRequest:
    """What is asked. `sample` tells apart requests that ask the same several times, as a vote does."""

    messages: tuple[Message, ...]
    sample: int = 0

    def described(self) -> dict[str, Any]:
        """The request as it is recorded: images by their hash."""
        return {
            "sample": self.sample,
            "messages": [
                {"role": message.role, "parts": [_described(part) for part in message.parts]}
                for message in self.messages
            ],
        }


@dataclass(frozen=True)
class ChatAnswer:
    """What a model answered.

    Attributes:
        finish_reason: why it ended: `stop`; `length` where it was cut off; empty where the endpoint does not say.
        model: the model that answered, as the endpoint names it.
        input_tokens, output_tokens: None where the endpoint does not say.
        cost: in the currency of the engine's prices when it was paid; None where a price or a count is unknown.
        refusal: what the model said instead, where it declined.
    """

    text: str
    finish_reason: str = ""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class Chat(Engine):
    """Answers requests. Its answers are recordings: `curation.engines.recordings` must have been given a store."""

    repeatable: ClassVar[bool] = False

    @abstractmethod
    def answer(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | Exception]:
        """One answer per request, in order; where there is none, the exception that says why.

        Every answer is recorded before it is returned, and a request that has a recording is not sent, whichever its
        neighbours are and in whatever order they come.

        Raises:
            EngineMissing: no request can succeed, or there is nowhere to record. What was answered is recorded.
            StoreError: an answer cannot be recorded; nothing more is asked.
        """


@dataclass(frozen=True)
class OpenAiChat(Chat):
    """A model behind `POST {base_url}/chat/completions`: OpenAI, vLLM, SGLang, llama.cpp, Ollama and others.

    What shapes an answer is part of the fingerprint: `base_url`, `model`, `temperature`, `max_tokens`, `seed`,
    `extra_body`. Keys, retries and prices are not: changing them asks
    nothing again. The key itself is read from the environment when a request is sent, and is kept nowhere.
    """

    packages: ClassVar[tuple[str, ...]] = ("httpx",)
    extra: ClassVar[str] = "chat"
    code_licence: ClassVar[str] = "Apache-2.0"
    limits: ClassVar[str] = (
        "may answer otherwise when asked again, so its answers are recorded; a request that times out may be charged; "
        "cached input is reckoned at the full price"
    )

    engine: Literal["chat"] = "chat"
    base_url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    api_key_env: str = ""
    """The environment variable that holds the key; empty where the endpoint requires none."""
    temperature: float | None = 0.0
    max_tokens: int | None = 1024
    seed: int | None = 0
    """What is None is not sent. `seed` grows with a request's `sample`."""
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """More keys of the request's body, as the endpoint documents them (`top_p`, `response_format`)."""
    timeout_s: float = 120.0
    max_retries: int = 5
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0
    """The longest wait before a retry, also where the endpoint asks for a longer one."""
    concurrency: int = 16
    """The most requests under way at a time, in each process; how many are is found by trying."""
    max_answer_bytes: int = 4 << 20
    input_price_per_million: float | None = None
    output_price_per_million: float | None = None
    """Per million tokens, in any currency."""
    licence: str = ""
    """SPDX identifier of the model's weights, or of the terms that its answers come under."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^\s@?#]+", self.base_url):
            raise ValueError("base_url is http:// or https://, a host and a path; keys belong into `api_key_env`")
        if reserved := {"model", "messages", "stream", "n"} & set(self.extra_body):
            raise ValueError(f"extra_body cannot set {min(reserved)!r}")
        if self.concurrency < 1 or self.max_retries < 0 or self.timeout_s <= 0:
            raise ValueError("concurrency must be at least 1, max_retries at least 0, timeout_s above 0")
        object.__setattr__(self, "weights_licence", self.licence)

    @property
    def label(self) -> str:
        return f"{self.engine}:{self.model}"

    @property
    def url(self) -> str:
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def fingerprint(self) -> str:
        """Names what shapes an answer. No package is part of it: another release of httpx is no reason to pay again."""
        shaping = ("model", "temperature", "max_tokens", "seed", "extra_body")
        return digest([type(self).__name__, self.version, self.url, {name: getattr(self, name) for name in shaping}])

    def missing(self) -> str | None:
        if reason := super().missing():
            return reason
        if not self.model:
            return "engine chat: no `model` is named; GET {base_url}/models lists those of most endpoints"
        if self.api_key_env and not os.environ.get(self.api_key_env):
            return f"engine {self.label}: no key; export {self.api_key_env}=… where the run and its workers start"
        return None

    def load(self) -> Endpoint:
        return Endpoint(
            self.url,
            timeout_s=self.timeout_s,
            max_retries=self.max_retries,
            first_wait_s=self.first_wait_s,
            max_wait_s=self.max_wait_s,
            concurrency=self.concurrency,
            max_answer_bytes=self.max_answer_bytes,
        )

    def answer(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | Exception]:
        recordings = recordings_of(self)
        endpoint: Endpoint = loaded(self)
        keys = [digest(request.described()) for request in requests]
        stop = threading.Event()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="chat")
        try:
            asked = {
                key: pool.submit(self._outcome, endpoint, recordings, key, request, stop)
                for key, request in dict(zip(keys, requests, strict=True)).items()
            }
            wait(asked.values(), return_when=FIRST_EXCEPTION)
            if raised := next((f.exception() for f in asked.values() if f.done() and f.exception()), None):
                raise raised
            return [asked[key].result() for key in keys]
        finally:
            # Whatever ends this, a kill from the keyboard too: nothing more is sent, what is under way is recorded.
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _outcome(
        self, endpoint: Endpoint, recordings: Recordings, key: str, request: ChatRequest, stop: threading.Event
    ) -> ChatAnswer | Exception:
        """A request's answer, from its recording or from the endpoint; raises only what must end the run."""
        try:
            recorded = recordings.find(key)
            if recorded is None:
                secret = self._secret()
                answer = self._answer_in(endpoint.post(self._body(request), key, secret, stop), secret)
                recorded = recordings.keep(key, {"request": request.described(), "answer": asdict(answer)})
            return _judged(_answer(recorded, recordings.name(key)))
        except EndpointError as error:
            return ChatRefused(str(error)) if error.code in REFUSAL_CODES else error
        except BaseException:
            stop.set()  # here, before this thread takes up the next request
            raise

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        seed = None if self.seed is None else self.seed + request.sample
        chosen = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": seed}
        messages = [{"role": message.role, "content": _content(message)} for message in request.messages]
        sent = {name: value for name, value in chosen.items() if value is not None}
        return {"model": self.model, "messages": messages, **sent, **self.extra_body}

    def _answer_in(self, body: Mapping[str, Any], secret: str) -> ChatAnswer:
        """The answer in a completion.

        Raises:
            EndpointError: it is no completion.
        """

        def text(value: Any) -> str:
            # Half a surrogate pair is valid JSON, and no text that can be stored.
            whole = value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
            return redacted(whole, secret) if len(secret) >= SHORTEST_SECRET else whole

        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message = choice.get("message")
        if not isinstance(message, dict):
            said = quoted(str(dict(body))[:1000], secret)
            raise EndpointError(f"{self.url} answered without a message: {said}")
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if isinstance(part, dict) and _has_text(part))
        usage = body.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        return ChatAnswer(
            text=text(content),
            finish_reason=text(choice.get("finish_reason"))[:64],
            model=text(body.get("model"))[:256],
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cost=self._cost(*tokens),
            refusal=text(message.get("refusal")) or None,
        )

    def _cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        prices = self.input_price_per_million, self.output_price_per_million
        if input_tokens is None or output_tokens is None or prices[0] is None or prices[1] is None:
            return None
        return (input_tokens * prices[0] + output_tokens * prices[1]) / 1e6

    def _secret(self) -> str:
        """The key, from the environment.

        Raises:
            EndpointUnavailable: there is none, or it cannot be sent. It is not quoted.
        """
        if not self.api_key_env:
            return ""
        secret = os.environ.get(self.api_key_env, "").strip()
        if not re.fullmatch(r"[!-~]+", secret):
            raise EndpointUnavailable(f"engine {self.label}: {self.api_key_env} holds no key that can be sent")
        return secret


SHORTEST_SECRET = 12
"""Characters. A shorter key is a local server's password for show ("EMPTY"), and may be a word of an answer."""


def _answer(recorded: Mapping[str, Any], name: str) -> ChatAnswer:
    try:
        return ChatAnswer(**recorded["answer"])
    except (KeyError, TypeError) as error:
        raise StoreError(f"the recording {name} holds no answer; delete it to ask again") from error


AnyChat = OpenAiChat
"""The type of a recipe's key that holds a chat engine."""


def _judged(answer: ChatAnswer) -> ChatAnswer | Exception:
    """The answer, or the name of what is wrong with it."""
    error: ChatRefused | EmptyAnswer
    if answer.refusal or answer.finish_reason == "content_filter":
        error = ChatRefused(f"the model declined: {quoted(answer.refusal or answer.text, '')}")
    elif not answer.text.strip():
        cut = "; it used up its tokens before the first word" if answer.finish_reason == "length" else ""
        error = EmptyAnswer(f"the model's answer is empty{cut}")
    else:
        return answer
    error.answer = answer
    return error


def _described(part: str | EncodedImage) -> Any:
    if isinstance(part, str):
        return part
    return {"image": bytes_digest(part.data), "bytes": len(part.data), "mime": part.mime}


def _content(message: Message) -> str | list[dict[str, Any]]:
    """A message's parts as the endpoint takes them; text alone as a string, which every endpoint takes."""
    if all(isinstance(part, str) for part in message.parts):
        return "".join(str(part) for part in message.parts)
    return [_part(part) for part in message.parts]


def _part(part: str | EncodedImage) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = f"data:{part.mime};base64,{base64.b64encode(part.data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _has_text(part: dict[str, Any]) -> bool:
    return isinstance(part.get("text"), str)


def _count(value: Any) -> int | None:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS_TOLD
    return value if known else None
