"""Putting texts together again: with a space where words are spaced, without where they are not."""

from collections.abc import Sequence

from curation.text.normalisation import is_unspaced


def join_words(texts: Sequence[str], language: str | None) -> str:
    """Texts that follow each other, as one."""
    joined = ""
    for text in texts:
        spaced = joined and text and not (is_unspaced(joined[-1], language) and is_unspaced(text[0], language))
        joined += (" " if spaced else "") + text
    return joined
