"""Which entries of a lexicon a text names: one pass of an Aho-Corasick automaton over many texts at once."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.diversity.lexicon import pattern, spaced
from curation.text.normalisation import UNSPACED

CONCEPTS = pa.list_(pa.string())
"""The entries that a text names, each once, in order of their code points."""

BATCH_CHARACTERS = 250_000
"""Of texts that are scanned at once: what Python does for each text costs as much as scanning it."""
_BETWEEN, _STAND_IN = "\x01", "\x02"
"""What stands between the texts of a batch, and for that character inside of one."""


class ConceptMatcher:
    """The automaton of a lexicon (`schemas.concepts.LEXICON`), for any number of texts.

    An entry of a script with spaces is found between spaces, signs or characters of an unspaced script; one of an
    unspaced script anywhere, but never up to the middle of a character (a Thai letter whose vowel mark follows). A
    form of an entry names the entry; a form that is an entry itself names that one alone, and of several entries with
    one form the first has it.
    """

    def __init__(self, lexicon: pa.Table) -> None:
        import ahocorasick

        self.entries: pa.Array = lexicon["entry"].combine_chunks()
        self._automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
        for place, entry in enumerate(self.entries.to_pylist()):
            if key := _key(entry):
                self._automaton.add_word(key, place)
        for place, forms in enumerate(lexicon["forms"].to_pylist()):
            for form in forms:
                if (key := _key(form)) and not self._automaton.exists(key):
                    self._automaton.add_word(key, place)
        self._automaton.make_automaton()

    def match(self, text: str) -> list[int]:
        """Places in the lexicon of the entries that a text names, in rising order."""
        return self._scan([text])[1].tolist()  # type: ignore[no-any-return]

    def match_all(self, texts: Iterable[str | None]) -> pa.Array:
        """The entries that each text names, as `CONCEPTS`; none for a text that is null."""
        given = [text or "" for text in texts]
        counts = np.zeros(len(given), np.int64)
        places: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        order: list[int] = []
        for numbers in _batches(given):
            named, found = self._scan([given[number] for number in numbers])
            counts[numbers] = np.bincount(named, minlength=len(numbers))
            places.append(found)
            order += numbers
        # Batches take texts out of their order; rows are put back in it.
        ends = np.cumsum(counts[order])
        lists = pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], ends]), pa.int32()), self.entries.take(pa.array(np.concatenate(places)))
        )
        back = np.empty(len(given), np.int64)
        back[order] = np.arange(len(given))
        return lists.take(pa.array(back)).cast(CONCEPTS)

    def _scan(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which texts name which entries: the number of a text and a place, each pair once and in order."""
        joined = _BETWEEN.join(texts)
        if joined.count(_BETWEEN) != len(texts) - 1:
            joined = _BETWEEN.join(text.replace(_BETWEEN, _STAND_IN) for text in texts)
        if not len(self._automaton):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        scanned = spaced(joined)
        data = scanned.encode("utf-8", "surrogatepass")
        hits = list(self._automaton.iter(scanned if len(data) == len(scanned) else data.decode("latin-1")))
        if not hits:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        pairs = np.fromiter(chain.from_iterable(hits), np.int64, 2 * len(hits))
        ends, places = pairs[::2], pairs[1::2]
        content = np.frombuffer(data, np.uint8)
        if len(data) != len(scanned):
            whole = ~_followed_by_mark(content, ends)
            ends, places = ends[whole], places[whole]
        texts_of = np.searchsorted(np.flatnonzero(content == ord(_BETWEEN)), ends)
        unique = np.unique(texts_of * len(self.entries) + places)
        return np.divmod(unique, len(self.entries))


def _key(entry: str) -> str:
    """What the automaton looks for: the UTF-8 of a pattern, a character for each byte.

    The automaton searches the children of a state one by one, and a state that some thousand Han characters follow
    takes several times as long as three with at most 64 each.
    """
    if _BETWEEN in entry:
        return ""
    key = pattern(entry)
    return key if key.isascii() else key.encode("utf-8", "surrogatepass").decode("latin-1")


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Numbers of texts that are scanned at once. Texts of ASCII are apart: normalising them is cheaper."""
    for ascii_ in (True, False):
        batch: list[int] = []
        size = 0
        for number, text in enumerate(texts):
            if text.isascii() is not ascii_:
                continue
            batch.append(number)
            size += len(text)
            if size >= BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


@lru_cache(maxsize=1)
def _marks() -> NDArray[np.bool_]:
    """By code point: vowels and tones of unspaced scripts that belong to the letter before, and are none themselves."""
    marks = np.zeros(1 << 16, np.bool_)
    for code in range(0x800, 0xFFFF):
        marks[code] = unicodedata.category(chr(code))[0] == "M" and UNSPACED.match(chr(code)) is not None
    return marks


def _followed_by_mark(content: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether one of those marks follows each place of UTF-8 bytes; all of them take three bytes."""
    # A text ends in a space, so two more bytes are enough for whatever stands last.
    padded = np.concatenate([content, np.zeros(3, np.uint8)]).astype(np.int64)
    first, second, third = (padded[ends + offset] for offset in (1, 2, 3))
    code = ((first & 0x0F) << 12) | ((second & 0x3F) << 6) | (third & 0x3F)
    followed: NDArray[np.bool_] = (first & 0xF0 == 0xE0) & _marks()[code]
    return followed
