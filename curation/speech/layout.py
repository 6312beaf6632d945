"""A speech sample in a shard: `<row id>.flac`, `<row id>.json`, `<row id>.txt`."""

import json
from dataclasses import dataclass
from typing import Any

from curation.media.clips import SPEECH_RATE_HZ
from curation.speech.interleaving import AUDIO, TEXT
from curation.store.layout import Amount, Layout

SUBSETS = {
    "interleaved": "speech and text in fragments, of which some show one of the two",
    "asr": "audio in, text out",
}


@dataclass(frozen=True)
class SpeechLayout(Layout):
    """Audio as encoded, everything that is known of it as JSON, and its text.

    Times in the JSON are in seconds from the start of the sample's own audio; `span` says where that lies in its
    source. `sequence` is what the trainer is shown; `fragments` is the whole of it, so that the masking can be undone.
    """

    extensions: tuple[str, ...] = ("flac", "json", "txt")
    index: tuple[str, ...] = ("task", "language", "duration_s", "speech_s", "name", "licence", "consent")

    reads = (
        *("task", "span", "text", "words", "fragments", "language", "duration_s", "speech_s"),
        *("name", "licence", "consent", "payload_rate_hz"),
    )
    subsets = SUBSETS
    amounts = (Amount("hours", "duration_s", 3600.0),)
    origins = (Amount("recordings", "root"),)
    version = 2

    def parts(self, row: dict[str, Any], payload: bytes) -> dict[str, bytes]:
        text = json.dumps(sample_json(row), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return {self.extensions[0]: payload, "json": text.encode(), "txt": row["text"].encode()}


def sample_json(row: dict[str, Any]) -> dict[str, Any]:
    """What the JSON part of a sample says."""
    start = row["span"]["start"]
    fragments = [_fragment(fragment, start) for fragment in row["fragments"] or []]
    known = ("row_id", "root", "task", "language", "text", "duration_s", "speech_s", "name", "licence", "consent")
    return {
        **{name: row[name] for name in (*known, "span")},
        "rate_hz": row["payload_rate_hz"],
        "words": [_word(word, start) for word in row["words"]],
        "fragments": fragments,
        "sequence": [_shown(fragment) for fragment in fragments],
    }


def _seconds(tick: int | None, start: int) -> float | None:
    return None if tick is None else (tick - start) / SPEECH_RATE_HZ


def _word(word: dict[str, Any], start: int) -> dict[str, Any]:
    return {
        "text": word["text"],
        "start_s": _seconds(word["start"], start),
        "end_s": _seconds(word["end"], start),
        "score": word["score"],
        "untimed": word["untimed"],
    }


def _fragment(fragment: dict[str, Any], start: int) -> dict[str, Any]:
    times = {"start_s": _seconds(fragment["start"], start), "end_s": _seconds(fragment["end"], start)}
    return {name: fragment[name] for name in ("text", "first_word", "last_word", "show")} | times


def _shown(fragment: dict[str, Any]) -> dict[str, Any]:
    """A fragment as the trainer is shown it."""
    shown: dict[str, Any] = {"type": fragment["show"]}
    if fragment["show"] != TEXT:
        shown |= {"start_s": fragment["start_s"], "end_s": fragment["end_s"]}
    if fragment["show"] != AUDIO:
        shown["text"] = fragment["text"]
    return shown
