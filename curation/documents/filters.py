"""Filters of whole documents, and of their nodes (LongCat-Flash-Omni, section 3.1.2).

Limits are those of OBELICS (Laurençon et al. 2023, appendix A) where it has one. Checks of the text are those of
captions (`curation.text`): of a document over all its texts together, of a node over its own. Stages for nodes are
meant for texts alone: `Only("node_kind", "text", NodeLength())`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.documents.noise import noisy_share
from curation.documents.personal_data import personal_data
from curation.stage import Stage, reject, with_column
from curation.text.caption_checks import (
    CaptionBoilerplate,
    CaptionCheck,
    CaptionLanguage,
    CaptionSpecialCharacters,
    FlaggedWords,
)
from curation.text.ngram_repetition import CaptionRepetition
from curation.text.scripts import unit_counts
from schemas.documents import IMAGE, TEXT

PARAGRAPH = "\n\n"
"""Between the texts of a document, where they are looked at together."""


@dataclass(frozen=True)
class DocumentShape(Stage):
    """Reject documents with too few images or too many, and those that are too complex to be read as one.

    An image counts where its bytes are here; a document that names enough, and has too few of them here, is rejected
    for that (`images_not_here`): MMC4 and OBELICS come as addresses, and are to be downloaded first. An alternation is
    a change from text to image or back; OBELICS' 30 images, each between two texts, make 60.
    """

    min_images: int = 1
    max_images: int = 30
    min_texts: int = 1
    max_nodes: int = 500
    max_alternations: int = 60

    reads = ("nodes",)
    writes = ("node_count", "named_images", "image_count", "text_count", "alternations")
    version = 2

    def __call__(self, documents: pa.Table) -> pa.Table:
        counts = shape(documents["nodes"])
        for name in self.writes:
            documents = with_column(documents, name, counts[name], pa.int64())
        here, least = documents["image_count"], self.min_images
        elsewhere = pc.and_(pc.less(here, least), pc.greater_equal(documents["named_images"], least))
        documents = reject(documents, elsewhere, "images_not_here", value=here, limit=least)
        for name, limit, reason in (
            ("image_count", self.min_images, "too_few_images"),
            ("text_count", self.min_texts, "no_text"),
        ):
            value = documents[name]
            documents = reject(documents, pc.less(value, limit), reason, value=value, limit=limit)
        for name, limit, reason in (
            ("image_count", self.max_images, "too_many_images"),
            ("node_count", self.max_nodes, "too_many_nodes"),
            ("alternations", self.max_alternations, "too_many_alternations"),
        ):
            value = documents[name]
            documents = reject(documents, pc.greater(value, limit), reason, value=value, limit=limit)
        return documents


def shape(nodes: pa.ChunkedArray) -> dict[str, NDArray[np.int64]]:
    """Of each document: nodes, images that it names, images that are here, texts, and changes between these."""
    lists = nodes.combine_chunks()
    items = pa.Table.from_struct_array(pc.list_flatten(lists))
    of = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    named = pc.equal(items["node_kind"], IMAGE)
    readable = pc.is_null(items["error"])
    is_text = pc.and_(pc.equal(items["node_kind"], TEXT), readable).to_numpy()
    here = pc.and_(named, pc.is_valid(pc.struct_field(items["place"], "path")))
    is_image = pc.and_(here, readable).to_numpy()
    usable = is_text | is_image
    kinds, owners = is_text[usable], of[usable]
    changes = (kinds[1:] != kinds[:-1]) & (owners[1:] == owners[:-1])
    count = len(lists)
    return {
        "node_count": np.bincount(of, minlength=count),
        "named_images": np.bincount(of[named.to_numpy()], minlength=count),
        "image_count": np.bincount(of[is_image], minlength=count),
        "text_count": np.bincount(of[is_text], minlength=count),
        "alternations": np.bincount(owners[1:][changes], minlength=count),
    }


@dataclass(frozen=True)
class DocumentCheck(CaptionCheck):
    """A check of a document's texts together. Its measures are columns named after `column`: `nodes_words`."""

    column: str = "nodes"
    max_measured_characters: int = 200_000

    def texts(self, rows: pa.Table) -> list[str]:
        """The texts of each document, with a blank line between them, cut where measuring ends."""
        lists = rows[self.column].combine_chunks()
        items = pa.Table.from_struct_array(pc.list_flatten(lists))
        is_text = pc.equal(items["node_kind"], TEXT)
        joined: list[list[str]] = [[] for _ in range(len(lists))]
        of = pc.list_parent_indices(lists).filter(is_text.combine_chunks())
        for place, text in zip(of.to_pylist(), items["text"].filter(is_text).to_pylist(), strict=True):
            joined[place].append(text)
        return [PARAGRAPH.join(texts)[: self.max_measured_characters] for texts in joined]


