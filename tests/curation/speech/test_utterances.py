"""Utterances: stretches of speech, the text that belongs to them, and what becomes of text that nobody speaks."""

import os
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings, strategies as st

from curation.runtime.chain import Outcome, run_chain
from curation.speech.subtitles import Segment, place_cues
from curation.speech.voice_activity import Subtitles, Utterances, padded
from schemas.speech import CUE

RATE = 16_000
FRAME = 512


def cue(start_s: float | None, end_s: float | None, text: str) -> dict[str, Any]:
    return {"start_s": start_s, "end_s": end_s, "text": text}


def ticks(*regions: tuple[float, float]) -> list[tuple[int, int]]:
    return [(round(start * RATE), round(end * RATE)) for start, end in regions]


def placed(
    regions: list[tuple[int, int]],
    cues: Sequence[dict[str, Any]] | None,
    longest_s: float = 30.0,
    pause_s: float = 2.0,
    overlap: float = 0.2,
    total_s: float = 100.0,
) -> tuple[list[tuple[float, float, str | None]], list[tuple[str | None, float]]]:
    spoken, orphans = place_cues(regions, cues, longest_s, pause_s, overlap, round(total_s * RATE))
    return [(s.start / RATE, s.end / RATE, s.text) for s in spoken], [(s.text, round(s.overlap, 3)) for s in orphans]


def recording(probability: list[float], cues: list[dict[str, Any]] | None = None, row_id: str = "r") -> pa.Table:
    """A recording as it comes to `Utterances`, with a probability of speech per frame."""
    values: dict[str, Any] = {
        "row_id": [row_id], "root": [row_id], "ordinal": [0], "kind": ["recording"], "uri": [f"/x/{row_id}.wav"],
        "media_hash": [f"hash of {row_id}"], "channel": pa.array([None], pa.int16()),
        "speech_probability": pa.array([probability], pa.list_(pa.float32())), "samples": [len(probability) * FRAME],
        "cues": pa.array([cues], pa.list_(CUE)), "name": [f"{row_id}.wav"], "language": ["en"],
        "licence": ["CC0-1.0"], "consent": ["signed"],
    }  # fmt: skip
    return pa.table(values)


def cut(*recordings: pa.Table, stage: Utterances | None = None) -> Outcome:
    return run_chain("utterances", (stage or Utterances(),), pa.concat_tables(recordings))


def spoken_frames(*stretches: tuple[int, int], frames: int = 400) -> list[float]:
    probability = np.full(frames, 0.01)
    for start, end in stretches:
        probability[start:end] = 0.99
    return probability.tolist()


def test_a_cue_over_two_stretches_joins_them() -> None:
    regions = ticks((1, 2), (2.5, 4), (6, 7))
    cues = [cue(0.9, 4.1, "all of this"), cue(5.9, 7.1, "and that")]
    assert placed(regions, cues) == ([(1, 4, "all of this"), (6, 7, "and that")], [])
    (joined, _), _ = place_cues(regions, cues, 30.0, 2.0, 0.2, 100 * RATE)
    assert joined.speech == round(2.5 * RATE)


def test_a_cue_that_would_join_too_much_is_shared_by_speech() -> None:
    regions = ticks((0, 2), (3, 4), (5, 6))
    spoken, _ = placed(regions, [cue(0, 6, "a b c d e f g h")], longest_s=4.5)
    assert spoken == [(0, 4, "a b c d e f"), (5, 6, "g h")]


def test_a_cue_beside_speech_touches_neither_neighbour() -> None:
    regions = ticks((1, 5), (6, 9))
    assert placed(regions, [cue(1, 5.4, "one"), cue(5.6, 9, "two")]) == ([(1, 5, "one"), (6, 9, "two")], [])


def test_a_stretch_without_a_cue_has_an_empty_text_and_without_subtitles_none() -> None:
    regions = ticks((1, 2), (8, 9))
    assert placed(regions, [cue(1, 2, "one")])[0] == [(1, 2, "one"), (8, 9, "")]
    assert placed(regions, [])[0] == [(1, 2, ""), (8, 9, "")]
    assert placed(regions, None)[0] == [(1, 2, None), (8, 9, None)]


