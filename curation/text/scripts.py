"""Scripts: which a text is written in, and how much of it; its words and characters, counted so that scripts compare.

A character's script is the first word of its Unicode name ("THAI CHARACTER KO KAI"), so there is no table to keep.
"""

import re
import unicodedata
from collections import Counter
from itertools import pairwise

from curation.text.normalisation import UNSPACED

HAN = "Han"
KANA = "Kana"
HANGUL = "Hangul"
LATIN = "Latin"

_NAMED = {
    "CJK": HAN,
    "IDEOGRAPHIC": HAN,
    "BOPOMOFO": HAN,
    "HIRAGANA": KANA,
    "KATAKANA": KANA,
    "KATAKANA-HIRAGANA": KANA,
    "MYANMAR": "Burmese",
    "ORIYA": "Odia",
}
_NO_SCRIPT = {"MODIFIER", "FEMININE", "MASCULINE", "MICRO", "COMBINING", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT"}
"""First words of the names of letters that belong to no script, or to any."""

_RUN = re.compile(r"\S+")
_LATIN_WORD = re.compile(r"[0-9A-Za-z\u00c0-\u024f]+")
_IN_NAMES = {
    "a",
    "an",
    "and",
    "by",
    "da",
    "de",
    "del",
    "der",
    "di",
    "du",
    "for",
    "in",
    "la",
    "le",
    "of",
    "on",
    "s",
    "t",
}
_IN_NAMES |= {"the", "to", "van", "von", "with", "x"}
"""Small words inside titles and names ("The Lord of the Rings"), and what an apostrophe leaves."""


class _Scripts(dict[str, str | None]):
    """The script of each character, filled as characters are met."""

    def __missing__(self, character: str) -> str | None:
        self[character] = found = _script(character)
        return found


def _script(character: str) -> str | None:
    if unicodedata.category(character)[0] not in "LM":
        return None
    words = unicodedata.name(character, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").split()
    if not words or words[0] in _NO_SCRIPT:
        return None
    return _NAMED.get(words[0], words[0].capitalize())


_SCRIPT_OF = _Scripts()


def script_of(character: str) -> str | None:
    """The script of a letter or mark ("Latin", "Han", "Kana", "Thai", "Devanagari", …); None for all else."""
    return _SCRIPT_OF[character]


def script_shares(text: str) -> dict[str, float]:
    """Share of a text's letters and marks by script, largest first; empty where it has none."""
    counts = Counter(script for script in map(_SCRIPT_OF.__getitem__, text) if script is not None)
    total = counts.total()
    return {script: count / total for script, count in _by_size(counts)}


def text_units(text: str) -> list[str]:
    """What stands for a word in any script: words where they are spaced, characters where they are not.

    A word is a run without spaces that has a letter or a digit, without the punctuation at its ends, casefolded. In
    Han, kana, Thai, Lao, Burmese and Khmer each letter is a unit, with the marks that follow it; spaced words inside
    such text ("我用 Python 写") are one unit each.
    """
    units: list[str] = []
    for run in _RUN.findall(text):
        if run.isascii() or not UNSPACED.search(run):
            _add_word(units, run)
            continue
        start = 0
        bounds = [i for i, character in enumerate(run) if UNSPACED.match(character)]
        for i in bounds:
            _add_word(units, run[start:i])
            start = i + 1
            if unicodedata.category(run[i])[0] == "M" and units and i:
                units[-1] += run[i]
            elif run[i].isalnum():
                units.append(run[i])
        _add_word(units, run[start:])
    return units


def unit_counts(text: str) -> tuple[int, int]:
    """How many of a text's units are words of spaced scripts, and how many characters of unspaced ones."""
    units = text_units(text)
    unspaced = 0 if text.isascii() else sum(1 for unit in units if UNSPACED.match(unit))
    return len(units) - unspaced, unspaced


def script_units(text: str) -> dict[str, int]:
    """Units of a text by script, largest first: a Latin word counts as much as a Han character.

    So a brand's three Latin words do not outweigh the seven Han characters around them, as their letters would.
    Where there is kana, Han is Japanese and counts as kana. Units without letters (numbers) belong to no script.
    """
    if text.isascii():
        words = sum(1 for unit in text_units(text) if not unit.isdigit() and any(map(str.isalpha, unit)))
        return {LATIN: words} if words else {}
    counts: Counter[str] = Counter()
    for unit in text_units(text):
        letter = next((script for script in map(_SCRIPT_OF.__getitem__, unit) if script is not None), None)
        if letter is not None:
            counts[letter] += 1
    if KANA in counts and HAN in counts:
        counts[KANA] += counts.pop(HAN)
    return dict(_by_size(counts))


def mixes_scripts_within_words(text: str) -> bool:
    """Whether Latin and Cyrillic letters stand side by side, as homoglyphs do ("pаypal" with a Cyrillic а)."""
    if text.isascii():
        return False
    scripts = [_SCRIPT_OF[character] for character in text]
    return any({a, b} == {LATIN, "Cyrillic"} for a, b in pairwise(scripts))


def latin_is_names(text: str) -> bool:
    """Whether every Latin word of a text is written as a name: with a capital or a digit, or "of" and its like."""
    words = _LATIN_WORD.findall(text)
    return all(word in _IN_NAMES or not word.islower() or any(map(str.isdigit, word)) for word in words)


def special_share(text: str) -> float:
    """Share of a text's characters, spaces apart, that are punctuation, symbols or controls: 0 to 1.

    Digits are not among them, though ROOTS (Laurençon et al. 2022) counts them and spaces: captions are full of years
    and models ("1967 Ford Mustang"), and spaces would be a fifth of plain English.
    """
    marks = sum(1 for character in text if not (character.isalnum() or character.isspace() or _belongs(character)))
    spaces = sum(map(str.isspace, text))
    return marks / (len(text) - spaces) if len(text) > spaces else 0.0


def _add_word(units: list[str], run: str) -> None:
    if run.isalnum():
        units.append(run.casefold())
        return
    first = next((i for i, character in enumerate(run) if _belongs(character)), None)
    if first is None:
        return
    last = next(i for i in range(len(run) - 1, -1, -1) if _belongs(run[i]))
    word = run[first : last + 1]
    if any(map(str.isalnum, word)):
        units.append(word.casefold())


def _belongs(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def _by_size(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
