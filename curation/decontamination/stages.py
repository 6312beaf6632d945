"""Rows that repeat an item of an evaluation set are rejected, with the set's name in the reason: `in_coco-val`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.decontamination.audio_fingerprint import STEP_S, Bits, fingerprint
from curation.decontamination.equal_keys import Positions
from curation.decontamination.evaluation_sets import EvaluationSet, Kind
from curation.decontamination.known_items import known_images, known_sounds, known_texts
from curation.decontamination.ngram_overlap import NgramSize
from curation.media.audio import decode_blocks
from curation.media.spans import clips_of
from curation.ranges import Count, Positive, Share, check
from curation.stage import Stage, measure_each, reject, with_column
from curation.vision.colour_signature import signatures_of
from curation.vision.image_checks import ImageQuality

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SetsStage(Stage):
    """A stage that compares rows with the items of evaluation sets. The first set that has a row names it.

    The sets are read in each process once, when the first rows come.
    """

    sets: tuple[EvaluationSet, ...] = ()

    def kind(self) -> Kind:
        raise NotImplementedError

    def missing(self) -> str | None:
        lacking = [reason for one in self.sets if (reason := one.missing(self.kind()))]
        return "; ".join(lacking) or super().missing()

    def decided(self, rows: pa.Table, hits: Mask, set_of_row: Positions, value: str, limit: float) -> pa.Table:
        """Reject the rows that are hit, each for the set of its number.

        Args:
            value: the column that was compared with the limit.
        """
        for number, one in enumerate(self.sets):
            mask = hits & (set_of_row == number)
            if mask.any():
                rows = reject(rows, pa.array(mask), f"in_{one.name}", value=rows[value], limit=limit)
        return rows


@dataclass(frozen=True)
class TextOverlap(SetsStage):
    """Reject texts that repeat an item of an evaluation set, by n-grams (Brown et al. 2020, appendix C).

    Measured is the share of n-grams that a text has in common with an item, among those of the shorter one: a document
    that holds a whole item has 1, and so has a caption that is a piece of one. Texts and items too short for an n-gram
    are the same where all their words are; see `NgramSize` for which are looked for.

    Attributes:
        min_share: from this on a text is rejected. A phrase that both quote is little of either.
    """

    column: str = "text"
    min_share: Share = 0.5
    ngram_words: Count = 13
    ngram_characters: Count = 20
    min_whole_words: Count = 4
    min_contained_words: Count = 8

    packages = ("numpy", "xxhash")

    def __post_init__(self) -> None:
        check(self.min_share > 0, f"min_share: {self.min_share} would reject every text")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> tuple[str, ...]:
        return (f"{self.column}_overlap", f"{self.column}_overlap_with")

    def kind(self) -> Kind:
        return "text"

    def __call__(self, rows: pa.Table) -> pa.Table:
        size = NgramSize(self.ngram_words, self.ngram_characters, self.min_whole_words, self.min_contained_words)
        known = known_texts(self.sets, size)
        found = known.index.overlap(rows[self.column].to_pylist(), self.min_share)
        share, item = self.writes
        rows = with_column(rows, share, pa.array(found.share))
        rows = with_column(rows, item, known.names_of(found.item))
        return self.decided(rows, found.share >= self.min_share, known.sets_of(found.item), share, self.min_share)


@dataclass(frozen=True)
class ImageOverlap(SetsStage):
    """Reject images that are in an evaluation set: the same bytes, or a perceptual hash within some bits of 64.

    Scaled and compressed images are found; crops, flips and overlaid text are not, and blank images are compared
    by their bytes alone.

    Attributes:
        quality: measures the sets' images, as it measured the rows'.
        min_hash_bits: a hash with fewer bits set, or not set, is compared with none.
        max_colour_distance: how far colours may be apart, of 255, in the cell where they differ most. It is wide, since
            a tinted copy of an item is a copy; a grey one is compared by brightness alone. Null leaves colour out.
    """

    max_distance: int = 4
    min_hash_bits: Count = 8
    quality: ImageQuality = field(default_factory=ImageQuality)
    max_colour_distance: Positive | None = 48.0

    reads = ("image_hash", "perceptual_hash", "colour_signature")
    writes = ("image_distance", "image_overlap_with")
    packages = ("pillow", "numpy")
    version = 2

    def __post_init__(self) -> None:
        check(0 <= self.max_distance < 32, f"max_distance: {self.max_distance} is not in 0 to 31 bits")

    def kind(self) -> Kind:
        return "image"

    def __call__(self, rows: pa.Table) -> pa.Table:
        colour = self.max_colour_distance
        known = known_images(self.sets, self.quality, self.max_distance, self.min_hash_bits, colour)
        hashes = rows["perceptual_hash"].cast(pa.uint64(), safe=False).fill_null(0).to_numpy()
        colours = signatures_of(rows["colour_signature"])
        found = known.index.nearest(rows["image_hash"].to_pylist(), hashes, colours)
        hits = found.item >= 0
        rows = with_column(rows, "image_distance", pa.array(found.distance, mask=~hits))
        rows = with_column(rows, "image_overlap_with", known.names_of(found.item))
        return self.decided(rows, hits, known.sets_of(found.item), "image_distance", self.max_distance)


@dataclass(frozen=True)
class AudioFingerprint(Stage):
    """Measure the audio fingerprint of each row's sound: of its `span`, or of the whole recording."""

    whole: bool = False

    writes = ("audio_fingerprint",)
    locators = ("uri",)
    packages = ("av", "numpy")
    costly = True

    @property
    def reads(self) -> tuple[str, ...]:
        return ("media_hash", "channel") if self.whole else ("span",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        columns = {"audio_fingerprint": pa.list_(pa.uint32())}
        return measure_each(rows, columns, self._measure, reads=[*self.reads, "uri"])

    def _measure(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.whole:
            blocks = decode_blocks(row["uri"], content=row["media_hash"], channel=row["channel"])
            return {"audio_fingerprint": fingerprint(blocks)}
        span = row["span"]
        clips = clips_of(row["uri"], span["source"], [(span["start"], span["end"])], span["channel"])
        return {"audio_fingerprint": fingerprint(clips)}


@dataclass(frozen=True)
class AudioOverlap(SetsStage):
    """Reject rows whose sound is in an evaluation set, in whole or in part, or holds a part of it.

    A recording that is too short for `min_common_s` is found by the bytes of its file alone.

    Attributes:
        whole: rows are recordings, not spans of them.
        max_bit_error: of a stretch of 3 s, the limit of Haitsma and Kalker (2002); unrelated sound has .5; a shorter
            stretch must be nearer. See `SoundIndex`.
        min_common_s: a shorter common stretch, without silence, does not count.
    """

    whole: bool = False
    max_bit_error: Share = 0.35
    min_common_s: Positive = 0.75

    writes = ("audio_bit_error", "audio_overlap_with", "audio_overlap_at_s")
    packages = ("av", "numpy")

    def __post_init__(self) -> None:
        check(self.max_bit_error < 0.5, f"max_bit_error: {self.max_bit_error} is not below .5, as of unrelated sound")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("audio_fingerprint", "media_hash" if self.whole else "span")

    def kind(self) -> Kind:
        return "audio"

    def __call__(self, rows: pa.Table) -> pa.Table:
        known = known_sounds(self.sets, round(self.min_common_s / STEP_S))
        content = rows["media_hash"] if self.whole else pc.struct_field(rows["span"], "source")
        sounds = zip(rows["audio_fingerprint"], content.to_pylist(), strict=True)
        found = [known.index.match(_bits(sound), self.max_bit_error, media) for sound, media in sounds]
        error, item = np.array([one.bit_error for one in found]), np.array([one.item for one in found], np.int64)
        at_s = [None if one.item < 0 else one.item_at * STEP_S for one in found]
        rows = with_column(rows, "audio_bit_error", pa.array(error, mask=item < 0))
        rows = with_column(rows, "audio_overlap_with", known.names_of(item))
        rows = with_column(rows, "audio_overlap_at_s", at_s, pa.float64())
        hits = (item >= 0) & (error <= self.max_bit_error)
        return self.decided(rows, hits, known.sets_of(item), "audio_bit_error", self.max_bit_error)


def _bits(row: pa.ListScalar) -> Bits:
    """A fingerprint out of its column; a null one is empty."""
    return np.asarray(row.values.to_numpy() if row.is_valid else (), np.uint32)
