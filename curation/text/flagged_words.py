"""Flagged words: the share of a text that is on a list which the recipe gives. The project ships no list."""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from curation.errors import RecipeError
from curation.text.scripts import text_units

Entries = dict[str, tuple[tuple[str, ...], ...]]
"""Flagged words as sequences of units, by their first unit, longest first."""


def read_flagged_words(path: str | Path) -> tuple[str, ...]:
    """The words of a UTF-8 file, one a line, in order; empty lines and lines that begin with "#" are passed over.

    Raises:
        RecipeError: the file cannot be read, or is not UTF-8.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"flagged words: {path} cannot be read as UTF-8 text ({error}); one word a line") from error
    words = (line.strip() for line in lines)
    return tuple(dict.fromkeys(word for word in words if word and not word.startswith("#")))


def flagged_entries(words: Iterable[str]) -> Entries:
    """A list made ready for `flagged_share`: words, phrases of several words, or characters of unspaced scripts."""
    by_first: dict[str, list[tuple[str, ...]]] = {}
    for word in dict.fromkeys(words):
        if units := tuple(text_units(_folded(word))):
            by_first.setdefault(units[0], []).append(units)
    return {first: tuple(sorted(set(found), key=lambda u: (-len(u), u))) for first, found in by_first.items()}


def flagged_share(units: Sequence[str], entries: Entries) -> float:
    """Share of units (`text_units`) that stand in a flagged entry: 0 to 1; entries match whole units, in order."""
    flagged = position = 0
    while position < len(units):
        found = entries.get(units[position], ())
        size = next((len(e) for e in found if tuple(units[position : position + len(e)]) == e), 0)
        flagged += size
        position += size or 1
    return flagged / len(units) if units else 0.0


def flagged_words_share(text: str, words: tuple[str, ...]) -> float:
    """The same for a text and a list; compared in NFKC and without case."""
    return flagged_share(text_units(_folded(text)), _entries(words))


@lru_cache(maxsize=16)
def _entries(words: tuple[str, ...]) -> Entries:
    return flagged_entries(words)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
