"""Re-captioning in whole runs: what an endpoint does wrong costs its pair, and no answer is paid for twice."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.chat_server import Behaviour, ChatServer, Reply, completion, error, serving, text_of
from tests.support.small_corpus import Answer, audit, curate
from tests.support.small_pairs import QUIET, pairs, write_tars

KEY = "sk-a-key-that-nobody-may-see"
MODEL = "model: painted, max_retries: 1, first_wait_s: 0.01, max_wait_s: 0.05"
PRICES = "input_price_per_million: 2.0, output_price_per_million: 4.0"


def recaption(url: str, more: str = "timeout_s: 5") -> str:
    return f"recaption={{engine: {{engine: chat, base_url: '{url}', {MODEL}, {PRICES}, {more}}}}}"


def arguments(source: Path, store: Path, *sets: str) -> list[str]:
    settings = [word for one in (f"source.path={source}", *QUIET, *sets) for word in ("--set", one)]
    return ["run", "captions-embedded", *settings, "--store", str(store), "--runner", "inline"]


def run(source: Path, store: Path, *sets: str, more: tuple[str, ...] = ()) -> Answer:
    return curate(*arguments(source, store, *sets), *more)


def mile(body: dict[str, Any]) -> int:
    """The number of the pair that a request is about."""
    return int(text_of(body).split("at mile ")[1].split(".")[0])


def described(body: dict[str, Any]) -> str:
    return f"A patchwork of many colours hangs on a wall beside a road, and a stone says {mile(body)} on its side."


def describe(body: dict[str, Any], before: int) -> Reply:
    return completion(described(body))


def asked(server: ChatServer) -> Counter[int]:
    """How often each pair was asked about."""
    return Counter(mile(body) for body in server.bodies)


def in_trouble(body: dict[str, Any], before: int) -> Reply:
    text = described(body)
    behaviours: dict[int, Callable[[], Reply]] = {
        1: lambda: Reply(b"{}", delay_s=1.5),
        2: lambda: error(500, "out of order"),
        3: lambda: completion(text) if before else error(500, "out of order"),
        4: lambda: completion(text) if before else error(429, "too many", Retry_After="0"),
        5: lambda: Reply(b"<html>rubbish"),
        6: lambda: completion(None, refusal="I will not look at that."),
        7: lambda: error(400, "not for us", "content_filter"),
        8: lambda: completion(""),
        9: lambda: completion("A patchwork of many colours hangs on a", "length"),
        10: lambda: completion("I'm sorry, but I can't help with this image at all, whatever it may show."),
        11: lambda: Reply(b'{"choices": []}'),
        12: lambda: Reply(json.dumps({"choices": [{"message": {"content": text}}], "usage": "none"}).encode()),
    }
    return behaviours.get(mile(body), lambda: completion(text))()


TROUBLES = {
    # number of the pair: verdict, stage, and its reason or what the error says
    1: ("failed", "Recaption", "had not answered after 0.5 s"),
    2: ("failed", "Recaption", "answered 500: out of order"),
    5: ("failed", "Recaption", "no JSON object"),
    6: ("rejected", "CheckRecaption", "recaption_refused"),
    7: ("rejected", "CheckRecaption", "recaption_refused"),
    8: ("rejected", "CheckRecaption", "recaption_empty"),
    9: ("rejected", "CheckRecaption", "recaption_truncated"),
    10: ("rejected", "CheckRecaption", "recaption_refused"),
    11: ("failed", "Recaption", "without a message"),
}


def decided(store: Path) -> dict[int, tuple[str, str, str]]:
    rows = audit(store, "select uri, verdict, stage, coalesce(error, reason) why from ledger where verdict <> 'kept'")
    return {int(Path(row["uri"]).stem): (row["verdict"], row["stage"], row["why"]) for row in rows}


def test_what_an_endpoint_does_wrong_costs_its_pair_and_trying_again_pays_for_nothing_else(tmp_path: Path) -> None:
    source, store = write_tars(tmp_path / "in", pairs(14)), tmp_path / "store"
    with serving(in_trouble) as server:
        sets = (recaption(server.url, "timeout_s: 0.5"), "max_failed_share=0.5")
        done = run(source, store, *sets)
        assert done.code == 0, done.err
        found = decided(store)
        assert sorted(found) == sorted(TROUBLES)
        for n, (verdict, stage, says) in TROUBLES.items():
            assert found[n][:2] == (verdict, stage) and says in found[n][2], n
        assert audit(store, "select count(*) n from packed") == [{"n": 5}]
        assert asked(server) == {n: 1 + (n in (1, 2, 3, 4)) for n in range(14)}

        # What it cost, of refused answers too; where the endpoint did not say, nobody knows.
        sums = "select sum(recaption_input_tokens)::int i, sum(recaption_output_tokens)::int o, sum(recaption_cost) c"
        [paid] = audit(store, f"{sums} from matched")
        answered = audit(store, "select recaption from matched where recaption_output_tokens > 0")
        letters = sum(len(row["recaption"]) for row in answered if "will not look" not in row["recaption"])
        assert paid["i"] == 10 * 8 and paid["o"] == letters
        assert paid["c"] == pytest.approx((paid["i"] * 2 + paid["o"] * 4) / 1e6)

        before = len(server.bodies)
        again = run(source, store, *sets)
        assert again.code == 0 and len(server.bodies) == before, "failures are not tried again unasked"
        strict = run(source, store, sets[0], "max_failed_share=0.2")
        assert strict.code == 5 and "4 of 14 pair rows failed at matched" in strict.err

        server.behaviour = describe
        mended = run(source, store, *sets, more=("--retry-failed",))
        assert mended.code == 0, mended.err
        assert sorted(mile(body) for body in server.bodies[before:]) == [1, 2, 5, 11]
        assert {n: why for n, (*_, why) in decided(store).items()} == {
            n: why for n, (verdict, _, why) in TROUBLES.items() if verdict == "rejected"
        }


def test_another_limit_of_the_check_and_a_wider_source_pay_for_what_is_new(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    write_tars(source / "a", pairs(6))
    with serving(describe) as server:
        assert run(source, store, recaption(server.url)).code == 0
        assert asked(server) == dict.fromkeys(range(6), 1)
        stricter = run(source, store, recaption(server.url), "recaption_check={min_words: 100}")
        assert stricter.code == 5, "none has a hundred words"
        assert {why for *_, why in decided(store).values()} == {"recaption_too_short"}
        write_tars(source / "b", pairs(3, first=50))
        assert run(source, store, recaption(server.url)).code == 0
        dearer = recaption(server.url, "timeout_s: 9, concurrency: 2").replace("2.0", "3.0")
        assert run(source, store, dearer).code == 0
    assert asked(server) == dict.fromkeys([*range(6), 50, 51, 52], 1)


def slowly(behaviour: Behaviour, seconds: float) -> Behaviour:
    return lambda body, before: Reply(behaviour(body, before).body, delay_s=seconds)


@pytest.mark.slow
def test_a_run_killed_again_and_again_pays_twice_only_for_what_was_under_way(tmp_path: Path) -> None:
    source, store = write_tars(tmp_path / "in", pairs(40)), tmp_path / "store"
    with serving(slowly(describe, 0.05)) as server:
        sets = (recaption(server.url, "timeout_s: 5, concurrency: 2"), "work.match_pairs=10")
        # Three times: a unit that killed two runs is done in a process of its own.
        for wanted in (5, 15, 25):
            command = [sys.executable, "-m", "dags.cli", *arguments(source, store, *sets)]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
            deadline = time.monotonic() + 60
            while len(server.bodies) < wanted and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            assert wanted <= len(server.bodies) < 40
        done = run(source, store, *sets)
        assert done.code == 0, done.err
        assert audit(store, "select count(*) n from packed") == [{"n": 40}]
        assert set(asked(server)) == set(range(40))
        assert sum(asked(server).values()) <= 40 + 3 * 2


def test_an_endpoint_where_nobody_is_ends_the_run_and_what_was_paid_for_stays(tmp_path: Path) -> None:
    source, store = write_tars(tmp_path / "in", pairs(8)), tmp_path / "store"
    with socket.create_server(("127.0.0.1", 0)) as free:
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    gone = run(source, store, recaption(nowhere))
    assert gone.code == 3 and "cannot be reached" in gone.err and "Traceback" not in gone.err

    def until_the_money_is_gone(body: dict[str, Any], before: int) -> Reply:
        enough = len(server.bodies) > 3
        return error(402, "pay first") if enough else completion(described(body))

    with serving(until_the_money_is_gone) as server:
        sets = (recaption(server.url, "timeout_s: 5, concurrency: 1"),)
        poor = run(source, store, *sets)
        assert poor.code == 3 and "402: pay first" in poor.err
        paid = {mile(body) for body in server.bodies[:3]}
        server.behaviour = describe
        before = len(server.bodies)
        rich = run(source, store, *sets)
        assert rich.code == 0, rich.err
        assert sorted(mile(body) for body in server.bodies[before:]) == sorted(set(range(8)) - paid)


def everything_in(store: Path) -> str:
    """All that a store holds, its tables unpacked."""
    files = [path for path in store.rglob("*") if path.is_file()]
    tables = [str(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"]
    names = [str(path) for path in files]
    return "\n".join([*names, *tables, *(path.read_bytes().decode("latin-1") for path in files)])


def test_a_key_that_an_endpoint_repeats_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTION_KEY", KEY)

    def indiscreet(body: dict[str, Any], before: int) -> Reply:
        if mile(body) % 2:
            return error(400, f"the key {KEY} may not do this", KEY)
        return completion(f"{described(body)} The key is {KEY}, as everybody sees.", refusal=None)

    source, store = write_tars(tmp_path / "in", pairs(6)), tmp_path / "store"
    with serving(indiscreet) as server:
        sets = (recaption(server.url, "timeout_s: 5, api_key_env: CAPTION_KEY"), "max_failed_share=0.6")
        done = run(source, store, *sets)
        assert done.code == 0, done.err
        assert server.keys == {f"Bearer {KEY}"}
        server.behaviour = lambda body, before: error(401, f"the key {KEY} is unknown")
        write_tars(tmp_path / "in" / "more", pairs(2, first=20))
        refused = run(source, store, *sets)
        assert refused.code == 3 and "401" in refused.err
    for told in (done.out, done.err, refused.out, refused.err, everything_in(store)):
        assert KEY not in told
    assert "[key]" in done.err + refused.err and "CAPTION_KEY" in everything_in(store)
