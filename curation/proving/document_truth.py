"""Planted truth of interleaved documents: which text tells of which image, and what is wrong (docs/proving.md)."""

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from curation.errors import SourceError
from curation.proving.truth_files import InsidePath, Record, read_records, write_records

PIPELINE = "documents"

ImageNodeFault = Literal["corrupt", "low_resolution", "blank", "blurred", "extreme_aspect", "missing_file"]
TextNodeFault = Literal["noisy_text", "personal_data", "boilerplate_text"]
DocumentFault = Literal["noisy", "sensitive", "too_complex", "no_image", "no_text", "unreadable", "duplicate"]
IMAGE_NODE_FAULTS: tuple[ImageNodeFault, ...] = get_args(ImageNodeFault)
TEXT_NODE_FAULTS: tuple[TextNodeFault, ...] = get_args(TextNodeFault)
DOCUMENT_FAULTS: tuple[DocumentFault, ...] = get_args(DocumentFault)


class NodeTruth(Record):
    """A text or an image of a document."""

    kind: Literal["text", "image"]
    fault: ImageNodeFault | TextNodeFault | None = None
    partner: int | None = None
    """Of an image: the place, from 0, of the text that tells of it; None where no text does."""


class DocumentTruth(Record):
    """One document of the source."""

    type: Literal["document"] = "document"
    file: InsidePath
    """The file that holds it, below the source."""
    number: int = Field(ge=0)
    """Its place there: rows count from 0, lines from 1, a page is 0."""
    fault: DocumentFault | None = None
    content: str | None = None
    """Names what it holds; a duplicate has that of the document that it repeats."""
    nodes: tuple[NodeTruth, ...] = ()
    """Its texts and images in order. Nothing is said of the nodes of a document with a fault."""

    @model_validator(mode="after")
    def _partners_are_texts(self) -> Self:
        for place, node in enumerate(self.nodes):
            if node.partner is None:
                continue
            if node.kind != "image" or not 0 <= node.partner < len(self.nodes):
                raise ValueError(f"node {place} of {self.file}:{self.number} cannot have partner {node.partner}")
            if self.nodes[node.partner].kind != "text":
                raise ValueError(f"node {place} of {self.file}:{self.number} has a partner that is no text")
        return self


class DocumentsTruth(Record):
    """A corpus of interleaved documents."""

    documents: tuple[DocumentTruth, ...]
    about: dict[str, Any] = Field(default_factory=dict)
    """How it was made: for people, but for `keep_fraction`, the share that density pruning was set to keep."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        seen: set[tuple[str, int]] = set()
        contents = {one.content for one in self.documents if one.fault is None}
        for one in self.documents:
            if (one.file, one.number) in seen:
                raise ValueError(f"{one.file}:{one.number} is described twice")
            seen.add((one.file, one.number))
            if one.fault == "duplicate" and one.content not in contents:
                raise ValueError(f"{one.file}:{one.number} is a duplicate, but no good document has its content")
        return self


_LINE: TypeAdapter[DocumentTruth] = TypeAdapter(DocumentTruth)


def write_document_truth(truth: DocumentsTruth, folder: Path) -> None:
    """Write `corpus.json` and, last, `truth.jsonl`."""
    write_records(truth.documents, {"pipeline": PIPELINE, **truth.about}, folder)


def read_document_truth(folder: Path) -> DocumentsTruth:
    """The truth of a corpus, made here or elsewhere.

    Raises:
        SourceError: it cannot be read, or is invalid; the message says where.
    """
    documents, about = read_records(folder, _LINE, PIPELINE)
    try:
        return DocumentsTruth(documents=tuple(documents), about=about)
    except ValidationError as error:
        raise SourceError(f"{folder}: {error.errors()[0]['msg']}") from None
