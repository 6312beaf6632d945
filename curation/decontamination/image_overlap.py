"""Overlap of images: which image of an evaluation set has the same bytes, or looks the same by its hash.

A perceptual hash (Zauner 2010) survives scaling and compression. It does not survive a crop or a flip. It looks at
brightness alone, so colours are compared besides, roughly: a tinted or a grey copy of an item is one, another flag is
not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.decontamination.equal_keys import Positions, equal_pairs, first_of_each
from curation.diversity.near_hashes import bands
from curation.vision.colour_signature import Signatures, colour_distance
from curation.vision.perceptual_hash import hamming_distance

HASH_BITS = 64

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class NearestImage:
    """One row per image that was looked up.

    Attributes:
        distance: bits that differ, 0 for equal bytes; -1 where nothing is near.
        item: the number of that item, or -1.
    """

    distance: NDArray[np.int32]
    item: Positions


class ImageIndex:
    """Hashes of items' images, in bands, to be looked up within a distance.

    Hashes are looked up by bands that two near ones have in common (see `curation.diversity.near_hashes`), so that a
    look-up compares only items with equal bands, and misses none.
    """

    def __init__(
        self,
        content: Sequence[str],
        hashes: Hashes,
        set_of_item: Positions,
        distance: int,
        least: int,
        colours: Signatures | None = None,
        colour: float | None = None,
    ):
        """
        Args:
            content: hash of each item's bytes.
            set_of_item: the number of each item's set.
            distance: the largest that counts, 0 to 63.
            least: a hash with fewer bits set, or fewer not set, is compared with none: it is that of a plane, or of a
                single soft edge, which many images share.
            colours: signature of each item's colours.
            colour: how far colours may be apart (`colour_distance`, with grey copies); None where they do not count.
        """
        self.distance = distance
        self.least = least
        self.sets = set_of_item
        self.colour = colour
        self._content: dict[str, int] = {}
        for number, one in enumerate(content):
            self._content.setdefault(one, number)
        self._telling = np.flatnonzero(self._tells(hashes))
        self._hashes = hashes[self._telling]
        self._colours = None if colours is None or colour is None else colours[self._telling]
        keys = [key for key, _ in bands(distance, len(self._hashes)).choices()]
        self._orders = [(key, np.argsort(self._hashes & key, kind="stable")) for key in keys]

    def nearest(self, content: Sequence[str | None], hashes: Hashes, colours: Signatures | None = None) -> NearestImage:
        """For each image the item of the first set that it is near to; there the nearest, then the first.

        Args:
            hashes: 0 where there is none.
            colours: signatures, where colours count.
        """
        found: list[tuple[Positions, Positions, Positions]] = [self._same_bytes(content)]
        telling = np.flatnonzero(self._tells(hashes))
        wanted = hashes[telling]
        for key, order in self._orders:
            for place, at in equal_pairs(wanted & key, (self._hashes & key)[order]):
                item = order[at]
                distance = hamming_distance(wanted[place], self._hashes[item]).astype(np.int64)
                near = distance <= self.distance
                place, item, distance = place[near], item[near], distance[near]
                if self._colours is not None and colours is not None and self.colour is not None:
                    apart = colour_distance(colours[telling[place]], self._colours[item], grey_copies=True)
                    near = apart <= self.colour
                    place, item, distance = place[near], item[near], distance[near]
                found.append((telling[place], self._telling[item], distance))
        row, item, distance = (np.concatenate([match[i] for match in found]) for i in range(3))
        best = first_of_each(row, self.sets[item], distance, item)
        nearest = NearestImage(np.full(len(hashes), -1, np.int32), np.full(len(hashes), -1))
        nearest.distance[row[best]], nearest.item[row[best]] = distance[best], item[best]
        return nearest

    def _same_bytes(self, content: Sequence[str | None]) -> tuple[Positions, Positions, Positions]:
        pairs = [(row, self._content[one]) for row, one in enumerate(content) if one in self._content]
        row, item = np.array(pairs, np.int64).reshape(-1, 2).T
        return row, item, np.zeros(len(row), np.int64)

    def _tells(self, hashes: Hashes) -> NDArray[np.bool_]:
        bits = np.bitwise_count(hashes)
        return np.asarray((bits >= self.least) & (bits <= HASH_BITS - self.least))
