"""Subtitles as files: SubRip, WebVTT, and JSON with segments."""

import json
from collections.abc import Callable, Mapping, Sequence

Line = tuple[float, float, str]
"""Start and end in seconds, and the text."""


def srt(lines: Sequence[Line]) -> str:
    """SubRip: numbered cues with times to the millisecond."""
    cues = [f"{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n" for start, end, text in lines]
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, 1))


def vtt(lines: Sequence[Line]) -> str:
    """WebVTT, without styles."""
    cues = [f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n" for start, end, text in lines]
    return "\n".join(["WEBVTT\n", *cues])


def segments_json(lines: Sequence[Line]) -> str:
    """JSON as Whisper writes it."""
    segments = [{"start": round(start, 3), "end": round(end, 3), "text": text} for start, end, text in lines]
    return json.dumps({"segments": segments}, indent=1) + "\n"


SUBTITLES: Mapping[str, Callable[[Sequence[Line]], str]] = {"srt": srt, "vtt": vtt, "json": segments_json}
"""By extension."""


def _clock(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{point}{ms % 1000:03d}"
