"""Overlap of recordings: which recording of an evaluation set has a stretch of sound in common with a row.

As in Haitsma and Kalker (2002), section 5: positions where a sub-fingerprint is equal, or one bit off, are looked up,
and the bits around each are compared. Either side may be an excerpt of the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.decontamination.audio_fingerprint import SILENCE, Bits
from curation.decontamination.equal_keys import Positions, equal_pairs

BLOCK = 256
"""Sub-fingerprints of a block, 3 s: what the paper's limit of .35 is for."""

COMMON = 10_000
"""A sub-fingerprint that appears in more places says nothing (a metronome for hours), and is not looked up. Some 40
minutes of speech have none at more than 12."""

UNRELATED = 0.5
"""Share of bits that differ between sounds that have nothing to do with each other."""

LOOKED_UP_AT_ONCE = 4096
CANDIDATES_AT_ONCE = 2048
"""No result depends on these two."""


@dataclass(frozen=True)
class SoundMatch:
    """What a row shares with the items; without a match, `item` is -1 and `bit_error` is that of unrelated sound.

    Attributes:
        bit_error: share of bits that differ, in the best block.
        item: the number of that item.
        row_at, item_at: a sub-fingerprint of the block in the row, and the one of the item that it lies on.
    """

    bit_error: float = UNRELATED
    item: int = -1
    row_at: int = 0
    item_at: int = 0


class SoundIndex:
    """The sub-fingerprints of items, to be looked up."""

    def __init__(
        self, items: Sequence[Bits], set_of_item: Positions, min_frames: int, content: Sequence[str] = ()
    ) -> None:
        """
        Args:
            set_of_item: the number of each item's set, which ascends.
            min_frames: sub-fingerprints, silent ones not counted, that a stretch in common has at least.
            content: hash of each item's file.
        """
        self._content: dict[str, int] = {}
        for number, one in enumerate(content):
            self._content.setdefault(one, number)
        self.sets = set_of_item
        self.min_frames = min_frames
        # A block's width of silence after each item, so that no stretch reaches from one to the next.
        gap = np.full(2 * BLOCK, SILENCE, np.uint32)
        self._bits = np.concatenate([gap, *(part for bits in items for part in (bits, gap))])
        self._start = np.cumsum([len(gap), *(len(bits) + len(gap) for bits in items)])[: len(items)]
        places = np.flatnonzero(self._bits != SILENCE)
        self._places = places[np.argsort(self._bits[places], kind="stable")]
        self._keys = self._bits[self._places]
        _, which, counts = np.unique(self._keys, return_inverse=True, return_counts=True)
        telling = counts[which] <= COMMON
        self._places, self._keys = self._places[telling], self._keys[telling]

    def match(self, row: Bits, max_bit_error: float, content: str | None = None) -> SoundMatch:
        """The item that a row has sound in common with.

        Of several it is one with at most `max_bit_error`, if there is one, of the first such set; then the one with
        the least error; then the first.

        Args:
            content: hash of the row's file; an item with the same has no error.
        """
        row_at, item_at = self._candidates(row)
        error = self._bit_errors(row, row_at, item_at)
        item = np.searchsorted(self._start, item_at, "right") - 1
        if (same := self._content.get(content or "")) is not None:
            row_at, item_at = np.append(row_at, 0), np.append(item_at, self._start[same])
            error, item = np.append(error, 0.0), np.append(item, same)
        reached = error <= max_bit_error
        ranks = (~reached, np.where(reached, self.sets[item], 0), error, item, item_at, row_at)
        order = np.lexsort(ranks[::-1])
        if not len(order) or error[order[0]] >= UNRELATED:
            return SoundMatch()
        best, number = order[0], int(item[order[0]])
        return SoundMatch(float(error[best]), number, int(row_at[best]), int(item_at[best] - self._start[number]))

    def _candidates(self, row: Bits) -> tuple[Positions, Positions]:
        """Positions in the row and in all items that lie on each other where a sub-fingerprint is equal but for a bit.

        Of those with one offset, one in each quarter of a block is enough.
        """
        places = np.flatnonzero(row != SILENCE)
        flips = np.concatenate([[0], 1 << np.arange(32)]).astype(np.uint32)
        found: list[tuple[Positions, Positions]] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        for start in range(0, len(places), LOOKED_UP_AT_ONCE):
            some = places[start : start + LOOKED_UP_AT_ONCE]
            for flip in flips:
                for place, at in equal_pairs(row[some] ^ flip, self._keys):
                    found.append(self._one_a_quarter(some[place], self._places[at]))
        return self._one_a_quarter(*(np.concatenate([pair[i] for pair in found]) for i in range(2)))

    def _one_a_quarter(self, row_at: Positions, item_at: Positions) -> tuple[Positions, Positions]:
        quarter = row_at // (BLOCK // 4)
        line = (item_at - row_at) * (1 + int(quarter.max(initial=0))) + quarter
        order = np.lexsort((row_at, line))
        _, first = np.unique(line[order], return_index=True)
        return row_at[order[first]], item_at[order[first]]

    def _bit_errors(self, row: Bits, row_at: Positions, item_at: Positions) -> NDArray[np.float64]:
        """The least error of the blocks around each pair of positions.

        Silence on either side is left out. The error of n < 256 sub-fingerprints is set against more chance: its
        distance from ½ is taken times √(n / 256), so that one limit has the same sense for all.
        """
        padded = np.pad(row, BLOCK, constant_values=SILENCE)
        around = np.arange(-BLOCK + 1, BLOCK)
        least = [np.zeros(0)]
        for start in range(0, len(row_at), CANDIDATES_AT_ONCE):
            some = slice(start, start + CANDIDATES_AT_ONCE)
            mine = padded[BLOCK + row_at[some, None] + around]
            theirs = self._bits[item_at[some, None] + around]
            heard = (mine != SILENCE) & (theirs != SILENCE)
            count = _block_sums(heard)
            wrong = _block_sums(np.where(heard, np.bitwise_count(mine ^ theirs), 0))
            share = wrong / np.maximum(32 * count, 1)
            error = 0.5 - (0.5 - share) * np.sqrt(count / BLOCK)
            least.append(np.where(count >= self.min_frames, error, UNRELATED).min(axis=1))
        return np.concatenate(least)


def _block_sums(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Sums of BLOCK neighbours along the rows, at every place."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1), np.int64)
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums[:, BLOCK:] - sums[:, :-BLOCK]
