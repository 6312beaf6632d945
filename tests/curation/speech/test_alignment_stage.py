"""Word times of utterances, and the quiet between words."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.engines.speech_synthesis import Espeak
from curation.hashing import file_digest
from curation.runtime.chain import run_chain
from curation.speech.alignment import (
    Align,
    QuietBetweenWords,
    TimedWords,
    frame_levels_db,
    longest_run,
)
from curation.speech.interleaving import word_places
from schemas.spans import span
from tests.support.small_corpus import TEXTS, resampled, spoken, write_sound

RATE = 16_000
FRAME = 160


def utterances(path: Path, *rows: tuple[float, float, str]) -> pa.Table:
    """Utterances (start_s, end_s, text) of one file."""
    source = file_digest(path) if path.exists() else "gone"
    spans = [span(source, round(start * RATE), round(end * RATE), RATE) for start, end, _ in rows]
    n = len(rows)
    return pa.table(
        {
            "row_id": [f"u{i}" for i in range(n)], "root": ["r"] * n, "ordinal": list(range(n)),
            "kind": ["utterance"] * n, "uri": [str(path)] * n, "span": spans, "language": ["en"] * n,
            "text": [text for _, _, text in rows],
        }
    )  # fmt: skip


def word(text: str, start: float | None, end: float | None) -> dict[str, Any]:
    ticks = [None if time is None else round(time * RATE) for time in (start, end)]
    untimed = None if start is not None else "no letters"
    return {"text": text, "start": ticks[0], "end": ticks[1], "score": -1.0, "untimed": untimed}


def noise(seconds: float, amplitude: float, seed: int = 0) -> NDArray[np.int16]:
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * amplitude).astype(np.int16)


@pytest.fixture(scope="module")
def two_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sound(tmp_path_factory.mktemp("sound") / "two.wav", spoken(TEXTS[:2], pause_s=2.0, lead_s=1.0))


def test_word_times_count_from_the_start_of_the_recording(two_sentences: Path) -> None:
    speech = [Espeak().speak(text, "en-us", rate_wpm=150) for text in TEXTS[:2]]
    second_s = 1.0 + len(resampled(speech[0].samples, speech[0].rate_hz)) / RATE + 2.0
    end_s = second_s + speech[1].duration_s
    table = utterances(two_sentences, (second_s - 0.2, end_s + 0.2, TEXTS[1]), (0.8, second_s - 1.8, TEXTS[0]))
    second, first = Align()(table)["words"].to_pylist()
    assert [w["text"] for w in second] == TEXTS[1].split()
    assert [w["text"] for w in first] == TEXTS[0].split()
    truth = {said.text_start: second_s + said.start_s for said in speech[1].words}
    starts = [start for start, _ in word_places(TEXTS[1], TEXTS[1].split())]
    errors = [abs(w["start"] / RATE - truth[at]) for w, at in zip(second, starts, strict=True) if at in truth]
    assert len(errors) >= 6 and np.mean(errors) < 0.04
    assert first[-1]["end"] < (second_s - 1.8) * RATE < second[0]["start"]


def test_text_that_does_not_fit_is_rejected_and_its_neighbours_are_not(two_sentences: Path) -> None:
    table = utterances(two_sentences, (0.8, 5.0, TEXTS[0]), (0.2, 0.5, TEXTS[2] * 8), (0.0, 0.9, "♪ …"))
    outcome = run_chain("transcripts", (Align(), TimedWords()), table)
    ledger = {row["row_id"]: row for row in outcome.ledger.to_pylist()}
    assert ledger["u0"]["verdict"] == "kept"
    assert [ledger[name]["verdict"] for name in ("u1", "u2")] == ["rejected"] * 2
    assert ledger["u1"]["reason"] == "text_does_not_fit_audio"
    why = {row["row_id"]: row["alignment_error"] for row in outcome.rows.to_pylist()}
    assert why["u0"] is None and why["u1"]


def test_a_language_that_the_aligner_does_not_know_is_no_misfit(two_sentences: Path) -> None:
    table = utterances(two_sentences, (0.8, 5.0, TEXTS[0]), (0.8, 5.0, TEXTS[0]))
    table = table.set_column(table.column_names.index("language"), "language", pa.array(["en", "de"]))
    outcome = run_chain("transcripts", (Align(), TimedWords()), table)
    ledger = {row["row_id"]: row for row in outcome.ledger.to_pylist()}
    assert ledger["u0"]["verdict"] == "kept"
    assert (ledger["u1"]["verdict"], ledger["u1"]["reason"]) == ("rejected", "language_not_aligned")
    why = {row["row_id"]: row["alignment_error"] for row in outcome.rows.to_pylist()}
    assert "this clip's language is de" in why["u1"]


def test_a_file_that_is_gone_fails_its_rows_alone(two_sentences: Path, tmp_path: Path) -> None:
    gone = utterances(tmp_path / "gone.wav", (0.0, 1.0, "hello there"))
    here = utterances(two_sentences, (0.8, 5.0, TEXTS[0]))
    both = pa.concat_tables([gone.set_column(0, "row_id", pa.array(["g"])), here])
    outcome = run_chain("transcripts", (Align(), TimedWords(), QuietBetweenWords()), both)
    ledger = {row["row_id"]: row for row in outcome.ledger.to_pylist()}
    assert ledger["u0"]["verdict"] == "kept"
    assert (ledger["g"]["verdict"], ledger["g"]["stage"]) == ("failed", Align().name)
    assert "gone.wav" in ledger["g"]["error"]


def test_too_many_words_without_times_are_rejected_with_their_share() -> None:
    rows = [[word("a", 0, 1), word("1", None, None)], [word("a", 0, 1)] * 2 + [word("1", None, None)], [], None]
    unaligned = [None, None, None, "text_does_not_fit_audio"]
    table = pa.table({"row_id": list("abcd"), "words": rows, "unaligned": unaligned})
    decisions = TimedWords(max_untimed_share=0.34)(table)["decision"].to_pylist()
    assert (decisions[0]["reason"], decisions[0]["value"], decisions[0]["threshold"]) == (
        "words_without_times",
        0.5,
        0.34,
    )
    assert decisions[1] is None
    assert decisions[2]["reason"] == "words_without_times"
    assert decisions[3]["reason"] == "text_does_not_fit_audio"


@pytest.mark.parametrize("signal_to_noise_db", [10, 20, 30])
def test_quiet_is_found_within_planted_silences_in_noise(signal_to_noise_db: int) -> None:
    chance = np.random.default_rng(signal_to_noise_db)
    pieces, words, truth, now = [], [], [], 0.3
    pieces.append(np.zeros(round(0.3 * RATE)))
    for number in range(60):
        length, pause = chance.uniform(0.15, 0.5), chance.uniform(0.08, 0.8)
        pieces.append(chance.standard_normal(round(length * RATE)) * 3000 * np.hanning(round(length * RATE)) ** 0.25)
        # An aligner's borders: late by up to 30 ms at starts, off by up to 60 ms at ends.
        off_start, off_end = chance.uniform(-0.03, 0.03), chance.uniform(-0.06, 0.06)
        words.append(word(f"w{number}", now + off_start, now + length + off_end))
        truth.append((now + length, now + length + pause))
        pieces.append(np.zeros(round(pause * RATE)))
        now += length + pause
    sound = np.concatenate(pieces)
    sound += chance.standard_normal(len(sound)) * 3000 * 10 ** (-signal_to_noise_db / 20)
    found = QuietBetweenWords().pauses(sound.astype(np.int16), words, 0)
    assert [pause["after"] for pause in found] == list(range(59))
    inside, covered = 0, []
    for quiet, (start, end) in zip(found, truth[:-1], strict=True):
        centre = (quiet["start"] + quiet["end"]) / 2 / RATE
        inside += start <= centre <= end
        covered.append((min(quiet["end"] / RATE, end) - max(quiet["start"] / RATE, start)) / min(end - start, 0.6))
    assert inside >= 58
    assert np.median(covered) > 0.75


def test_pauses_count_from_the_start_of_the_recording() -> None:
    sound = np.concatenate([noise(0.5, 3000), np.zeros(RATE // 5, np.int16), noise(0.5, 3000)])
    words = [word("one", 10.0, 10.5), word("two", 10.7, 11.2)]
    (pause,) = QuietBetweenWords().pauses(sound, words, 10 * RATE)
    assert pause == {"after": 0, "start": round(10.5 * RATE), "end": round(10.7 * RATE)}


def test_no_quiet_is_claimed_beside_a_word_without_times() -> None:
    words = [word("one", 0.0, 0.3), word("2", None, None), word("three", 0.6, 0.9), word("four", 1.0, 1.4)]
    assert [p["after"] for p in QuietBetweenWords().pauses(noise(1.5, 3000), words, 0)] == [2]
    assert QuietBetweenWords().pauses(noise(1.5, 3000), [], 0) == []
    assert QuietBetweenWords().pauses(noise(0.005, 3000), words, 0) == []


@given(st.lists(st.booleans(), min_size=1, max_size=60).filter(any))
def test_a_quiet_run_is_quiet_and_none_is_longer(marks: list[bool]) -> None:
    quiet = np.array(marks)
    start, end = longest_run(quiet)
    assert 0 <= start < end <= len(quiet) and quiet[start:end].all()
    runs = "".join("q" if value else " " for value in quiet).split()
    assert end - start == max(len(run) for run in runs)


SPOKEN = st.lists(st.tuples(st.floats(0, 0.5), st.floats(0.01, 0.6), st.booleans()), min_size=1, max_size=12)


@settings(deadline=None)
@given(SPOKEN, st.integers(0, 10**9))
def test_pauses_lie_in_order_within_the_utterance(steps: list[tuple[float, float, bool]], offset: int) -> None:
    words, now = [], offset / RATE
    for gap, length, timed in steps:
        words.append(word("w", now + gap, now + gap + length) if timed else word("1", None, None))
        now += gap + length
    sound = noise(now - offset / RATE + 0.02, 500)
    pauses = QuietBetweenWords().pauses(sound, words, offset)
    assert all(offset <= pause["start"] < pause["end"] <= offset + len(sound) for pause in pauses)
    centres = [(pause["start"] + pause["end"]) // 2 for pause in pauses]
    assert centres == sorted(centres)
    assert len({pause["after"] for pause in pauses}) == len(pauses)


def test_levels_are_of_whole_frames() -> None:
    levels = frame_levels_db(np.array([0] * FRAME + [1000] * FRAME + [9] * 10, np.int16), FRAME)
    assert levels.tolist() == [0.0, pytest.approx(60.0, abs=1e-4)]
