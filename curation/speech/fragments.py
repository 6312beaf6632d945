"""Fragments: a sample's words, split where punctuation says so (LongCat-Flash-Omni, section 3.1.1)."""

from itertools import pairwise
from typing import Any

from curation.text.normalisation import UNSPACED
from curation.text.punctuation import Level, fragment_ends


def split_words(
    words: list[dict[str, Any]], language: str | None, *, text: str | None = None, level: Level = "clause"
) -> list[tuple[int, int]]:
    """The fragments of a sample as ranges of its words: [first, last), in order, each word in one of them.

    Args:
        words: as `schemas.speech.WORD`; only their texts are read.
        text: the transcript that the words stand in, in order. Without it they are joined, by nothing between
            characters of unspaced scripts and by a space elsewhere; so the spaces between Thai clauses are lost.
        level: the marks that end a fragment, as for `fragment_ends`.
    """
    text, word_ends = _joined(words) if text is None else (text, _found(words, text))
    places = {end: index for index, end in enumerate(word_ends)}
    cuts = [places[end] + 1 for end in fragment_ends(text, language, level) if end in places]
    borders = sorted({0, *cuts, len(words)})
    return list(pairwise(borders))


def _joined(words: list[dict[str, Any]]) -> tuple[str, list[int]]:
    """The words as one text, and the offset at which each ends."""
    text = ""
    ends = []
    for word in words:
        text += ("" if not text or _adjoin(text[-1], word["text"][:1]) else " ") + word["text"]
        ends.append(len(text))
    return text, ends


def _found(words: list[dict[str, Any]], text: str) -> list[int]:
    """The offset in the text at which each word ends.

    Raises:
        ValueError: a word does not stand in the text after the one before it.
    """
    ends = []
    end = 0
    for word in words:
        end = text.index(word["text"], end) + len(word["text"])
        ends.append(end)
    return ends


def _adjoin(left: str, right: str) -> bool:
    """Whether two characters at a border of words stand together: both unspaced, or beside full-width punctuation."""
    return all(UNSPACED.match(c) or not (c.isascii() or c.isalnum()) for c in (left, right))
