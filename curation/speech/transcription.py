"""What is said: an opinion of a recogniser, of which the pipeline asks two (LongCat-Flash-Omni, section 3.1.1)."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.engines.speech_recognition import NoSidecar, Sidecar, SpeechRecogniser
from curation.media.clips import Clip
from curation.speech.clips import decoded, spread, utterance_clips
from curation.stage import Stage, fail, reject, with_column
from schemas.speech import TRANSCRIPT


@dataclass(frozen=True)
class Transcribe(Stage):
    """Transcribe every utterance into `column`, and keep what the recogniser says about its own confidence."""

    engine: SpeechRecogniser
    column: str = "transcript"

    locators = ("uri",)
    costly = True
    packages = ("av",)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("span", "language")

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def name(self) -> str:
        return f"Transcribe({self.engine.label})"

    def __call__(self, utterances: pa.Table) -> pa.Table:
        clips = utterance_clips(utterances)
        places, heard = decoded(clips)
        answers = spread(clips, places, self.engine.transcribe(heard))
        return written(utterances, self.column, answers)


@dataclass(frozen=True)
class ReadTranscript(Stage):
    """Take the subtitles as an opinion; an utterance that has none is rejected as `no_subtitle`."""

    engine: Sidecar = Sidecar()
    column: str = "transcript"

    reads = ("subtitle", "language")

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.column,)

    def __call__(self, utterances: pa.Table) -> pa.Table:
        silence = np.zeros(0, np.int16)
        clips = [Clip(silence, row["language"], row["subtitle"] or None) for row in utterances.to_pylist()]
        answers = self.engine.transcribe(clips)
        lacking = [isinstance(answer, NoSidecar) for answer in answers]
        texts = [None if lack else answer for answer, lack in zip(answers, lacking, strict=True)]
        return reject(written(utterances, self.column, texts), lacking, "no_subtitle")


@dataclass(frozen=True)
class TrainingText(Stage):
    """Choose the training text: that of one of the two opinions."""

    column: Literal["transcript", "second_opinion"] = "transcript"

    writes = ("text",)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def __call__(self, utterances: pa.Table) -> pa.Table:
        return with_column(utterances, "text", pc.struct_field(utterances[self.column], "text"))


def opinion(engine: SpeechRecogniser, column: str) -> Stage:
    """The stage that asks a recogniser; subtitles are read, anything else listens."""
    return ReadTranscript(engine, column) if isinstance(engine, Sidecar) else Transcribe(engine, column)


def written(utterances: pa.Table, column: str, answers: list[Any]) -> pa.Table:
    """Transcripts as a column; answers that are exceptions fail their rows."""
    errors = [answer if isinstance(answer, BaseException) else None for answer in answers]
    values = [None if isinstance(answer, BaseException) else answer for answer in answers]
    names = [field.name for field in TRANSCRIPT]
    structs = [None if v is None else {name: getattr(v, name, None) for name in names} for v in values]
    utterances = with_column(utterances, column, structs, TRANSCRIPT)
    return fail(utterances, errors) if any(errors) else utterances
