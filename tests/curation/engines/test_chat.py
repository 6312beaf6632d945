"""Answers are paid for once, whatever the endpoint and whoever kills the run; and the key is told to nobody else."""

import base64
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from curation.engines.chat import ChatAnswer, ChatRefused, ChatRequest, EmptyAnswer, EncodedImage, Message, OpenAiChat
from curation.engines.json_endpoint import EndpointError, EndpointUnavailable, Gate, retry_after_s
from curation.engines.recordings import Recordings, bind, bound_to, recordings_of
from curation.errors import EngineMissing, MediaError, StoreError
from curation.store.objects import Store
from tests.support.chat_server import Reply, completion, error, serving, text_of

KEY = "sk-verysecret-0123456789"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that the engines of this process are lent."""
    store = Store(tmp_path / "store")
    with bound_to(store):
        yield store


def chat(url: str, **fields: Any) -> OpenAiChat:
    quick = {"first_wait_s": 0.02, "max_wait_s": 0.2, "timeout_s": 5.0, "max_retries": 2}
    return OpenAiChat(base_url=url, model="painted", **(quick | fields))


def ask(*texts: str) -> list[ChatRequest]:
    return [ChatRequest((Message("user", (text,)),)) for text in texts]


def told(outcomes: Sequence[ChatAnswer | Exception]) -> list[str]:
    return [outcome.text if isinstance(outcome, ChatAnswer) else type(outcome).__name__ for outcome in outcomes]


def echo(body: dict[str, Any], before: int) -> Reply:
    return completion(f"You said {text_of(body)}.")


def everything_below(root: str) -> bytes:
    return b"".join(str(p).encode() + p.read_bytes() for p in sorted(Path(root).rglob("*")) if p.is_file())


def test_an_answer_has_its_tokens_its_cost_and_why_it_ended(store: Store) -> None:
    with serving(lambda body, before: completion("A red", "length")) as server:
        engine = chat(server.url, input_price_per_million=2.0, output_price_per_million=8.0)
        assert engine.answer(ask("What?")) == [
            ChatAnswer("A red", "length", "painted-1", 10, 5, (10 * 2 + 5 * 8) / 1e6)
        ]


def test_an_image_is_sent_as_its_own_bytes_between_the_texts(store: Store) -> None:
    image = EncodedImage.of(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    with serving(echo) as server:
        engine = chat(server.url, extra_body={"top_p": 0.5}, max_tokens=None)
        engine.answer([ChatRequest((Message("system", ("Be brief.",)), Message("user", ("Look:", image, "What?"))))])
        body = server.bodies[0]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    first, second, third = body["messages"][1]["content"]
    assert (first, third) == ({"type": "text", "text": "Look:"}, {"type": "text", "text": "What?"})
    head, data = second["image_url"]["url"].split(",")
    assert (head, base64.b64decode(data)) == ("data:image/png;base64", image.data)
    assert {name: body[name] for name in body if name != "messages"} == {
        "model": "painted",
        "temperature": 0.0,
        "seed": 0,
        "top_p": 0.5,
    }


@pytest.mark.parametrize("data", [b"", b"<svg onload=x>", b"II*\0tiff", b"RIFF1234WAVE"])
def test_an_image_of_another_type_is_not_sent(data: bytes) -> None:
    with pytest.raises(MediaError, match="not JPEG, PNG, WebP or GIF"):
        EncodedImage.of(data)


def test_a_second_run_pays_nothing_and_a_wider_one_what_is_new(store: Store) -> None:
    with serving(echo) as server:
        first = chat(server.url).answer(ask("a", "b", "c"))
        # Another key, patience, pace and price ask nothing again.
        again = chat(server.url, concurrency=1, timeout_s=9.0, max_retries=0, input_price_per_million=1.0)
        assert again.answer(ask("a", "b", "c")) == first
        assert told(again.answer(ask("d", "b"))) == ["You said d.", "You said b."]
        assert server.asked == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_another_model_is_asked_anew(store: Store) -> None:
    with serving(echo) as server:
        for changed in ({}, {"temperature": 0.5}, {"seed": 1}, {"max_tokens": 9}, {"extra_body": {"top_k": 1}}):
            chat(server.url, **changed).answer(ask("a"))
        assert server.asked["a"] == 5


def test_the_same_request_is_paid_once_in_a_batch_unless_it_is_another_sample(store: Store) -> None:
    with serving(echo) as server:
        assert told(chat(server.url).answer(ask("a", "a", "a"))) == ["You said a."] * 3
        assert server.asked["a"] == 1
        chat(server.url).answer([ChatRequest(ask("a")[0].messages, sample) for sample in (0, 1, 2)])
        assert server.asked["a"] == 3
        assert [body["seed"] for body in server.bodies[:1]] == [0]
        assert sorted(body["seed"] for body in server.bodies[1:]) == [1, 2]


def test_answers_do_not_depend_on_concurrency_or_order_or_neighbours(tmp_path: Path) -> None:
    texts = [f"question {i}" for i in range(24)]

    def uneven(body: dict[str, Any], before: int) -> Reply:
        number = int(text_of(body).split()[1])
        if number % 5 == 0 and before == 0:
            return error(500, "again")
        return Reply(echo(body, before).body, delay_s=(number % 3) * 0.01)

    with serving(uneven) as server:
        kept = []
        for name, concurrency, order in (("one", 1, 1), ("many", 8, 1), ("backwards", 8, -1)):
            server.asked.clear()
            store = Store(tmp_path / name)
            with bound_to(store):
                outcomes = chat(server.url, concurrency=concurrency).answer(ask(*texts[::order]))
            assert told(outcomes)[::order] == [f"You said {text}." for text in texts]
            kept.append({path: store.read(path) for path in store.names("recordings")})
        assert kept[0] == kept[1] == kept[2]
        assert len(kept[0]) == len(texts)


class Failing(Store):
    """A store that is full after some objects."""

    left = 4

    def create(self, name: str, data: bytes) -> bool:
        self.left -= 1
        if self.left < 0:
            raise StoreError("no space")
        return super().create(name, data)


def test_a_run_that_breaks_off_pays_only_for_what_was_not_answered(tmp_path: Path) -> None:
    requests = ask(*(f"q{i}" for i in range(10)))
    with serving(echo) as server:
        engine = chat(server.url, concurrency=1)
        with bound_to(Failing(tmp_path)), pytest.raises(StoreError, match="no space"):
            engine.answer(requests)
        # The fifth was answered and could not be kept: nothing more was asked.
        assert sum(server.asked.values()) == 5
        with bound_to(Store(tmp_path)):
            assert len(engine.answer(requests)) == 10
        assert sum(server.asked.values()) == 11


@pytest.mark.parametrize(("how", "asked_twice"), [(signal.SIGKILL, 2), (signal.SIGINT, 0)])
def test_a_killed_process_pays_only_for_what_was_under_way(tmp_path: Path, how: int, asked_twice: int) -> None:
    script = f"""