def test_a_cue_without_speech_is_nobody_s() -> None:
    regions = ticks((1, 2))
    cues = [cue(1, 2, "one"), cue(4, 5, "thanks for watching"), cue(1.9, 3.9, "a little")]
    assert placed(regions, cues) == ([(1, 2, "one")], [("thanks for watching", 0.0), ("a little", 0.05)])


def test_a_text_without_times_covers_everything_that_is_spoken() -> None:
    assert placed(ticks((1, 2), (4, 6)), [cue(None, None, "all of it")]) == ([(1, 6, "all of it")], [])
    spoken, _ = placed(ticks((1, 2), (3, 5)), [cue(None, None, "a b c")], longest_s=3.0)
    assert [text for _, _, text in spoken] == ["a", "b c"]
    assert placed([], [cue(None, None, "all of it")]) == ([], [("all of it", 0.0)])


@pytest.mark.parametrize("times", [(None, None), (0.0, 22.0)])
def test_a_text_never_bridges_a_long_silence(times: tuple[float | None, float | None]) -> None:
    regions = ticks((0, 1), (2, 3), (20, 22))
    text = cue(*times, "a b c d")
    assert placed(regions, [text], overlap=0.1)[0] == [(0, 3, "a b"), (20, 22, "c d")]
    assert placed(regions, [text], overlap=0.1, pause_s=17.0)[0] == [(0, 22, "a b c d")]
    assert placed(regions, [text], overlap=0.1, pause_s=0.0)[0] == [(0, 1, "a"), (2, 3, "b"), (20, 22, "c d")]


def test_a_stretch_that_was_cut_for_its_length_has_no_silence_to_bridge() -> None:
    assert placed(ticks((0, 1), (1, 2)), [cue(None, None, "a b")], pause_s=0.0)[0] == [(0, 2, "a b")]


GOLDEN_REGIONS = ticks((0.5, 2), (2.4, 3.1), (4, 9.5), (9.5, 14), (16.5, 18), (20.01, 21), (24, 25), (27, 28), (40, 41))
GOLDEN_CUES = [
    cue(0.3, 3.4, "joined over a pause"),
    cue(3.4, 9.3, "early"),
    cue(9.2, 14.4, "late, after a cut"),
    cue(16.3, 21.2, "apart by more than two seconds"),
    cue(23.9, 28.2, "apart by two seconds"),
    cue(30, 35, "thanks for watching"),
    cue(39, 60, "beyond the end"),
]


def test_placement_is_that_of_this_version() -> None:
    """Another result here is another `Utterances.version`: raise it, so that no store mixes the two."""
    assert Utterances.version == 4

    def golden(cues: list[dict[str, Any]]) -> list[tuple[int, int, int, str | None]]:
        spoken, orphans = place_cues(GOLDEN_REGIONS, cues, 10.0, 2.0, 0.04, 45 * RATE)
        return [(s.start, s.end, s.speech, s.text) for s in [*spoken, *orphans]]

    assert golden(GOLDEN_CUES) == [
        (8000, 49600, 35200, "joined over a pause"),
        (64000, 152000, 88000, "early"),
        (152000, 224000, 72000, "late, after a cut"),
        (264000, 288000, 24000, "apart by more than"),
        (320160, 336000, 15840, "two seconds"),
        (384000, 448000, 32000, "apart by two seconds"),
        (640000, 656000, 16000, "beyond the end"),
        (480000, 560000, 0, "thanks for watching"),
    ]
    assert golden([cue(None, None, "one two three four five six seven eight nine ten")]) == [
        (8000, 152000, 123200, "one two three four"),
        (152000, 224000, 72000, "five six seven"),
        (264000, 288000, 24000, "eight"),
        (320160, 336000, 15840, ""),
        (384000, 448000, 32000, "nine"),
        (640000, 656000, 16000, "ten"),
    ]


def test_cues_that_overlap_are_both_read_in_their_order() -> None:
    cues = [cue(1, 4, "- who is there?"), cue(2, 5, "- nobody.")]
    assert placed(ticks((1, 5)), cues) == ([(1, 5, "- who is there? - nobody.")], [])


def test_cues_beyond_the_recording_are_nobody_s() -> None:
    regions = ticks((1, 2), (8, 10))
    cues = [cue(9, 12, "cut off by the end"), cue(20, 21, "after it"), cue(3.0e6, 3.5e6, "long after it")]
    spoken, orphans = placed(regions, cues, total_s=10)
    assert spoken[1] == (8, 10, "cut off by the end")
    assert orphans == [("after it", 0.0), ("long after it", 0.0)]


