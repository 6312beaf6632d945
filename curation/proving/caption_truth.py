"""Planted truth of image-text pairs: which are good, and what is wrong with the others (docs/proving.md)."""

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from curation.errors import SourceError
from curation.proving.caption_faults import TextFault
from curation.proving.scene_files import Copy, ImageFault, Unusual
from curation.proving.truth_files import InsidePath, Record, read_records, write_records

PIPELINE = "captions"

HardNegative = Literal["hard_colour", "hard_shape", "hard_size", "hard_exchange"]
EntryFault = Literal["missing_caption", "missing_image", "duplicate_key"]
Fault = (
    ImageFault | TextFault | EntryFault | Copy | HardNegative | Literal["mismatched", "exact_duplicate", "evaluation"]
)

IMAGE_FAULTS: tuple[str, ...] = get_args(ImageFault)
TEXT_FAULTS: tuple[str, ...] = get_args(TextFault)
ENTRY_FAULTS: tuple[str, ...] = get_args(EntryFault)
COPIES: tuple[str, ...] = get_args(Copy)
HARD_NEGATIVES: tuple[str, ...] = get_args(HardNegative)
UNUSUAL: tuple[str, ...] = get_args(Unusual)


class PairTruth(Record):
    """One entry of the source."""

    type: Literal["pair"] = "pair"
    file: InsidePath
    """The file that holds it, below the source."""
    key: str
    """What the source calls it there: the tar's key, the number of the row or line."""
    fault: Fault | None = None
    image: str | None = None
    """Names what is shown; a copy and what it is a copy of have the same, as have pairs that share one file's bytes."""
    unusual: Unusual | None = None
    """Why a reader may stumble over its image, though it is good."""
    held_out: bool = False
    """Whether the embedder never saw such a combination."""
    caption: str | None = None
    """For people; not all that is wrong with a caption is worth writing down."""


class CaptionTruth(Record):
    """A corpus of image-text pairs."""

    pairs: tuple[PairTruth, ...]
    about: dict[str, Any] = Field(default_factory=dict)
    """How it was made: for people, but for `concept_limit`, the t of the concept balance that was set for it."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        seen: set[tuple[str, str]] = set()
        originals = {pair.image for pair in self.pairs if pair.fault is None}
        for pair in self.pairs:
            if (pair.file, pair.key) in seen:
                raise ValueError(f"{pair.key} of {pair.file} is described twice")
            seen.add((pair.file, pair.key))
            copied = pair.fault in COPIES or pair.fault == "exact_duplicate"
            if copied and (pair.image is None or pair.image not in originals):
                raise ValueError(f"{pair.key} of {pair.file} is a copy, but no good pair has its image")
        return self


_LINE: TypeAdapter[PairTruth] = TypeAdapter(PairTruth)


def write_caption_truth(truth: CaptionTruth, folder: Path) -> None:
    """Write `corpus.json` and, last, `truth.jsonl`."""
    write_records(truth.pairs, {"pipeline": PIPELINE, **truth.about}, folder)


def read_caption_truth(folder: Path) -> CaptionTruth:
    """The truth of a corpus, made here or elsewhere.

    Raises:
        SourceError: it cannot be read, or is invalid; the message says where.
    """
    pairs, about = read_records(folder, _LINE, PIPELINE)
    try:
        return CaptionTruth(pairs=tuple(pairs), about=about)
    except ValidationError as error:
        raise SourceError(f"{folder}: {error.errors()[0]['msg']}") from None