from curation.engines.recordings import bind
from curation.store.objects import Store
from tests.curation.engines.test_chat import ask, chat
import sys
bind(Store({str(tmp_path)!r}))
chat(sys.argv[1], concurrency=2).answer(ask(*(f"q{{i}}" for i in range(20))))
"""
    with serving(lambda body, before: Reply(echo(body, before).body, delay_s=0.05)) as server:
        root = Path(__file__).parents[3]
        command = [sys.executable, "-c", script, server.url]
        child = subprocess.Popen(command, cwd=root, env=os.environ, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while sum(server.asked.values()) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(how)
        child.wait()
        assert 8 <= sum(server.asked.values()) < 20
        with bound_to(Store(tmp_path)):
            outcomes = chat(server.url, concurrency=4).answer(ask(*(f"q{i}" for i in range(20))))
        assert told(outcomes) == [f"You said q{i}." for i in range(20)]
        # Two were under way. From the keyboard they are waited for and recorded.
        assert 20 <= sum(server.asked.values()) <= 20 + asked_twice
        assert max(server.asked.values()) <= 2


@pytest.mark.parametrize("status", [408, 500, 502, 503, 529])
def test_a_server_in_trouble_is_asked_again(store: Store, status: int) -> None:
    with serving(lambda body, before: error(status, "busy") if before < 2 else echo(body, before)) as server:
        assert told(chat(server.url).answer(ask("a"))) == ["You said a."]
        assert server.asked["a"] == 3


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
def test_a_request_that_is_wrong_is_not_repeated(store: Store, status: int) -> None:
    with serving(
        lambda body, before: error(status, "bad\n request") if text_of(body) == "a" else echo(body, 0)
    ) as server:
        outcomes = chat(server.url).answer(ask("a", "b"))
        assert told(outcomes) == ["EndpointError", "You said b."]
        assert str(outcomes[0]).endswith(f"answered {status}: bad request")
        assert server.asked["a"] == 1
        # It is not recorded: what was not answered may be asked in the next run.
        chat(server.url).answer(ask("a", "b"))
        assert server.asked == {"a": 2, "b": 1}


def test_an_endpoint_is_left_alone_as_long_as_it_asks(store: Store) -> None:
    with serving(lambda body, before: echo(body, 0) if before else error(429, "slow", Retry_After="1")) as server:
        started = time.monotonic()
        assert told(chat(server.url, max_wait_s=30.0).answer(ask("a", "b"))) == ["You said a.", "You said b."]
        assert time.monotonic() - started >= 1.0


def test_an_endpoint_that_asks_for_an_hour_gets_the_longest_wait(store: Store) -> None:
    with serving(lambda body, before: echo(body, 0) if before else error(429, "slow", Retry_After="3600")) as server:
        started = time.monotonic()
        assert told(chat(server.url, max_wait_s=0.3).answer(ask("a"))) == ["You said a."]
        assert 0.3 <= time.monotonic() - started < 5


def test_a_wait_is_a_number_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert retry_after_s("7") == 7.0
    assert 90 < (retry_after_s(soon) or 0) <= 100
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert [retry_after_s(rubbish) for rubbish in (None, "", "soon", "-5", "nan", "1e9")] == [None] * 6
    assert retry_after_s("9" * 5000) == 999999999.0


def test_an_endpoint_that_does_not_answer_fails_its_row_alone(store: Store) -> None:
    def slow(body: dict[str, Any], before: int) -> Reply:
        return Reply(echo(body, 0).body, delay_s=1.0 if text_of(body) == "slow" else 0.0)

    with serving(slow) as server:
        outcomes = chat(server.url, timeout_s=0.2, max_retries=1).answer(ask("slow", "b", "c"))
        assert told(outcomes) == ["EndpointError", "You said b.", "You said c."]
        assert "had not answered after 0.2 s" in str(outcomes[0])
        assert server.asked["slow"] == 2


def test_an_answer_that_drips_has_an_end(store: Store) -> None:
    with serving(lambda body, before: Reply(b" " * 500 + echo(body, 0).body, drip_s=0.02)) as server:
        started = time.monotonic()
        outcomes = chat(server.url, timeout_s=0.3, max_retries=0).answer(ask("a"))
        assert "had not answered after 0.3 s" in str(outcomes[0])
        assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><body>502 Bad\x1b[31m Gateway</body></html>", "answered what is no JSON object: <html>"),
        (b'{"choices": [{"mess', "answered what is no JSON object"),
        (b"", "answered what is no JSON object: nothing"),
        (b'["a"]', "answered what is no JSON object"),
        (b"[" * 100_000, "answered what is no JSON object"),
        (b"\xff\xfe\xfd", "answered what is no JSON object"),
        (b"{}", "answered without a message"),
        (b'{"choices": []}', "answered without a message"),
        (b'{"choices": [{"message": null}]}', "answered without a message"),
        (b'{"choices": {"0": 1}}', "answered without a message"),
    ],
)
def test_rubbish_is_an_error_of_its_row_and_is_not_paid_for_again(store: Store, body: bytes, said: str) -> None:
    with serving(lambda request, before: Reply(body) if text_of(request) == "a" else echo(request, 0)) as server:
        outcomes = chat(server.url).answer(ask("a", "b"))
        assert told(outcomes) == ["EndpointError", "You said b."]
        assert said in str(outcomes[0])
        assert str(outcomes[0]).isprintable()
        assert server.asked["a"] == 1
        assert len(store.names("recordings")) == 1


def test_rubbish_within_an_answer_is_not_known_rather_than_believed(store: Store) -> None:
    choice = {"message": {"content": [{"type": "text", "text": "half \ud800"}, 7, {"text": None}]}, "finish_reason": 3}
    usage = {"prompt_tokens": "many", "completion_tokens": 10**40}
    with serving(lambda body, before: Reply(json.dumps({"choices": [choice], "usage": usage}).encode())) as server:
        assert chat(server.url).answer(ask("a")) == [ChatAnswer("half ?")]
        assert chat(server.url).answer(ask("a")) == [ChatAnswer("half ?")]


def test_an_answer_that_is_cut_off_is_asked_for_again(store: Store) -> None:
    def cut(body: dict[str, Any], before: int) -> Reply:
        whole = echo(body, 0).body
        return Reply(whole) if before else Reply(whole[:20], missing_bytes=len(whole) - 20)

    with serving(cut) as server:
        assert told(chat(server.url).answer(ask("a"))) == ["You said a."]
        assert server.asked["a"] == 2


def test_an_answer_without_end_is_not_read_to_its_end(store: Store) -> None:
    with serving(lambda body, before: completion("x" * 3_000_000)) as server:
        outcomes = chat(server.url, max_answer_bytes=100_000).answer(ask("a"))
        assert "answered more than 100000 bytes" in str(outcomes[0])
        assert server.asked["a"] == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(store: Store, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_KEY", KEY)
    with serving(echo) as other:
        away = Reply(b"", status, {"Location": f"{other.url}/chat/completions?key={KEY}"})
        with serving(lambda body, before: away) as server:
            outcomes = chat(server.url, api_key_env="CHAT_KEY").answer(ask("a"))
            assert f"sends on to 127.0.0.1 ({status}), which is not followed" in str(outcomes[0])
            assert KEY not in str(outcomes[0])
        assert not other.asked


def test_a_refusal_is_named_and_paid_for_once(store: Store) -> None:
    replies = {
        "a": completion(None, refusal="I cannot\nhelp with that."),
        "b": completion("Half an ans", "content_filter"),
        "c": error(400, "policy", "content_filter"),
    }
    with serving(lambda body, before: replies[text_of(body)]) as server:
        for _ in range(2):
            outcomes = chat(server.url).answer(ask("a", "b", "c"))
            assert told(outcomes) == ["ChatRefused"] * 3
        assert str(outcomes[0]) == "the model declined: I cannot help with that."
        paid = [outcome.answer for outcome in outcomes if isinstance(outcome, ChatRefused)]
        assert [answer and answer.input_tokens for answer in paid] == [10, 10, None]
        assert server.asked == {"a": 1, "b": 1, "c": 2}
    again = pickle.loads(pickle.dumps(outcomes[0]))
    assert (str(again), again.answer) == (str(outcomes[0]), paid[0])


@pytest.mark.parametrize(
    ("text", "finish", "why"), [("", "stop", "empty"), (" \n", "stop", "empty"), (None, "length", "first word")]
)
def test_an_empty_answer_is_named_and_paid_for_once(store: Store, text: str | None, finish: str, why: str) -> None:
    with serving(lambda body, before: completion(text, finish)) as server:
        for _ in range(2):
            (outcome,) = chat(server.url).answer(ask("a"))
            assert isinstance(outcome, EmptyAnswer)
            assert why in str(outcome)
        assert server.asked["a"] == 1


@pytest.mark.parametrize(
    "reply", [error(401, "Incorrect key"), error(402, "Pay"), error(429, "Quota", "insufficient_quota")]
)
def test_what_no_request_can_mend_ends_the_run_at_once(store: Store, reply: Reply) -> None:
    with serving(lambda body, before: reply) as server:
        with pytest.raises(EndpointUnavailable, match=reply.body.decode()[23:26]):
            chat(server.url, concurrency=1).answer(ask(*map(str, range(50))))
        assert sum(server.asked.values()) <= 2


def test_an_endpoint_where_nobody_is_ends_the_run(store: Store) -> None:
    with serving(echo) as server:
        url = server.url
    with pytest.raises(EndpointUnavailable, match=r"cannot be reached.*base_url"):
        chat(url, max_retries=1).answer(ask("a", "b"))


def test_the_key_is_sent_and_told_to_nobody_else(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CHAT_KEY", KEY)
    padding = "x" * 190
    replies = {
        "in the answer": completion(f"Your key is {KEY}."),
        "in the refusal": completion(None, refusal=KEY),
        "in the finish": completion("a", finish=KEY),
        "in an error": error(400, f"{padding} bad key {KEY}"),
        "in rubbish": Reply(padding.encode() + b" " * 2000 + f"<b>{KEY}</b>".encode()),
        "without a message": Reply(json.dumps({"key": KEY}).encode()),
        "in the end": error(500, KEY),
    }
    with serving(lambda body, before: replies[text_of(body)]) as server:
        engine = chat(server.url, api_key_env="CHAT_KEY", max_retries=1)
        outcomes = engine.answer(ask(*replies))
        assert server.keys == {f"Bearer {KEY}"}
    texts = [*map(str, outcomes), *map(repr, outcomes), *map(repr, told(outcomes)), repr(engine), engine.fingerprint()]
    texts += [str(vars(outcome)) for outcome in outcomes] + [caplog.text, everything_below(store.root).decode()]
    secret = KEY.removeprefix("sk-")
    assert not [text for text in texts if KEY in text or secret in text or secret[:10] in text]
    assert told(outcomes)[0] == "Your key is [key]."
    monkeypatch.setenv("ANOTHER", "other")
    assert chat(server.url, api_key_env="ANOTHER").fingerprint() == engine.fingerprint()


@pytest.mark.parametrize("secret", [f"{KEY}\nX-Header: {KEY}", f"{KEY} {KEY}", f"clé-{KEY}"])
def test_a_key_that_cannot_be_sent_is_not_quoted(store: Store, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("CHAT_KEY", secret)
    with serving(echo) as server:
        with pytest.raises(EndpointUnavailable, match="CHAT_KEY holds no key") as raised:
            chat(server.url, api_key_env="CHAT_KEY").answer(ask("a"))
        assert KEY not in str(raised.value)
        assert (raised.value.__cause__, raised.value.__context__) == (None, None)
        assert not server.asked


def test_a_missing_key_or_model_is_missed_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAT_KEY", raising=False)
    assert "export CHAT_KEY=" in (chat("http://host/v1", api_key_env="CHAT_KEY").missing() or "")
    assert "no `model` is named" in (OpenAiChat().missing() or "")
    assert chat("http://host/v1").missing() is None


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "https://user:sk-1@host/v1"},
        {"base_url": "https://host/v1?key=sk-1"},
        {"base_url": "file:///etc/passwd"},
        {"extra_body": {"stream": True}},
        {"concurrency": 0},
    ],
)
def test_an_invalid_engine_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"base_url|extra_body|concurrency") as raised:
        OpenAiChat(**fields)
    assert "sk-1" not in str(raised.value)


def test_no_more_requests_are_under_way_than_the_cap(store: Store) -> None:
    with serving(lambda body, before: Reply(echo(body, 0).body, delay_s=0.02)) as server:
        chat(server.url, concurrency=3).answer(ask(*map(str, range(30))))
        assert 2 <= server.most <= 3


def test_an_endpoint_that_takes_three_at_a_time_answers_all(store: Store) -> None:
    refused: list[dict[str, Any]] = []

    def narrow(body: dict[str, Any], before: int) -> Reply:
        if server.now > 3:
            refused.append(body)
            return error(429, "too many at a time")
        return Reply(echo(body, 0).body, delay_s=0.01)

    with serving(narrow) as server:
        texts = list(map(str, range(60)))
        outcomes = chat(server.url, concurrency=24, max_retries=8).answer(ask(*texts))
    assert told(outcomes) == [f"You said {text}." for text in texts]
    assert 0 < len(refused) < 60


def test_a_crowd_is_halved_once_and_grows_by_one_a_round() -> None:
    gate = Gate(cap=16, start=8)
    gate.too_many(0, 0.0)
    gate.too_many(0, 0.0)  # of the same round
    assert gate.limit == 4
    for _ in range(4):
        gate.went_well()
    assert 4.8 < gate.limit <= 5
    for _ in range(1000):
        gate.went_well()
    assert gate.limit == 16
    for entered in range(1, 10):
        gate.too_many(entered, 0.0)
    assert gate.limit == 1


def test_nothing_is_asked_where_nothing_can_be_kept() -> None:
    bind(None)  # a run of another test may have lent its store
    with serving(echo) as server:
        with pytest.raises(EngineMissing, match="bind"):
            chat(server.url).answer(ask("a"))
        assert not server.asked


def test_a_damaged_recording_is_named_and_not_paid_for_again(store: Store) -> None:
    with serving(echo) as server:
        engine = chat(server.url)
        engine.answer(ask("a"))
        (name,) = store.names("recordings")
        for damage in (b"{", b"[]", b"{}", b'{"answer": {"no": 1}}'):
            store.local_path(name).write_bytes(damage)
            with pytest.raises(StoreError, match=Path(name).stem):
                engine.answer(ask("a"))
        assert server.asked["a"] == 1


def test_the_first_answer_counts_where_two_were_recorded_at_once(store: Store) -> None:
    recordings = recordings_of(chat("http://host/v1"))
    assert recordings.keep("ab", {"answer": 1}) == {"answer": 1}
    assert recordings.keep("ab", {"answer": 2}) == {"answer": 1}


def test_objects_are_lent_until_they_are_taken_back(tmp_path: Path) -> None:
    engine = chat("http://host/v1")
    outer, inner = Store(tmp_path / "outer"), Store(tmp_path / "inner")
    bind(outer)
    try:
        with bound_to(inner):
            recordings_of(engine).keep("k", {})
        assert (len(outer.names("")), len(inner.names(""))) == (0, 1)
        assert recordings_of(engine).find("k") is None
    finally:
        bind(None)
    with pytest.raises(EngineMissing):
        recordings_of(engine)


class InMemory:
    """Objects without a disk."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def create(self, name: str, data: bytes) -> bool:
        return self.held.setdefault(name, data) is data

    def exists(self, name: str) -> bool:
        return name in self.held

    def read(self, name: str) -> bytes:
        return self.held[name]


@given(st.text(st.characters(exclude_categories=())))
@settings(max_examples=100)
def test_any_text_is_recorded_as_it_is(text: str) -> None:
    recordings = Recordings(InMemory(), chat("http://host/v1"))
    recordings.keep("k", {"text": text})
    assert recordings.find("k") == {"text": text}


def test_an_error_of_one_row_is_of_a_known_class() -> None:
    assert not issubclass(EndpointError, EngineMissing)
    assert issubclass(EndpointUnavailable, EngineMissing)
