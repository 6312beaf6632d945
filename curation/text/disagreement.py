"""How far two transcripts of one utterance disagree: edits after normalisation, symmetric, with their parts apart."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

from curation.text.normalisation import Alternatives, is_unspaced, normalise, spoken_alternatives

Unit = Literal["word", "character"]

_CHARACTER_UNITS = re.compile(r"\d+(?:\.\d+)*|\S")
MAX_PASSES = 3
"""Rounds of choosing alternatives; a choice on one side can make one on the other worthwhile."""
MAX_READ_UNITS = 2000
"""Longer texts are no utterances; their numbers are compared as they are written, which takes no time to speak of."""
MAX_EDGE_CHARACTERS = 64
"""Longer heads are no words."""


@dataclass(frozen=True)
class Disagreement:
    """Edits that turn transcript `a` to `b`: what `b` has besides is inserted, what it lacks is deleted."""

    value: float
    """Edits over the length of the longer, 0 to 1; 0 where both are empty, 1 where one is."""
    substitutions: int
    insertions: int
    deletions: int
    length: int
    """Units of the longer transcript."""
    characters: float
    """The same in characters without spaces, whatever the unit."""
    edge_cer: float
    """The worse character error of the two ends: a clipped or foreign word there shows here."""
    unit: Unit


def transcript_disagreement(
    a: str,
    b: str,
    language: str | None,
    *,
    unit: Unit | Literal["auto"] = "auto",
    edge_words: int = 2,
    ignore_spacing: bool = True,
) -> Disagreement:
    """Compare two transcripts: edits / max(length), so that neither is taken for the truth.

    The unit is the word, or the character (code point) where most letters of the two are of a script without spaces.
    Numbers, contractions, titles and fillers count as whichever of their forms agrees best ("3" and "three").

    Args:
        edge_words: words at each end that `edge_cer` looks at; twice as many where characters are counted.
        ignore_spacing: words that differ only in where the spaces are ("ice cream", "icecream") agree.
    """
    first, second = normalise(a, language), normalise(b, language)
    swapped = first > second  # one order for both ways of asking, so that ties between edits fall alike
    if swapped:
        first, second = second, first
    if unit == "auto":
        unit = "character" if is_unspaced(first + second, language) else "word"
    left, right = _agreeing_units(_tokens(first, unit), _tokens(second, unit), language, unit)
    substitutions, insertions, deletions = _edits(left, right, ignore_spacing and unit == "word")
    if swapped:
        insertions, deletions = deletions, insertions
    length = max(len(left), len(right))
    edge = edge_words if unit == "word" else 2 * edge_words
    return Disagreement(
        value=(substitutions + insertions + deletions) / length if length else 0.0,
        substitutions=substitutions,
        insertions=insertions,
        deletions=deletions,
        length=length,
        characters=Levenshtein.normalized_distance("".join(left), "".join(right)),
        edge_cer=max(_head_error(left, right, edge), _head_error(left[::-1], right[::-1], edge)),
        unit=unit,
    )


def _tokens(text: str, unit: Unit) -> list[str]:
    """Words; or characters, where a number is one token as long as it has not been read out."""
    return text.split() if unit == "word" else _CHARACTER_UNITS.findall(text)


def _agreeing_units(left: list[str], right: list[str], language: str | None, unit: Unit) -> tuple[list[str], list[str]]:
    """The units of both, each token in the form that brings the two closest; it stays as it is unless one is better."""
    sides = [[_units((token,), unit) for token in tokens] for tokens in (left, right)]
    if left == right or not left or not right or len(left) + len(right) > MAX_READ_UNITS:
        return _flat(sides[0]), _flat(sides[1])
    forms = [[spoken_alternatives(token, language) for token in tokens] for tokens in (left, right)]
    best = Levenshtein.distance(_flat(sides[0]), _flat(sides[1]))
    for _ in range(MAX_PASSES):
        before = best
        for side in (0, 1):
            heard = set(_flat(sides[1 - side]))
            heard.update(u for alternatives in forms[1 - side] for words in alternatives for u in _units(words, unit))
            for place, alternatives in enumerate(forms[side]):
                best = _choose(sides, side, place, alternatives, heard, unit, best)
        if best == before or best == 0:
            break
    return _flat(sides[0]), _flat(sides[1])


def _choose(
    sides: list[list[list[str]]],
    side: int,
    place: int,
    alternatives: Alternatives,
    heard: set[str],
    unit: Unit,
    best: int,
) -> int:
    """Put the form at `place` that brings the sides closest; returns their distance then."""
    if not alternatives:
        return best
    other = _flat(sides[1 - side])
    start, end = _flat(sides[side][:place]), _flat(sides[side][place + 1 :])
    for words in alternatives:
        units = _units(words, unit)
        if units and heard.isdisjoint(units):
            continue
        distance = Levenshtein.distance([*start, *units, *end], other)
        if distance < best:
            best, sides[side][place] = distance, units
    return best


def _units(words: Sequence[str], unit: Unit) -> list[str]:
    return list(words) if unit == "word" else list("".join(words))


def _flat(units: list[list[str]]) -> list[str]:
    return [unit for token in units for unit in token]


def _edits(left: list[str], right: list[str], ignore_spacing: bool) -> tuple[int, int, int]:
    """Substitutions, insertions, deletions that turn left to right."""
    substitutions = insertions = deletions = 0
    for a, b, parts in _changes(left, right):
        if ignore_spacing and "".join(left[a]) == "".join(right[b]):
            continue
        substitutions += parts["replace"]
        insertions += parts["insert"]
        deletions += parts["delete"]
    return substitutions, insertions, deletions


def _changes(left: list[str], right: list[str]) -> Iterator[tuple[slice, slice, dict[str, int]]]:
    """Runs of adjoining edits: their stretch of left, of right, and the number of each kind of edit."""
    a = b = 0
    parts = {"replace": 0, "insert": 0, "delete": 0}
    for operation in [*Levenshtein.opcodes(left, right), None]:
        if operation is None or operation.tag == "equal":
            a_end, b_end = (operation.src_start, operation.dest_start) if operation else (len(left), len(right))
            if any(parts.values()):
                yield slice(a, a_end), slice(b, b_end), parts
            if operation:
                a, b = operation.src_end, operation.dest_end
            parts = {"replace": 0, "insert": 0, "delete": 0}
        else:
            size = max(operation.src_end - operation.src_start, operation.dest_end - operation.dest_start)
            parts[operation.tag] += size


def _head_error(left: list[str], right: list[str], size: int) -> float:
    """Character error of the first units of either against the start of the other that fits them best."""
    if left[:size] == right[:size]:
        return 0.0
    heads = ["".join(units[:size])[:MAX_EDGE_CHARACTERS] for units in (left, right)]
    return max(_start_error(heads[0], "".join(right)), _start_error(heads[1], "".join(left)))


def _start_error(head: str, other: str) -> float:
    """Edits between the head and the start of the other, of any length, over the head's length; at most 1."""
    if not head or not other:
        return float(bool(head or other))
    starts = (other[:size] for size in range(1, min(2 * len(head), len(other)) + 1))
    return min(1.0, min(Levenshtein.distance(head, start) for start in starts) / len(head))
