"""Which entries of a lexicon a text names: one pass of an Aho-Corasick automaton over the text."""

import re
import unicodedata
from collections.abc import Iterable
from operator import itemgetter

import numpy as np
import pyarrow as pa

from curation.diversity.lexicon import pattern, spaced
from curation.text.normalisation import UNSPACED

CONCEPTS = pa.list_(pa.string())
"""The entries that a text names, each once, in order of their code points."""

_MARK_LETTERS = "".join(
    c for c in map(chr, range(0x300, 0xFFFF)) if unicodedata.category(c)[0] == "M" and UNSPACED.match(c)
)
"""Vowels and tones of unspaced scripts that stand above, below or beside a letter, and are not letters of their own."""
_PLACE = itemgetter(1)
"""Of a hit: (where it ends, place in the lexicon)."""


def _bytes_of(text: str) -> str:
    """The text's UTF-8, a character for each byte: the automaton searches the children of a state one by one, and a
    state that some thousand Han characters follow takes several times as long as three with at most 64 each."""
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("latin-1")


_MARKS = re.compile(f"[{_MARK_LETTERS}]")
_MARKS_BYTES = re.compile("|".join(re.escape(_bytes_of(mark)) for mark in _MARK_LETTERS))


class ConceptMatcher:
    """The automaton of a lexicon (`schemas.concepts.LEXICON`), for any number of texts.

    An entry of a script with spaces is found between spaces, signs or characters of an unspaced script; one of an
    unspaced script anywhere, but never up to the middle of a character (a Thai letter whose vowel mark follows).
    """

    def __init__(self, lexicon: pa.Table) -> None:
        import ahocorasick

        self.entries: pa.Array = lexicon["entry"].combine_chunks()
        self._automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
        for place, entry in enumerate(self.entries.to_pylist()):
            if key := pattern(entry):
                self._automaton.add_word(_bytes_of(key), place)
        self._automaton.make_automaton()

    def match(self, text: str) -> list[int]:
        """Places in the lexicon of the entries that a text names, in rising order."""
        if not len(self._automaton):
            return []
        ready = spaced(text)
        hits = self._automaton.iter(_bytes_of(ready))
        if ready.isascii() or not _MARKS.search(ready):
            return sorted(set(map(_PLACE, hits)))
        scanned = _bytes_of(ready)
        return sorted({place for end, place in hits if not _MARKS_BYTES.match(scanned, end + 1)})

    def match_all(self, texts: Iterable[str | None]) -> pa.Array:
        """The entries that each text names, as `CONCEPTS`; none for a text that is null."""
        places: list[int] = []
        offsets = [0]
        for text in texts:
            if text:
                places += self.match(text)
            offsets.append(len(places))
        entries = self.entries.take(pa.array(np.array(places, np.int64)))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), entries, type=CONCEPTS)
