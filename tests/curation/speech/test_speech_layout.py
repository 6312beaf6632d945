"""What a shard says of a sample: times that count from its own audio, and a sequence that is its masking plan."""

import json
from typing import Any

from curation.speech.layout import SpeechLayout, sample_json
from schemas.spans import span

RATE = 16_000
START = 160_000


def fragment(text: str, start: int, end: int, words: tuple[int, int], show: str) -> dict[str, Any]:
    times = {"start": START + start, "end": START + end}
    return {"text": text, "first_word": words[0], "last_word": words[1], "show": show} | times


SAMPLE: dict[str, Any] = {
    "row_id": "id", "root": "root", "task": "interleaved", "language": "de", "text": "Ja, „gut“ 3\nnein.",
    "duration_s": 3.0, "speech_s": 2.5, "name": "ordner/für Élise.wav", "licence": "PD", "consent": None,
    "span": span("hash", START, START + 3 * RATE, RATE, 1), "payload_rate_hz": 24_000,
    "words": [
        {"text": "Ja,", "start": START + 800, "end": START + 8_000, "score": -1.5, "untimed": None},
        {"text": "„gut“", "start": START + 16_000, "end": START + 24_000, "score": -2.0, "untimed": None},
        {"text": "3", "start": None, "end": None, "score": None, "untimed": "no letters"},
        {"text": "nein.", "start": START + 30_001, "end": START + 47_000, "score": -2.0, "untimed": None},
    ],
    "fragments": [
        fragment("Ja,", 0, 12_000, (0, 0), "audio"),
        fragment("„gut“ 3", 12_000, 26_000, (1, 2), "both"),
        fragment("nein.", 26_000, 48_000, (3, 3), "text"),
    ],
}  # fmt: skip


def parts(row: dict[str, Any], **fields: Any) -> dict[str, bytes]:
    return SpeechLayout(**fields).parts(row, b"payload")


def test_a_sample_is_its_audio_its_json_and_its_text() -> None:
    found = parts(SAMPLE)
    assert list(found) == ["flac", "json", "txt"]
    assert found["flac"] == b"payload" and found["txt"].decode() == SAMPLE["text"]
    assert list(parts(SAMPLE, extensions=("opus", "json", "txt"))) == ["opus", "json", "txt"]


def test_times_are_seconds_from_the_start_of_the_sample_s_audio() -> None:
    said = json.loads(parts(SAMPLE)["json"])
    assert [(word["start_s"], word["end_s"]) for word in said["words"]] == [
        (0.05, 0.5), (1.0, 1.5), (None, None), (30_001 / RATE, 2.9375)
    ]  # fmt: skip
    assert [(f["start_s"], f["end_s"]) for f in said["fragments"]] == [(0.0, 0.75), (0.75, 1.625), (1.625, 3.0)]
    assert said["fragments"][-1]["end_s"] == said["duration_s"]
    assert said["span"] == SAMPLE["span"] and said["rate_hz"] == 24_000


def test_the_sequence_shows_what_is_not_masked_and_nothing_else() -> None:
    assert sample_json(SAMPLE)["sequence"] == [
        {"type": "audio", "start_s": 0.0, "end_s": 0.75},
        {"type": "both", "start_s": 0.75, "end_s": 1.625, "text": "„gut“ 3"},
        {"type": "text", "text": "nein."},
    ]


def test_the_fragments_keep_what_the_sequence_hides() -> None:
    said = sample_json(SAMPLE)
    assert [f["text"] for f in said["fragments"]] == ["Ja,", "„gut“ 3", "nein."]
    assert [f["show"] for f in said["fragments"]] == [step["type"] for step in said["sequence"]]


def test_a_recognition_sample_has_an_empty_sequence() -> None:
    said = json.loads(parts(SAMPLE | {"task": "asr", "fragments": None})["json"])
    assert said["fragments"] == said["sequence"] == [] and said["words"][0]["text"] == "Ja,"


def test_a_word_without_times_says_why() -> None:
    assert sample_json(SAMPLE)["words"][2] == {
        "text": "3", "start_s": None, "end_s": None, "score": None, "untimed": "no letters"
    }  # fmt: skip


def test_the_same_sample_is_the_same_bytes() -> None:
    backwards = {name: SAMPLE[name] for name in reversed(SAMPLE)}
    assert parts(backwards) == parts(SAMPLE)
    assert "für Élise" in parts(SAMPLE)["json"].decode()
