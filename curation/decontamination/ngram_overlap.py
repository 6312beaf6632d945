"""Overlap of texts in n-grams: which item of an evaluation set a text repeats, and how much of it.

N-grams of 13 words, compared without case and punctuation, are those of GPT-3 (Brown et al. 2020, appendix C). Scripts
without spaces have characters for words, 20 to an n-gram; where both are mixed, each unit counts by its share.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np
import xxhash
from numpy.typing import NDArray

from curation.decontamination.equal_keys import Positions, equal_pairs, first_of_each
from curation.diversity.lexicon import spaced
from curation.text.normalisation import UNSPACED

Hashes = NDArray[np.uint64]

BASE = 0x9E3779B97F4A7C15
"""Of the polynomial that hashes an n-gram modulo 2^64; odd, so that it has an inverse."""
INVERSE = pow(BASE, -1, 1 << 64)

_ASCII_WORDS = re.compile(r"[a-z0-9]+")


def units(text: str) -> list[str]:
    """Words of a text, or characters in scripts without spaces; in NFKC, case folded, without punctuation and signs."""
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower())
    found: list[str] = []
    for token in spaced(text).split():
        if UNSPACED.match(token):
            found += token
        elif token[0].isalnum():
            found.append(token)
    return found


@dataclass(frozen=True)
class NgramSize:
    """How long an n-gram is, and which texts are shorter.

    Attributes:
        words, characters: units of an n-gram, in scripts with spaces and without.
        min_whole_words: a shorter item is looked for nowhere ("yes", "a dog"); in characters by the same proportion.
        min_contained_words: an item below `words` but not below this is also looked for inside longer texts; a shorter
            one only as the whole of a text.
    """

    words: int = 13
    characters: int = 20
    min_whole_words: int = 4
    min_contained_words: int = 8

    @property
    def weight(self) -> int:
        """Of an n-gram: both n words and n characters come to it, and so does any mixture."""
        return lcm(self.words, self.characters)

    @property
    def word_weight(self) -> int:
        return self.weight // self.words

    @property
    def character_weight(self) -> int:
        return self.weight // self.characters


@dataclass(frozen=True)
class Units:
    """Texts as hashed units, one after the other.

    Attributes:
        start: where each text begins, and the end of the last; [texts + 1].
        hashes: of each unit; [units].
        weight: running sum of units' weights, from 0; [units + 1].
    """

    start: Positions
    hashes: Hashes
    weight: Positions

    @classmethod
    def of(cls, texts: Sequence[str | None], size: NgramSize) -> "Units":
        words = [units(text) if text else [] for text in texts]
        flat = [word for some in words for word in some]
        encoded = (word.encode("utf-8", "surrogatepass") for word in flat)
        hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, encoded), np.uint64, len(flat))
        character = np.fromiter((UNSPACED.match(word) is not None for word in flat), bool, len(flat))
        weight = np.where(character, size.character_weight, size.word_weight)
        return cls(_sums([len(some) for some in words]), hashes, _sums(weight))

    @property
    def counts(self) -> Positions:
        """Units of each text."""
        return np.diff(self.start)

    @property
    def weights(self) -> Positions:
        """Weight of each text."""
        return np.diff(self.weight[self.start])

    def windows(self, weight: int) -> tuple[Positions, Positions, Positions]:
        """Every stretch that first comes to a weight within its text: its text, first unit, and the unit after it."""
        text = np.repeat(np.arange(len(self.counts)), self.counts)
        first = np.arange(len(self.hashes))
        end = np.searchsorted(self.weight, self.weight[:-1] + weight, "left")
        inside = end <= self.start[text + 1]
        return text[inside], first[inside], end[inside]

    def stretches(self, length: int) -> tuple[Positions, Positions, Positions]:
        """As `windows`, of so many units, whatever their weight."""
        text = np.repeat(np.arange(len(self.counts)), self.counts)
        first = np.arange(len(self.hashes))
        inside = first + length <= self.start[text + 1]
        return text[inside], first[inside], first[inside] + length

    def stretch_hashes(self, first: Positions, end: Positions) -> Hashes:
        """Of the units in [first, end): Σ h_k B^(k - first), with their number mixed in."""
        powers = _powers(BASE, len(self.hashes))
        sums = np.zeros(len(self.hashes) + 1, np.uint64)
        np.cumsum(self.hashes * powers, out=sums[1:])
        values = (sums[end] - sums[first]) * _powers(INVERSE, len(self.hashes) + 1)[first]
        values += (end - first).astype(np.uint64)
        values ^= values >> np.uint64(32)
        return np.asarray(values, np.uint64)


@dataclass(frozen=True)
class Overlap:
    """What texts share with items, one row per text.

    Attributes:
        share: of n-grams that a text and an item share, among those of the one that has fewer; the largest.
        item: that item's number, -1 where nothing is shared.
    """

    share: NDArray[np.float64]
    item: Positions


class NgramIndex:
    """The n-grams of items, to be looked up. Items keep their order, and the earlier one wins among equals."""

    def __init__(self, items: Sequence[str], set_of_item: Positions, size: NgramSize) -> None:
        """
        Args:
            set_of_item: the number of each item's set.
        """
        self.size = size
        self.sets = set_of_item
        texts = Units.of(items, size)
        item, first, end = texts.windows(size.weight)
        item, hashes = _each_once(item, texts.stretch_hashes(first, end))
        self.ngrams = np.bincount(item, minlength=len(items))
        order = np.lexsort((item, hashes))
        self._hashes, self._items = hashes[order], item[order]
        self._short = self._short_items(texts)

    def _short_items(self, texts: Units) -> list[tuple[int, bool, Hashes, Positions]]:
        """Items shorter than an n-gram by their number of units: whether they are looked for inside texts, their
        hashes in order, their numbers."""
        short = (texts.weights < self.size.weight) & (
            texts.weights >= self.size.min_whole_words * self.size.word_weight
        )
        contained = texts.weights >= self.size.min_contained_words * self.size.word_weight
        found = []
        for length in np.unique(texts.counts[short]).tolist():
            for inside in (False, True):
                item = np.flatnonzero(short & (texts.counts == length) & (contained == inside))
                hashes = texts.stretch_hashes(texts.start[item], texts.start[item + 1])
                order = np.lexsort((item, hashes))
                if len(item):
                    found.append((length, inside, hashes[order], item[order]))
        return found

    def overlap(self, rows: Sequence[str | None], min_share: float) -> Overlap:
        """What each row shares with the items.

        Of several items it is one that `min_share` is reached with, if there is one, of the first such set; then the
        one of the largest share; then the first.
        """
        texts = Units.of(rows, self.size)
        found = [*self._long_matches(texts), *self._short_matches(texts)]
        row, item, share = (np.concatenate([match[i] for match in found]) for i in range(3))
        reached = share >= min_share
        best = first_of_each(row, ~reached, np.where(reached, self.sets[item], 0), -share, item)
        shares, items = np.zeros(len(rows)), np.full(len(rows), -1)
        shares[row[best]], items[row[best]] = share[best], item[best]
        return Overlap(shares, items)

    def _long_matches(self, texts: Units) -> Iterator[tuple[Positions, Positions, NDArray[np.float64]]]:
        """(row, item, share) of rows and items that share an n-gram."""
        row, first, end = texts.windows(self.size.weight)
        row, hashes = _each_once(row, texts.stretch_hashes(first, end))
        own = np.bincount(row, minlength=len(texts.counts))
        pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
        for place, at in equal_pairs(hashes, self._hashes):
            some, number = np.unique(row[place] * len(self.sets) + self._items[at], return_counts=True)
            pairs, where = np.unique(np.concatenate([pairs, some]), return_inverse=True)
            counts = np.bincount(where, np.concatenate([counts, number])).astype(np.int64)
        rows, items = np.divmod(pairs, max(len(self.sets), 1))
        yield rows, items, counts / np.minimum(own[rows], self.ngrams[items])

    def _short_matches(self, texts: Units) -> Iterator[tuple[Positions, Positions, NDArray[np.float64]]]:
        """(row, item, 1) of rows that are, or hold, an item shorter than an n-gram."""
        for length, inside, hashes, items in self._short:
            row, first, end = texts.stretches(length)
            if not inside:
                whole = texts.counts[row] == length
                row, first, end = row[whole], first[whole], end[whole]
            for place, at in equal_pairs(texts.stretch_hashes(first, end), hashes):
                yield row[place], items[at], np.ones(len(place))


def _each_once(owner: Positions, hashes: Hashes) -> tuple[Positions, Hashes]:
    """Owners and hashes without repeats of both."""
    order = np.lexsort((hashes, owner))
    owner, hashes = owner[order], hashes[order]
    new = np.ones(len(owner), bool)
    new[1:] = (np.diff(owner) != 0) | (hashes[1:] != hashes[:-1])
    return owner[new], hashes[new]


def _powers(base: int, count: int) -> Hashes:
    """1, base, base² … modulo 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.asarray(np.multiply.accumulate(factors), np.uint64)


def _sums(values: Sequence[int] | NDArray[np.integer]) -> Positions:
    """Running sums, from 0."""
    return np.concatenate([[0], np.cumsum(values, dtype=np.int64)]).astype(np.int64)
