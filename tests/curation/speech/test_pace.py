"""Pace: bounds from percentiles of a language, and what lies outside them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from curation.runtime.chain import run_chain
from curation.speech.pace import Pace, PaceBounds, WithinPace
from curation.text.romanisation import _sudachi
from tests.support.small_corpus import READ_ALONG, audit, run, speak_corpus


def bounds_of(stage: PaceBounds, **languages: list[float]) -> dict[str, dict[str, Any]]:
    rows = [{"language": language, "pace_s": pace} for language, paces in languages.items() for pace in paces]
    return {row["language"]: row for row in stage(pa.Table.from_pylist(rows)).to_pylist()}


def judged(paces: list[float], low: float | None, high: float | None) -> list[dict[str, Any] | None]:
    columns = {"pace_s": paces, "pace_low_s": [low] * len(paces), "pace_high_s": [high] * len(paces)}
    table = WithinPace()(pa.table({name: pa.array(values, pa.float64()) for name, values in columns.items()}))
    return list(table["decision"].to_pylist()) if "decision" in table.column_names else [None] * len(paces)


def test_percentiles_are_of_each_language_alone() -> None:
    english, thai = (np.arange(1000) / 1000).tolist(), (np.arange(1000) / 100 + 5).tolist()
    found = bounds_of(PaceBounds(), en=english, th=thai)
    assert found["en"]["pace_low_s"] == pytest.approx(0.005 * 0.999)
    assert found["en"]["pace_high_s"] == pytest.approx(0.995 * 0.999)
    assert found["th"]["pace_low_s"] == pytest.approx(5 + 0.005 * 9.99)
    assert [found[name]["pace_count"] for name in ("en", "th")] == [1000, 1000]


def test_a_language_with_few_utterances_has_no_bounds() -> None:
    found = bounds_of(PaceBounds(min_count=3), en=[1.0, 2.0], de=[1.0, 2.0, 3.0])
    assert (found["en"]["pace_low_s"], found["en"]["pace_high_s"], found["en"]["pace_count"]) == (None, None, 2)
    assert found["de"]["pace_low_s"] is not None
    assert judged([1e-9, 1e9], None, None) == [None, None]


def test_no_utterances_give_an_empty_table() -> None:
    empty = pa.table({"language": pa.array([], pa.string()), "pace_s": pa.array([], pa.float64())})
    assert PaceBounds()(empty).num_rows == 0


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=40), st.randoms())
def test_bounds_do_not_depend_on_the_order_of_utterances(paces: list[float], chance: Any) -> None:
    before = bounds_of(PaceBounds(min_count=1), en=paces)
    chance.shuffle(paces)
    assert bounds_of(PaceBounds(min_count=1), en=paces) == before


def test_both_sides_are_rejected_with_value_and_limit() -> None:
    fast, low, middle, high, slow = judged([0.01, 0.02, 0.1, 0.3, 0.31], 0.02, 0.3)
    assert low is middle is high is None  # a bound itself is within
    assert fast == {"verdict": "rejected", "reason": "too_fast", "value": 0.01, "threshold": 0.02, "error": None}
    assert slow == {"verdict": "rejected", "reason": "too_slow", "value": 0.31, "threshold": 0.3, "error": None}


def test_each_language_keeps_its_own_limit() -> None:
    table = pa.table({"pace_s": [0.01, 0.01, 0.9], "pace_low_s": [0.02, 0.005, None], "pace_high_s": [0.3, 0.4, None]})
    first, second, third = WithinPace()(table)["decision"].to_pylist()
    assert (first["reason"], first["threshold"]) == ("too_fast", 0.02)
    assert second is third is None


def test_pace_is_speech_over_romanised_letters() -> None:
    texts = ["Hello, you!", "Привет", "...", "你好"]
    languages = ["en", "ru", "en", "zh"]
    table = Pace()(pa.table({"text": texts, "language": languages, "speech_s": [0.8, 0.6, 1.0, 0.5]}))
    rows = table.to_pylist()
    assert (rows[0]["letters"], rows[0]["pace_s"]) == (8, pytest.approx(0.1))
    assert (rows[1]["letters"], rows[1]["pace_s"]) == (len("privet"), pytest.approx(0.1))
    assert rows[2]["decision"]["reason"] == "no_letters" and rows[2]["pace_s"] is None
    assert rows[3]["letters"] == len("nihao")


def test_japanese_without_its_reader_fails_alone_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sudachipy", None)  # as if it were not installed
    _sudachi.cache_clear()
    texts = {"en": "Hello, you!", "ja": "今日は良い天気", "ko": "안녕"}
    columns: dict[str, Any] = {"row_id": list(texts), "language": list(texts), "text": list(texts.values())}
    columns |= {"root": ["r"] * 3, "ordinal": [0, 1, 2], "kind": ["utterance"] * 3, "uri": ["a.wav"] * 3}
    outcome = run_chain("transcripts", (Pace(),), pa.table(columns | {"speech_s": [1.0] * 3}))
    ledger = {row["row_id"]: row for row in outcome.ledger.to_pylist()}
    assert (ledger["en"]["verdict"], ledger["ko"]["verdict"]) == ("kept", "kept")
    assert (ledger["ja"]["verdict"], ledger["ja"]["reason"]) == ("failed", "LanguageUnsupported")
    assert "pip install 'omni-curation[japanese]'" in ledger["ja"]["error"]


def test_bounds_are_pinned_to_a_version_by_the_recipe(tmp_path: Path) -> None:
    store, source = tmp_path / "store", speak_corpus(tmp_path / "in", count=3)
    wide = ("--set", "pace.min_count=1", "--set", "pace.lower_percentile=0", "--set", "pace.upper_percentile=100")
    assert run(source, store, *READ_ALONG, *wide).code == 0
    (made,) = audit(store, "select * from pace_bounds")
    assert made["pace_count"] == 3 and made["pace_low_s"] < made["pace_high_s"]
    speak_corpus(source)  # one more
    (source / "good-3.txt").write_text("Winter.")  # too little text for the time
    again = run(source, store, *READ_ALONG, "--set", "pace.bounds=1")
    assert again.code == 0, again.err
    assert audit(store, "select * from pace_bounds") == [made]
    rejected = audit(store, "select reason, value, threshold, uri from ledger where stage = 'WithinPace'")
    assert [(row["reason"], row["threshold"]) for row in rejected] == [("too_slow", made["pace_high_s"])]
    assert rejected[0]["value"] > rejected[0]["threshold"] and rejected[0]["uri"].endswith("good-3.wav")
    assert run(source, store, *READ_ALONG, "--set", "pace.bounds=9").code != 0
