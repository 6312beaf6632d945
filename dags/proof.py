"""What `curate prove` needs of each pipeline: a corpus with truth, the recipe for it, and a score."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa
from rich.table import Table

from curation.audit.views import answer
from curation.errors import RecipeError, SourceError
from curation.proving import (
    caption_corpus,
    caption_score,
    caption_truth,
    document_corpus,
    document_score,
    document_truth,
)
from curation.proving.domain_language import DICTIONARY_FILE, LANGUAGE_MODEL_FILE
from curation.proving.speech_corpus import make_corpus
from curation.proving.speech_score import score
from curation.proving.truth import TRUTH_FILE, read_truth

PROOF = "-proof"
"""Ends the names of datasets that are proofs, so that nobody takes one for data."""


class Result(Protocol):
    """A score, to print or to parse."""

    def table(self) -> Table: ...

    def json(self) -> str: ...


@dataclass(frozen=True)
class Proof:
    """How a pipeline is proved.

    Attributes:
        recipe: for the embedded engines.
        unit, size: what a made corpus is measured in, and how much of it is made.
        make: writes a corpus with its truth to a folder: folder, seed, size.
        settings: what to set in the recipe for the corpus in a folder.
        read: the truth of a folder.
        tables: questions whose answers the score is made of.
        compare: the score, from the truth and the tables.
    """

    recipe: str
    unit: str
    size: float
    make: Callable[[Path, int, float], Any]
    settings: Callable[[Path], list[str]]
    read: Callable[[Path], Any]
    tables: tuple[str, ...]
    compare: Callable[..., Result]

    def is_there(self, folder: Path) -> bool:
        """Whether the folder holds a corpus that is whole: its truth is written last."""
        return (folder / TRUTH_FILE).is_file()

    def ensure(self, folder: Path, seed: int, size: float | None = None) -> None:
        """Make the corpus unless it is there.

        Raises:
            SourceError: the folder holds other files, or a corpus that was not finished.
        """
        if self.is_there(folder):
            return
        if folder.exists() and any(folder.iterdir()):
            raise SourceError(f"{folder} has no {TRUTH_FILE}: not a corpus, or an unfinished one; delete it")
        self.make(folder, seed, self.size if size is None else size)

    def score(self, folder: Path, views: duckdb.DuckDBPyConnection) -> Result:
        """Compare a run's tables with the corpus's truth."""
        tables: list[pa.Table] = [answer(views, question) for question in self.tables]
        return self.compare(self.read(folder), *tables)


def speech_settings(folder: Path) -> list[str]:
    """The corpus as source, and its language's model and dictionary, if it brings any, for pocketsphinx."""
    settings = [f"source.path={folder}", f"dataset=speech{PROOF}"]
    if (folder / LANGUAGE_MODEL_FILE).is_file():
        settings.append(f"second_opinion.language_model_path={folder / LANGUAGE_MODEL_FILE}")
    if (folder / DICTIONARY_FILE).is_file():
        settings.append(f"second_opinion.dictionary_path={folder / DICTIONARY_FILE}")
    return settings


PROOFS = {
    "speech": Proof(
        recipe="speech-embedded",
        unit="hours of speech",
        size=0.5,
        read=read_truth,
        make=lambda folder, seed, hours: make_corpus(folder, seed=seed, hours=hours),
        settings=speech_settings,
        tables=(
            "from transcripts union all by name from utterances where number is null",
            "from ledger",
            "from samples",
        ),
        compare=score,
    ),
    "captions": Proof(
        recipe="captions-embedded",
        unit="image-text pairs",
        size=1600,
        make=lambda folder, seed, pairs: caption_corpus.make_caption_corpus(folder, seed=seed, pairs=round(pairs)),
        settings=lambda folder: [*caption_corpus.recipe_settings(folder), f"dataset=captions{PROOF}"],
        read=caption_truth.read_caption_truth,
        tables=caption_score.QUESTIONS,
        compare=caption_score.score_captions,
    ),
    "documents": Proof(
        recipe="documents-embedded",
        unit="documents",
        size=200,
        make=lambda folder, seed, n: document_corpus.make_document_corpus(folder, seed=seed, documents=round(n)),
        settings=lambda folder: [*document_corpus.recipe_settings(folder), f"dataset=documents{PROOF}"],
        read=document_truth.read_document_truth,
        tables=document_score.QUESTIONS,
        compare=document_score.score_documents,
    ),
}


def proof_of(pipeline: str) -> Proof:
    """The proof of a pipeline.

    Raises:
        RecipeError: there is none of that name.
    """
    if pipeline not in PROOFS:
        raise RecipeError(f"no proof for {pipeline!r}; choose one of {', '.join(PROOFS)}")
    return PROOFS[pipeline]
