"""Text as it is written against text as it is spoken: "£13.60" is one written word and three or four spoken ones.

`read_aloud` keeps the map between the two, so that what is found for the spoken words (times, letters) goes back to
the written one. Numbers in English are read with years, money, ordinals, times and symbols; in other languages
`num2words` reads the bare number where it knows the language.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from curation.text.normalisation import DECIMAL_COMMA, SYMBOL_WORDS, UNSPACED, base_language
from curation.text.numerals import MAX_DIGITS, chinese_digits, chinese_numeral, has_number_words, number_words

YEARS = range(1100, 2100)
"""Four bare digits in this range are read as a year in English ("nineteen eighty-four")."""

_LEANING = frozenset("ーｰゝゞヽヾゃゅょぁぃぅぇぉゎャュョァィゥェォヮｬｭｮｧｨｩｪｫﾞﾟ")
"""Kana that lengthen or bend the one before, and have no time of their own."""
_OPENING = {"Ps", "Pi"}

_CURRENCIES = {
    "£": ("pound", "pounds"),
    "$": ("dollar", "dollars"),
    "€": ("euro", "euros"),
    "¥": ("yen", "yen"),
    "₹": ("rupee", "rupees"),
}
_SYMBOLS = {"&": "and", "@": "at", "+": "plus", "=": "equals", "%": "percent", "°": "degrees", "×": "times"}
_ABBREVIATIONS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "prof": "professor", "vs": "versus", "st": "saint"}
_SCALES = {"k": "thousand", "m": "million", "bn": "billion"}
_ENGLISH = re.compile(
    r"""(?P<currency>[£$€¥₹])?(?P<number>\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d+)
          (?:(?P<ordinal>st|nd|rd|th)\b|(?P<plural>'?s)\b|(?P<scale>k|m|bn)\b)?
      | (?P<word>[^\W\d_]+(?:['][^\W\d_]+)*)
      | (?P<symbol>[&@+=%°×])""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)*)")


@dataclass(frozen=True)
class WrittenWord:
    """One written word and what is said for it: lower-case words without punctuation, none for a mere sign."""

    text: str
    spoken: tuple[str, ...]
    spaced: bool
    """Whether a space stands before it in the text."""


def written_words(text: str) -> list[str]:
    """The words of a text, in order, with their punctuation.

    They are what stands between spaces; in scripts that are written without spaces every character is one (with the
    marks, small kana and punctuation that follow it, and the opening brackets before it).
    """
    return [word for word, _ in _written(text)]


def read_aloud(text: str, language: str | None) -> list[WrittenWord]:
    """The written words of a text, each with what is said for it. `language` is an ISO 639-1 code, or unknown."""
    tag = base_language(language)
    return [WrittenWord(word, tuple(_said(word, tag)), spaced) for word, spaced in _written(text)]


def _written(text: str) -> Iterator[tuple[str, bool]]:
    for run in text.split():
        spaced = True
        for word in _split_run(run):
            yield word, spaced
            spaced = False


def _split_run(run: str) -> list[str]:
    """Cut a run without spaces at every character of an unspaced script; what else there is stays together."""
    if not UNSPACED.search(run):
        return [run]
    words: list[str] = []
    held, before = "", ""  # opening brackets wait for what they open
    for char in run:
        category = unicodedata.category(char)
        leans = category[0] == "M" or char in _LEANING
        alone = bool(UNSPACED.match(char)) and category[0] in "LN"
        if category in _OPENING and not (char.isascii() and before.isalnum()):
            held += char
        elif words and not held and (leans or not (alone or _starts_word(before, char))):
            words[-1] += char
        else:
            words.append(held + char)
            held = ""
        before = char
    if held and words:
        words[-1] += held
    return words or [held]


def _starts_word(before: str, char: str) -> bool:
    """Whether a letter, digit or sign of a spaced script stands first after a character of an unspaced one."""
    after_unspaced = bool(UNSPACED.match(before)) or (unicodedata.category(before)[0] == "P" and not before.isascii())
    return after_unspaced and (char.isalnum() or unicodedata.category(char) == "Sc")


def _said(word: str, language: str) -> list[str]:
    word = unicodedata.normalize("NFKC", word).replace("’", "'").replace("‘", "'")
    if language == "en":
        return list(_said_in_english(word))
    signs = SYMBOL_WORDS.get(language, {})
    said: list[str] = []
    for part in _NUMBER.split(word):
        if _NUMBER.fullmatch(part):
            said += _number_in(part, language)
        else:
            read = "".join(f" {signs[c]} " if c in signs else c for c in part)
            said += [piece for bare in _bare(read).split() if (piece := bare.strip("'"))]
    return said


def _bare(part: str) -> str:
    """Lower-case letters with their marks and apostrophes; everything else becomes a space."""
    return "".join(c if unicodedata.category(c)[0] in "LM" or c == "'" else " " for c in part).lower()


def _said_in_english(word: str) -> Iterator[str]:
    ranged = len(re.findall(r"\d[-–]\d", word)) == 1
    end = 0
    for match in _ENGLISH.finditer(word):
        if ranged and match["number"] and word[end : match.start()] in ("-", "–"):
            yield "to"
        end = match.end()
        if match["word"]:
            said = match["word"].lower()
            yield _ABBREVIATIONS.get(said, said) if word[end : end + 1] == "." else said
        elif match["symbol"]:
            yield _SYMBOLS[match["symbol"]]
        else:
            yield from _english_number(match, word)


def _english_number(match: re.Match[str], word: str) -> Iterator[str]:
    number = match["number"].replace(",", "")
    whole, _, cents = number.partition(".")
    scale = _SCALES.get((match["scale"] or "").lower())
    if currency := match["currency"]:
        in_cents = len(cents) == 2 and scale is None
        amount = whole if in_cents else number
        yield from _words(amount, "en")
        yield from [scale] if scale else []
        yield _CURRENCIES[currency][amount != "1" or scale is not None]
        yield from _words(str(int(cents)), "en") if in_cents and int(cents) else []
    elif match["ordinal"]:
        yield from _words(number, "en", "ordinal")
    elif match["plural"]:
        *head, last = _words(number, "en", _reading(match["number"]))
        yield from [*head, last[:-1] + "ies" if last.endswith("y") else last + "s"]
    elif re.fullmatch(r"\d{1,2}:\d\d", word[max(0, match.start() - 3) : match.end()].lstrip(":")):
        yield from _minutes(number)
    else:
        yield from _words(number, "en", _reading(match["number"]))
        yield from [scale] if scale else []


def _minutes(number: str) -> Iterator[str]:
    """Minutes after an hour: none for :00, "oh five" for :05."""
    if int(number):
        yield from ["oh"] if int(number) < 10 else []
        yield from _words(str(int(number)), "en")


def _reading(number: str) -> str:
    return "year" if len(number) == 4 and number.isdecimal() and int(number) in YEARS else "cardinal"


def _number_in(number: str, language: str) -> list[str]:
    """A bare number read in a language other than English; its digits remain where nobody knows how to read them."""
    point, grouping = (",", ".") if language in DECIMAL_COMMA else (".", ",")
    if re.fullmatch(rf"\d+(?:{re.escape(grouping)}\d{{3}})+(?:{re.escape(point)}\d+)?", number):
        number = number.replace(grouping, "")
    number = number.replace(",", ".").strip(".")
    whole, _, decimals = number.partition(".")
    if language == "zh" and len(whole) <= 8 and "." not in decimals:
        said = re.sub("^一十", "十", chinese_numeral(int(whole)))
        return [said + ("点" + chinese_digits(decimals) if decimals else "")]
    return list(_words(number, language)) if "." not in decimals else [number]


@lru_cache(maxsize=4096)
def _words(number: str, language: str, reading: str = "cardinal") -> tuple[str, ...]:
    """A number such as "1984" or "3.5" in words; the digits one by one where it is long or begins with zeros."""
    if not has_number_words(language):
        return (number,)
    whole, _, decimals = number.partition(".")
    if decimals and language == "en":
        return (*_words(whole, "en"), "point", *(word for digit in decimals for word in _words(digit, "en")))
    if len(number) > MAX_DIGITS or (whole.startswith("0") and len(whole) > 1):
        return tuple(word for digit in number if digit.isdecimal() for word in _words(str(int(digit)), language))
    ascii_number = "".join(c if c == "." else str(int(c)) for c in number)
    said = number_words(ascii_number, language, reading)
    if said is None:
        return (number,)
    return tuple(part for word in re.split(r"[\s,\-]+", said.lower()) if (part := word.strip(".")))
