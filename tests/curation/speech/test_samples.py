"""Samples: which utterances are read on across a pause, and what the merged row says."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from curation.runtime.chain import run_chain
from curation.speech.samples import MakeSamples
from schemas.spans import SPAN, span
from schemas.speech import PAUSE, WORD

RATE = 16_000
FIELDS = pa.schema(
    [
        *((name, pa.string()) for name in ("row_id", "root", "kind", "uri", "text", "language", "name")),
        *((name, pa.string()) for name in ("licence", "consent")),
        *[("ordinal", pa.int64()), ("number", pa.int32()), ("span", SPAN), ("speech_s", pa.float64())],
        *[("speech_start", pa.int64()), ("speech_end", pa.int64())],
        *[("words", pa.list_(WORD)), ("pauses", pa.list_(PAUSE))],
    ]
)


def utterance(number: int, start: int, end: int, text: str = "some words.", **other: Any) -> dict[str, Any]:
    """An utterance, in ticks, whose words lie evenly in it."""
    words = text.split()
    borders = [start + (end - start) * i // max(len(words), 1) for i in range(len(words) + 1)]
    root = other.get("root", "r")
    row = {
        "row_id": f"{root}-{number}", "root": root, "ordinal": start, "kind": "utterance", "uri": f"/{root}.wav",
        "text": text, "language": "en", "name": f"{root}.wav", "licence": "PD", "consent": "given", "number": number,
        "span": span(f"hash {root}", start, end, RATE), "speech_s": (end - start) / RATE,
        "speech_start": start, "speech_end": end,
        "words": [
            {"text": w, "start": a, "end": b, "score": -1.0, "untimed": None}
            for w, a, b in zip(words, borders, borders[1:], strict=False)
        ],
        "pauses": [{"after": i, "start": b - 10, "end": b + 10} for i, b in enumerate(borders[1:-1])],
    }  # fmt: skip
    return row | other


def made(*rows: dict[str, Any], task: str = "interleaved", **fields: Any) -> list[dict[str, Any]]:
    outcome = run_chain("samples", (MakeSamples(**fields),), pa.Table.from_pylist(list(rows), FIELDS), together="root")
    assert set(outcome.rows["verdict"].to_pylist()) <= {"kept"}
    return sorted((row for row in outcome.rows.to_pylist() if row["task"] == task), key=lambda row: row["ordinal"])


def spans(samples: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(sample["span"]["start"], sample["span"]["end"]) for sample in samples]


@pytest.mark.parametrize(("silence", "count"), [(10 * RATE - 1, 1), (10 * RATE, 2), (10 * RATE + 1, 2)])
def test_a_silence_of_ten_seconds_ends_a_sample(silence: int, count: int) -> None:
    rows = [utterance(0, 0, RATE), utterance(1, RATE + silence, 2 * RATE + silence)]
    assert len(made(*rows)) == count


def test_an_utterance_that_is_missing_ends_a_sample() -> None:
    rows = [utterance(number, number * 2 * RATE, number * 2 * RATE + RATE) for number in (0, 1, 3, 4)]
    assert spans(made(*rows)) == [(0, 3 * RATE), (6 * RATE, 9 * RATE)]


@pytest.mark.parametrize(("last_end", "count"), [(20 * RATE, 1), (20 * RATE + 1, 2)])
def test_a_sample_is_at_most_so_long(last_end: int, count: int) -> None:
    rows = [utterance(0, 0, 9 * RATE), utterance(1, 10 * RATE, last_end)]
    assert len(made(*rows, max_sample_s=20.0)) == count


def test_an_utterance_longer_than_a_sample_may_be_stands_alone() -> None:
    rows = [utterance(0, 0, 30 * RATE), utterance(1, 31 * RATE, 32 * RATE)]
    assert spans(made(*rows, max_sample_s=20.0)) == [(0, 30 * RATE), (31 * RATE, 32 * RATE)]


def test_another_language_begins_another_sample() -> None:
    rows = [utterance(i, i * 2 * RATE, (i * 2 + 1) * RATE, language=name) for i, name in enumerate(["en", "en", "de"])]
    assert [sample["language"] for sample in made(*rows)] == ["en", "de"]


def test_two_recordings_are_never_one_sample() -> None:
    rows = [utterance(0, 0, RATE, root="a"), utterance(1, 2 * RATE, 3 * RATE, root="b")]
    assert sorted(sample["root"] for sample in made(*rows)) == ["a", "b"]


def test_each_utterance_is_a_recognition_sample_as_it_stands() -> None:
    rows = [utterance(i, i * 2 * RATE, (i * 2 + 1) * RATE, f"number {i}.") for i in range(3)]
    samples = made(*rows, task="asr")
    assert [sample["text"] for sample in samples] == ["number 0.", "number 1.", "number 2."]
    assert spans(samples) == [(0, RATE), (2 * RATE, 3 * RATE), (4 * RATE, 5 * RATE)]
    assert made(*rows, task="asr", tasks=("interleaved",)) == []


def test_a_merged_sample_says_all_that_its_utterances_say() -> None:
    rows = [utterance(0, 0, RATE, "One two, three."), utterance(1, 2 * RATE, 3 * RATE, "Four five.")]
    (sample,) = made(*rows)
    assert sample["text"] == "One two, three. Four five."
    assert [word["text"] for word in sample["words"]] == ["One", "two,", "three.", "Four", "five."]
    assert [pause["after"] for pause in sample["pauses"]] == [0, 1, 2, 3]
    assert sample["pauses"][2] == {"after": 2, "start": RATE, "end": 2 * RATE}
    for pause in sample["pauses"]:
        before, after = sample["words"][pause["after"]], sample["words"][pause["after"] + 1]
        assert before["end"] - 10 <= pause["start"] < pause["end"] <= after["start"] + 10
    assert (sample["duration_s"], sample["speech_s"], sample["licence"]) == (3.0, 2.0, "PD")


def test_chinese_is_joined_without_spaces() -> None:
    rows = [
        utterance(i, i * 2 * RATE, (i * 2 + 1) * RATE, text, language="zh")
        for i, text in enumerate(["你好。", "再见。"])
    ]
    assert made(*rows)[0]["text"] == "你好。再见。"


def test_an_utterance_without_words_has_no_pause_after_it() -> None:
    rows = [utterance(0, 0, RATE, ""), utterance(1, 2 * RATE, 3 * RATE, "Four five.")]
    assert [pause["after"] for pause in made(*rows)[0]["pauses"]] == [0]


def test_ids_stay_when_a_neighbour_recording_goes() -> None:
    rows = [utterance(i, i * 2 * RATE, (i * 2 + 1) * RATE, root=root) for root in "abc" for i in range(3)]
    everything = {sample["row_id"] for task in ("interleaved", "asr") for sample in made(*rows, task=task)}
    for task in ("interleaved", "asr"):
        assert {sample["row_id"] for sample in made(*rows[3:6], task=task)} <= everything


STEPS = st.lists(st.tuples(st.integers(0, 12 * RATE), st.integers(1, 8 * RATE), st.booleans()), min_size=1, max_size=12)


@settings(deadline=None)
@given(STEPS, st.randoms())
def test_every_utterance_is_in_one_sample_whatever_their_order(steps: list[tuple[int, int, bool]], chance: Any) -> None:
    rows, now = [], 0
    for number, (silence, length, kept) in enumerate(steps):
        now += silence
        rows += [utterance(number, now, now + length)] if kept or number == 0 else []
        now += length
    before = made(*rows, max_sample_s=20.0)
    inside = [row["row_id"] for sample in before for row in rows if within(row, sample)]
    assert inside == [row["row_id"] for row in rows]
    chance.shuffle(rows)
    assert made(*rows, max_sample_s=20.0) == before


def within(row: dict[str, Any], sample: dict[str, Any]) -> bool:
    return bool(sample["span"]["start"] <= row["span"]["start"] and row["span"]["end"] <= sample["span"]["end"])