@dataclass(frozen=True)
class NodeLength(CaptionCheck):
    """Reject texts with too few words or too many. `unspaced_per_word` letters of Han, kana or Thai count for one.

    One that is longer than what is measured is rejected too: nothing unchecked is kept.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {"words": pa.float64()}

    column: str = "text"
    min_words: float = 4
    max_words: float = 1000
    unspaced_per_word: float = 2.0

    def __call__(self, rows: pa.Table) -> pa.Table:
        characters, most = self.characters(rows), self.max_measured_characters
        rows = reject(self.measured(rows), pc.greater(characters, most), "too_long", value=characters, limit=most)
        words, limit = rows[f"{self.column}_words"], self.min_words
        rows = reject(rows, pc.less(words, limit), "too_few_words", value=words, limit=limit)
        return self.reject_over(rows, "words", self.max_words, "too_many_words")

    def characters(self, rows: pa.Table) -> pa.ChunkedArray:
        """How long each text is, to its end."""
        return pc.utf8_length(rows[self.column].cast(pa.large_string()))

    def measure(self, text: str) -> dict[str, Any]:
        spaced, unspaced = unit_counts(text)
        return {"words": spaced + unspaced / self.unspaced_per_word}


@dataclass(frozen=True)
class DocumentLength(DocumentCheck, NodeLength):
    """`NodeLength` of a whole document, at OBELICS' limits for one."""

    min_words: float = 10
    max_words: float = 2000

    def characters(self, rows: pa.Table) -> pa.ChunkedArray:
        lists = rows[self.column].combine_chunks()
        lengths = pc.utf8_length(pc.fill_null(pc.struct_field(pc.list_flatten(lists), "text"), ""))
        of = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        is_text = pc.equal(pc.struct_field(pc.list_flatten(lists), "node_kind"), TEXT)
        sums = np.bincount(of, lengths.to_numpy() * is_text.to_numpy(zero_copy_only=False), minlength=len(lists))
        return pa.chunked_array([pa.array(sums.astype(np.int64))])


@dataclass(frozen=True)
class NodeRepetition(CaptionRepetition):
    """`CaptionRepetition` of a text of a document."""

    column: str = "text"


@dataclass(frozen=True)
class DocumentRepetition(DocumentCheck, CaptionRepetition):
    """`CaptionRepetition` of a whole document: words may repeat themselves more than in a paragraph."""

    max_word_repetition: float = 0.2


@dataclass(frozen=True)
class NodeSpecialCharacters(CaptionSpecialCharacters):
    """`CaptionSpecialCharacters` of a text of a document."""

    column: str = "text"


@dataclass(frozen=True)
class DocumentSpecialCharacters(DocumentCheck, CaptionSpecialCharacters):
    """`CaptionSpecialCharacters` of a whole document."""

    max_share: float = 0.275


@dataclass(frozen=True)
class NodeFlaggedWords(FlaggedWords):
    """`FlaggedWords` of a text of a document."""

    column: str = "text"


@dataclass(frozen=True)
class DocumentFlaggedWords(DocumentCheck, FlaggedWords):
    """`FlaggedWords` of a whole document."""


@dataclass(frozen=True)
class NodeBoilerplate(CaptionBoilerplate):
    """Reject texts that are mostly a site's phrases, an address, a file name, a date: what stands around an article.

    A caption with a tag in it is a scrap of a page. An article may quote one, so there noise is what counts.
    """

    version = 3

    column: str = "text"

    def measure(self, text: str) -> dict[str, Any]:
        found = super().measure(text)
        return found | {"boilerplate_share": noisy_share(text)} if found["boilerplate"] == "html" else found


@dataclass(frozen=True)
class DocumentLanguage(DocumentCheck, CaptionLanguage):
    """Reject documents in an unwanted language, in an uncertain one, or in one that changes within the document.

    OBELICS requires .8. Its longest paragraphs, `max_paragraphs` of them, are judged one by one for a change.
    """

    min_confidence: float | None = 0.8
    min_clause_letters: int = 200
    max_paragraphs: int = 5

    def clauses(self, text: str) -> list[str]:
        paragraphs = text.split(PARAGRAPH)
        if len(paragraphs) < 2:
            return []
        long = [part for part in paragraphs if sum(map(str.isalpha, part)) >= self.min_clause_letters]
        return sorted(long, key=len, reverse=True)[: self.max_paragraphs]


@dataclass(frozen=True)
class NodePersonalData(CaptionCheck):
    """Reject texts with e-mail addresses, telephone numbers, or numbers of persons, cards and accounts."""

    measures: ClassVar[dict[str, pa.DataType]] = {
        "emails": pa.int64(),
        "phones": pa.int64(),
        "identifiers": pa.int64(),
        "personal_data": pa.int64(),
    }

    column: str = "text"
    max_found: int = 0

    def __call__(self, rows: pa.Table) -> pa.Table:
        return self.reject_over(self.measured(rows), "personal_data", self.max_found, "personal_data")

    def measure(self, text: str) -> dict[str, Any]:
        found = personal_data(text)
        counts = {"emails": found.emails, "phones": found.phones, "identifiers": found.identifiers}
        return counts | {"personal_data": sum(counts.values())}


@dataclass(frozen=True)
class CaptionPersonalData(NodePersonalData):
    """`NodePersonalData` of a caption."""

    column: str = "caption"


@dataclass(frozen=True)
class DocumentPersonalData(DocumentCheck, NodePersonalData):
    """Reject documents that are lists of personal data; single texts with some are checked as nodes."""

    max_found: int = 10


@dataclass(frozen=True)
class NodeNoise(CaptionCheck):
    """Reject texts of which too much is noise: addresses, coded data, markup, text that was decoded wrongly."""

    measures: ClassVar[dict[str, pa.DataType]] = {"noisy_share": pa.float64()}

    column: str = "text"
    max_share: float = 0.3

    def __call__(self, rows: pa.Table) -> pa.Table:
        return self.reject_over(self.measured(rows), "noisy_share", self.max_share, "noisy_tokens")

    def measure(self, text: str) -> dict[str, Any]:
        return {"noisy_share": noisy_share(text)}


@dataclass(frozen=True)
class DocumentNoise(DocumentCheck, NodeNoise):
    """`NodeNoise` of a whole document."""

    max_share: float = 0.2
