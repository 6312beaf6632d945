"""Utterances as engines hear them: their samples, decoded once for all the stages of a unit."""

from typing import Any

import pyarrow as pa

from curation.errors import MediaError
from curation.media.clips import Clip
from curation.media.spans import clips_of


def utterance_clips(rows: pa.Table) -> list[Clip | MediaError]:
    """One clip per row, from `span` and `uri`; a file that cannot be decoded any more gives its error to its own rows.

    So does a file that has changed since the scan. Rows of one file are decoded in one pass.
    """
    wanted = [name for name in ("uri", "span", "language", "subtitle") if name in rows.column_names]
    values = rows.select(wanted).to_pylist()
    files: dict[tuple[str, str, int | None], list[int]] = {}
    for i, value in enumerate(values):
        span = value["span"]
        files.setdefault((value["uri"], span["source"], span["channel"]), []).append(i)
    clips: list[Clip | MediaError] = [MediaError("not decoded")] * len(values)
    for (uri, source, channel), places in files.items():
        spans = [(values[i]["span"]["start"], values[i]["span"]["end"]) for i in places]
        try:
            for i, samples in zip(places, clips_of(uri, source, spans, channel), strict=True):
                clips[i] = Clip(samples, values[i].get("language"), values[i].get("subtitle"))
        except MediaError as error:
            for i in places:
                clips[i] = error
    return clips


def decoded(clips: list[Clip | MediaError]) -> tuple[list[int], list[Clip]]:
    """The places of the clips that are there, and these clips."""
    places = [i for i, clip in enumerate(clips) if isinstance(clip, Clip)]
    return places, [clip for clip in clips if isinstance(clip, Clip)]


def spread(clips: list[Clip | MediaError], places: list[int], answers: list[Any]) -> list[Any]:
    """Answers of an engine put to their clips; clips that were not decoded have their error for an answer."""
    result: list[Any] = list(clips)
    for place, answer in zip(places, answers, strict=True):
        result[place] = answer
    return result
