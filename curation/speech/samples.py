"""From utterances to samples: neighbours merged, and each utterance as a recognition sample of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from curation.media.clips import SPEECH_RATE_HZ
from curation.ranges import NotNegative, Positive
from curation.rows import derived_id
from curation.stage import Stage
from curation.text.spacing import join_words
from schemas.spans import span
from schemas.speech import SAMPLE

Task = Literal["interleaved", "asr"]


@dataclass(frozen=True)
class MakeSamples(Stage):
    """Merge neighbouring utterances of a recording into one sample (LongCat-Flash-Omni, section 3.1.1).

    Utterances are merged while the silence between them is shorter than `max_silence_s` and the sample no longer than
    `max_sample_s`. An utterance that was rejected or failed ends a sample: nothing is read across what is not trusted.
    For `asr`, every utterance is a sample as it stands, its audio the question and its text the answer.
    """

    max_silence_s: NotNegative = 10.0
    max_sample_s: Positive = 180.0
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = ("interleaved", "asr")

    reads = (
        *("number", "span", "speech_start", "speech_end", "speech_s", "text", "words", "pauses"),
        *("language", "name", "licence", "consent"),
    )
    writes = tuple(name for name in SAMPLE.names if name != "parents")
    makes = "sample"

    def __call__(self, utterances: pa.Table) -> pa.Table:
        recordings: dict[str, list[dict[str, Any]]] = {}
        for row in utterances.to_pylist():
            recordings.setdefault(row["root"], []).append(row)
        samples = []
        for rows in recordings.values():
            rows.sort(key=lambda row: (row["number"], row["row_id"]))
            if "interleaved" in self.tasks:
                samples += [_sample(group, "interleaved") for group in self.merged(rows)]
            if "asr" in self.tasks:
                samples += [_sample([row], "asr") for row in rows]
        return pa.Table.from_pylist(samples, SAMPLE)

    def merged(self, rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Groups of neighbours that make one sample, from the utterances of one recording in their order."""
        group: list[dict[str, Any]] = []
        for row in rows:
            if group and not self._continues(group, row):
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    def _continues(self, group: list[dict[str, Any]], row: dict[str, Any]) -> bool:
        last = group[-1]
        silence_s = (row["speech_start"] - last["speech_end"]) / SPEECH_RATE_HZ
        length_s = (row["span"]["end"] - group[0]["span"]["start"]) / SPEECH_RATE_HZ
        return bool(
            row["number"] == last["number"] + 1
            and row["language"] == last["language"]
            and silence_s < self.max_silence_s
            and length_s <= self.max_sample_s
        )


def _sample(group: list[dict[str, Any]], task: Task) -> dict[str, Any]:
    first, last = group[0], group[-1]
    start, end = first["span"]["start"], last["span"]["end"]
    parents = [row["row_id"] for row in group]
    return {
        **{name: first[name] for name in ("root", "uri", "name", "language", "licence", "consent")},
        "row_id": derived_id(parents, "sample", [task, start, end]),
        "ordinal": start,
        "kind": "sample",
        "parents": parents,
        "task": task,
        "span": span(first["span"]["source"], start, end, SPEECH_RATE_HZ, first["span"]["channel"]),
        "duration_s": (end - start) / SPEECH_RATE_HZ,
        "speech_s": sum(row["speech_s"] for row in group),
        "text": join_words([row["text"] for row in group], first["language"]),
        "words": [word for row in group for word in row["words"]],
        "pauses": list(_pauses(group)),
    }


def _pauses(group: list[dict[str, Any]]) -> Iterator[dict[str, int]]:
    """Pauses inside the utterances, and the silences between them, by the index of the word before."""
    before = 0
    for i, row in enumerate(group):
        for pause in row["pauses"]:
            yield pause | {"after": pause["after"] + before}
        before += len(row["words"])
        if i + 1 < len(group) and row["words"]:
            yield {"after": before - 1, "start": row["speech_end"], "end": group[i + 1]["speech_start"]}
