"""Repetition in a text: what a model that is caught in a loop writes, and a page that is stuffed with words."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Literal

from curation.text.normalisation import is_unspaced, normalise

Unit = Literal["word", "character"]


def compression_ratio(text: str) -> float:
    """Bytes of a text over bytes of it compressed by zlib: Whisper's sign of a loop (Radford et al. 2022, section 4.5).

    Text that Latin-1 can write gives about Whisper's figure. Any other is first coded with one byte a character (two
    where it has more than 256 kinds): in UTF-8 the scripts of three bytes compress well with no repetition at all. The
    ratio grows with length; it is meant for the some 30 seconds of an utterance. An empty text has 1.
    """
    data = _byte_per_character(text)
    return len(data) / len(zlib.compress(data)) if data else 1.0


def _byte_per_character(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        codes = {character: code for code, character in enumerate(dict.fromkeys(text))}
        width = 1 if len(codes) <= 256 else 2
        return b"".join(codes[character].to_bytes(width, "big") for character in text)


@dataclass(frozen=True)
class Loop:
    """An n-gram that stands several times back to back."""

    ngram: str
    count: int
    repeated: int
    """Units beyond the first standing: (count - 1) * n."""
    unit: Unit


def looped_ngram(text: str, language: str | None, n_max: int = 40, min_repeats: int = 2) -> Loop | None:
    """The n-gram that repeats back to back over the longest stretch, or None; of equals the shortest n-gram.

    Units are normalised words, or characters in unspaced scripts.

    Args:
        n_max: the longest n-gram looked for, in units.
        min_repeats: fewer standings are no loop.
    """
    units, unit = _units(text, language)
    if len(set(units)) == len(units):
        return None
    best: Loop | None = None
    for n in range(1, min(n_max, len(units) // min_repeats) + 1):
        start, matches = _longest_run(units, n)
        count = matches // n + 1
        if count >= min_repeats and (best is None or (count - 1) * n > best.repeated):
            ngram = (" " if unit == "word" else "").join(units[start : start + n])
            best = Loop(ngram, count, (count - 1) * n, unit)
    return best


def repeated_share(text: str, language: str | None, n: int = 3) -> float:
    """Share of a text's n-grams that stood in it before, back to back or not: 0 to 1; 0 for a text of fewer units."""
    units, _ = _units(text, language)
    ngrams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def character_repetition(text: str, n: int = 10) -> float:
    """ROOTS' ratio: Σ counts of the √N most frequent of the N distinct character n-grams, those that stand once left
    out, over all n-grams. 0 to 1; 0 for a text of fewer characters.
    """
    counts = sorted(Counter(text[i : i + n] for i in range(len(text) - n + 1)).values(), reverse=True)
    repeated = sum(1 for count in counts if count > 1)
    return sum(counts[: min(isqrt(len(counts)), repeated)]) / sum(counts) if counts else 0.0


def word_repetition(units: Sequence[str], n: int = 5) -> float:
    """ROOTS' ratio: Σ counts of the word n-grams that stand more than once, over all n-grams. 0 to 1."""
    counts = Counter(tuple(units[i : i + n]) for i in range(len(units) - n + 1))
    return sum(count for count in counts.values() if count > 1) / counts.total() if counts else 0.0


def looped_share(
    units: Sequence[str], longest_ngram: int = 40, min_repeats: int = 3, doubled_ngram: int = 4, min_units: int = 3
) -> float:
    """Share of units beyond the first standing of the n-gram that stands back to back over the longest stretch.

    An n-gram has at most `longest_ngram` units, or half of all, so time is linear in their number.

    Args:
        min_repeats: fewer standings are no loop ("New York, New York"),
        doubled_ngram: save for n-grams of at least this size (a sentence doubled).
        min_units: fewer units beyond the first standing are none ("row, row, row your boat").
    """
    if len(set(units)) == len(units):
        return 0.0
    best, half = 0, len(units) // 2
    for n in sorted({*range(1, min(longest_ngram, half) + 1), half}):
        repeats = _longest_run(units, n)[1] // n + 1
        looped = (repeats - 1) * n
        if looped >= min_units and repeats >= (2 if n >= doubled_ngram else min_repeats):
            best = max(best, looped)
    return best / len(units)


def _units(text: str, language: str | None) -> tuple[list[str], Unit]:
    text = normalise(text, language)
    if is_unspaced(text, language):
        return [character for character in text if character != " "], "character"
    return text.split(), "word"


def _longest_run(units: Sequence[str], n: int) -> tuple[int, int]:
    """Where the longest run of units that equal the one n later starts, and its length."""
    end = best = run = 0
    for i, (unit, later) in enumerate(zip(units, units[n:], strict=False)):
        run = run + 1 if unit == later else 0
        if run > best:
            end, best = i + 1, run
    return end - best, best