def test_a_cue_that_ends_before_it_starts_is_a_moment() -> None:
    assert placed(ticks((1, 2)), [cue(5, 4, "backwards")]) == ([(1, 2, "")], [("backwards", 0.0)])


def test_ten_thousand_cues_and_stretches_take_no_time() -> None:
    regions = [(i * RATE, i * RATE + RATE // 2) for i in range(10_000)]
    each = [cue(i, i + 0.5, f"line {i}") for i in range(10_000)]
    total = [cue(0, 10_000, f"all {i}") for i in range(1_000)]
    whole = [cue(None, None, "word " * 100_000)]
    started = time.process_time()
    for cues in (each, total, whole):
        spoken, orphans = place_cues(regions, cues, 30.0, 2.0, 0.2, 10_000 * RATE)
        assert len(" ".join(segment.text or "" for segment in spoken).split()) == sum(
            len(c["text"].split()) for c in cues
        )
        assert not orphans
    assert time.process_time() - started < 2.0


REGIONS = st.lists(st.tuples(st.integers(1, 40_000), st.integers(1, 60_000)), max_size=8).map(
    lambda steps: list(
        pairwise(np.cumsum([n for step in steps for n in step]).tolist())
    )[::2]
)  # fmt: skip
TIMES = st.floats(-0.5, 20, allow_nan=False)
CUES = st.lists(
    st.one_of(
        st.tuples(TIMES.map(abs), TIMES).map(lambda t: (t[0], max(t[0] + t[1], 0.0))), st.just((None, None))
    ),
    max_size=6,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(REGIONS, CUES, st.sampled_from([1.0, 3.0, 30.0]), st.sampled_from([0.0, 1.0, 9.0]), st.sampled_from([0.1, 0.5]))
def test_no_word_and_no_stretch_is_lost(
    regions: list[tuple[int, int]], times: list[tuple[float, float]], longest_s: float, pause_s: float, overlap: float
) -> None:
    total = regions[-1][1] + 100 if regions else RATE
    words = [[f"w{number}.{i}" for i in range(1 + number)] for number in range(len(times))]
    cues = [cue(*time_, " ".join(mine)) for time_, mine in zip(times, words, strict=True)]
    spoken, orphans = place_cues(regions, cues, longest_s, pause_s, overlap, total)
    said = " ".join(segment.text or "" for segment in [*spoken, *orphans]).split()
    assert sorted(said) == sorted(word for mine in words for word in mine)
    for number in range(len(times)):
        mine = [word for word in said if word.startswith(f"w{number}.")]
        assert mine == sorted(mine, key=lambda word: int(word.split(".")[1]))
    assert sum(segment.speech for segment in spoken) == sum(end - start for start, end in regions)
    assert {start for start, _ in regions} >= {segment.start for segment in spoken}
    assert all(a.end <= b.start for a, b in pairwise(spoken))
    longest = round(longest_s * RATE)
    gaps = [(a[1], b[0]) for a, b in pairwise(regions) if b[0] - a[1] > round(pause_s * RATE)]
    assert not any(s.start < start and end < s.end for s in spoken for start, end in gaps)
    assert all(s.end - s.start <= longest or (s.start, s.end) in regions for s in spoken)


@given(REGIONS, st.integers(0, 40_000))
@example([(0, 30 * RATE - 100), (31 * RATE, 61 * RATE)], 1600)
def test_padding_never_overlaps_and_never_leaves_the_recording(regions: list[tuple[int, int]], pad: int) -> None:
    total = regions[-1][1] + 7 if regions else 10
    segments = [Segment(start, end, end - start) for start, end in regions]
    longest = 30 * RATE
    wide = padded(segments, pad, total, longest)
    assert all(0 <= b.start <= a.start and a.end <= b.end <= total for a, b in zip(segments, wide, strict=True))
    assert all(a.end <= b.start for a, b in pairwise(wide))
    assert all(a.start - b.start <= pad and b.end - a.end <= pad for a, b in zip(segments, wide, strict=True))
    assert all(b.end - b.start <= max(longest, a.end - a.start) for a, b in zip(segments, wide, strict=True))


def with_sidecar(path: Path | None) -> pa.Table:
    row = {"row_id": "r", "root": "r", "ordinal": 0, "kind": "recording", "uri": "/x/r.wav", "sidecar_hash": "h"}
    return pa.Table.from_pylist([row | {"sidecar": None if path is None else str(path)}])


def test_a_sidecar_that_is_not_required_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.srt")  # to open it would wait for ever
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for path in (tmp_path / "pipe.srt", tmp_path / "latin.txt", tmp_path / "gone.srt", None):
        (row,) = Subtitles(wanted=False)(with_sidecar(path)).to_pylist()
        assert row["cues"] is None and "decision" not in row


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [("latin.txt", b"caf\xe9", "byte 3 is not UTF-8"), ("odd.json", b"[", "is not JSON"), ("bad.srt", b"x", "no line")],
)
def test_a_sidecar_that_is_wanted_and_cannot_be_read_fails_its_recording(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    (row,) = Subtitles()(with_sidecar(tmp_path / name)).to_pylist()
    assert row["decision"]["verdict"] == "failed"
    assert name in row["decision"]["error"] and says in row["decision"]["error"]


def test_utterances_are_numbered_rows_of_their_recording() -> None:
    outcome = cut(recording(spoken_frames((20, 60), (100, 200))))
    rows = sorted(outcome.rows.to_pylist(), key=lambda row: row["ordinal"])
    assert [row["number"] for row in rows] == [0, 1]
    pad, trim = round(0.1 * RATE), round(0.064 * RATE)
    first, second = (row["span"] for row in rows)
    assert (first["start"], first["end"]) == (20 * FRAME - pad, 60 * FRAME - trim + pad)
    assert (second["start"], second["end"]) == (100 * FRAME - pad, 200 * FRAME - trim + pad)
    assert rows[0]["speech_s"] == (40 * FRAME - trim) / RATE  # without its padding
    assert {(row["licence"], row["consent"], row["language"]) for row in rows} == {("CC0-1.0", "signed", "en")}
    assert {row["span"]["source"] for row in rows} == {"hash of r"}


def test_a_silent_recording_is_rejected_as_no_speech() -> None:
    outcome = cut(recording(spoken_frames()), recording(spoken_frames((20, 60)), row_id="s"))
    reasons = {(row["kind"], row["row_id"] == "r", row["verdict"], row["reason"]) for row in outcome.ledger.to_pylist()}
    kept = {("recording", False, "kept", None), ("utterance", False, "kept", None)}
    assert reasons == kept | {("recording", True, "rejected", "no_speech")}


def test_text_without_speech_is_a_row_with_its_overlap() -> None:
    outcome = cut(recording(spoken_frames((20, 60)), [cue(0.7, 1.9, "spoken"), cue(6, 7, "thanks for watching")]))
    texts = {row["subtitle"]: row for row in outcome.rows.to_pylist()}
    assert texts["spoken"]["verdict"] == "kept" and texts["spoken"]["number"] == 0
    assert texts["thanks for watching"]["number"] is None
    (entry,) = [e for e in outcome.ledger.to_pylist() if e["verdict"] == "rejected"]
    assert (entry["reason"], entry["value"], entry["threshold"]) == ("text_without_speech", 0.0, 0.2)


def test_a_cue_that_stands_twice_over_silence_is_one_row() -> None:
    twice = [cue(6, 7, "thanks for watching")] * 2 + [cue(900, 901, "too late")] * 2
    outcome = cut(recording(spoken_frames((20, 60)), twice))
    assert outcome.counts["utterance"] == {"kept": 1, "rejected": 2}


def test_an_utterance_does_not_depend_on_the_other_recordings() -> None:
    rows = [recording(spoken_frames((20, 60), (90, 200)), row_id=name) for name in "abc"]
    alone, among = cut(rows[1]).rows.to_pylist(), cut(*rows).rows.to_pylist()
    assert [row["row_id"] for row in alone] == [row["row_id"] for row in among if row["root"] == "b"]


def test_an_edited_cue_changes_the_id_of_its_own_utterance_alone() -> None:
    def ids(text: str) -> list[str]:
        cues = [cue(0.7, 1.9, text), cue(3.2, 6.4, "the same")]
        rows = cut(recording(spoken_frames((20, 60), (100, 200)), cues)).rows.to_pylist()
        return [row["row_id"] for row in sorted(rows, key=lambda row: row["ordinal"])]

    before, after = ids("one"), ids("two")
    assert before[0] != after[0] and before[1] == after[1]
