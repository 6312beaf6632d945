"""Planted truth: what is said where in a corpus, and what is wrong with its subtitles (see docs/proving.md)."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from curation.errors import SourceError

FORMAT = 1
CORPUS_FILE = "corpus.json"
TRUTH_FILE = "truth.jsonl"

Fault = Literal["swapped_word", "deleted", "tail", "loop", "wrong_text", "silence", "pace"]
FAULTS: tuple[Fault, ...] = ("swapped_word", "deleted", "tail", "loop", "wrong_text", "silence", "pace")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Stretch(_Record):
    start_s: float = Field(ge=0)
    end_s: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end_s <= self.start_s:
            raise ValueError(f"end_s {self.end_s} is not after start_s {self.start_s}")
        return self


class TrueWord(_Record):
    """A word as it stands in the spoken text."""

    text: str
    start_s: float | None = None
    """When its sound starts, from the recording's start; None where that is not known."""
    mark: bool = False
    """Whether punctuation that closes a clause or a sentence follows (not the full stop of "Mr.")."""


class TruePause(_Stretch):
    """Silence inside an utterance, between two of its words."""

    after_word: int = Field(ge=0)
    """Index of the word that it follows."""


class Interval(_Stretch):
    """A stretch of speech."""


class Event(_Stretch):
    """A sound that is not speech."""

    kind: str


class RecordingTruth(_Record):
    """One recording."""

    type: Literal["recording"] = "recording"
    file: str
    """Path in the corpus, with slashes."""
    duration_s: float = Field(gt=0)
    speech: tuple[Interval, ...] = ()
    """Where somebody speaks; the pauses between are not speech."""
    events: tuple[Event, ...] = ()
    snr_db: float | None = None
    """Level of the speech over the steady noise; None without noise."""
    noise: str | None = None

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        return _inside_corpus(file)


class UtteranceTruth(_Stretch):
    """What is said in one stretch, and what the subtitles claim there."""

    type: Literal["utterance"] = "utterance"
    file: str
    spoken: str
    """What is said; empty where nobody speaks (fault `silence`)."""
    cue: str
    """What the subtitle says."""
    fault: Fault | None = None
    voice: str | None = None
    words: tuple[TrueWord, ...] = ()
    pauses: tuple[TruePause, ...] = ()

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        return _inside_corpus(file)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.spoken) == (self.fault == "silence"):
            raise ValueError("spoken is empty if, and only if, fault is silence")
        for pause in self.pauses:
            if pause.after_word >= len(self.words):
                raise ValueError(f"a pause follows word {pause.after_word}, but there are {len(self.words)} words")
        return self


class Truth(_Record):
    """A corpus: its recordings, and its utterances in order of file and start."""

    recordings: tuple[RecordingTruth, ...]
    utterances: tuple[UtteranceTruth, ...]
    about: dict[str, Any] = {}
    """How it was made: seed, settings, versions; for people."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        durations: dict[str, float] = {}
        for recording in self.recordings:
            if recording.file in durations:
                raise ValueError(f"{recording.file} is described twice")
            durations[recording.file] = recording.duration_s
        for utterance in self.utterances:
            where = f"the utterance at {utterance.start_s} s of {utterance.file}"
            if utterance.file not in durations:
                raise ValueError(f"{where} is in a recording that is not described")
            if utterance.start_s >= durations[utterance.file]:
                raise ValueError(f"{where} starts after the end of the recording")
        names = [PurePosixPath(file).name for file in durations]
        if len(set(names)) < len(names):
            raise ValueError("two recordings have one file name; results are matched by name")
        return self

    def speech_s(self) -> float:
        """Seconds in which somebody speaks."""
        return sum(part.end_s - part.start_s for recording in self.recordings for part in recording.speech)


def write_truth(truth: Truth, folder: Path) -> None:
    """Write `corpus.json` and, last and at once, `truth.jsonl`: a folder that has it is whole."""
    about = {"format": FORMAT, **truth.about}
    (folder / CORPUS_FILE).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    lines = [record.model_dump_json() for record in (*truth.recordings, *truth.utterances)]
    unfinished = folder / f"{TRUTH_FILE}.part"
    unfinished.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    unfinished.replace(folder / TRUTH_FILE)


def read_truth(folder: Path) -> Truth:
    """Read and check the truth of a corpus, made here or elsewhere.

    Raises:
        SourceError: a file is missing, or of another format, or a line is invalid; the message names the line.
    """
    try:
        about = json.loads((folder / CORPUS_FILE).read_text("utf-8"))
        text = (folder / TRUTH_FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SourceError(f"{folder} is no corpus with truth ({CORPUS_FILE}, {TRUTH_FILE}): {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise SourceError(f"{folder / CORPUS_FILE}: format {FORMAT} is wanted")
    records = list(_records(folder / TRUTH_FILE, text))
    try:
        return Truth(
            recordings=tuple(record for record in records if isinstance(record, RecordingTruth)),
            utterances=tuple(record for record in records if isinstance(record, UtteranceTruth)),
            about={key: value for key, value in about.items() if key != "format"},
        )
    except ValidationError as error:
        raise SourceError(f"{folder / TRUTH_FILE}: {_reasons(error)}") from None


_LINE: TypeAdapter[RecordingTruth | UtteranceTruth] = TypeAdapter(
    Annotated[RecordingTruth | UtteranceTruth, Field(discriminator="type")]
)


def _records(path: Path, text: str) -> Iterator[RecordingTruth | UtteranceTruth]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield _LINE.validate_json(line)
            except ValidationError as error:
                raise SourceError(f"{path}, line {number}: {_reasons(error)}") from None


def _reasons(error: ValidationError) -> str:
    parts = [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in error.errors()]
    return "; ".join(f"{where}: {what}" if where else what for where, what in parts)


def _inside_corpus(file: str) -> str:
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts or "\\" in file:
        raise ValueError(f"{file!r} is no path inside the corpus")
    return file
