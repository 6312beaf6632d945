"""Text in Latin letters: what a multilingual aligner spells, and a length that compares across scripts.

As in MMS (Pratap et al. 2023, section 3.1.2) every script is romanised by uroman to a-z. Before that numbers are
spoken out, and Chinese characters in Japanese text are turned to kana (uroman reads them as Mandarin).
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from curation.errors import EngineMissing, LanguageUnsupported
from curation.text.normalisation import base_language
from curation.text.numbers import WrittenWord, read_aloud

PACKAGES = ("num2words", "uroman")
"""Distributions whose versions shape a romanisation."""
LANGUAGE_PACKAGES = ("sudachipy", "sudachidict-core")
"""The same, for some languages alone."""

_ISO_639_3 = {
    "ar": "ara", "be": "bel", "bg": "bul", "de": "deu", "el": "ell", "en": "eng", "fa": "fas", "ja": "jpn",
    "kk": "kaz", "ky": "kir", "lt": "lit", "lv": "lav", "mk": "mkd", "os": "oss", "ps": "pus", "ru": "rus",
    "sr": "srp", "tr": "tur", "ug": "uig", "uk": "ukr", "yi": "yid", "zh": "zho",
}  # fmt: skip
"""Languages for which uroman has rules of their own; it reads the others by script."""
_CHINESE_NUMERALS = {
    "零": "ling", "〇": "ling", "一": "yi", "二": "er", "两": "liang", "兩": "liang", "三": "san",
    "四": "si", "五": "wu", "六": "liu", "七": "qi", "八": "ba", "九": "jiu", "十": "shi",
    "百": "bai", "千": "qian", "万": "wan", "萬": "wan", "亿": "yi", "億": "yi",
}  # fmt: skip
"""uroman turns these to digits, which nobody speaks."""


@dataclass(frozen=True)
class RomanToken:
    """One written word with its sound in a-z (and apostrophes, inside the word); "" where it has none."""

    text: str
    letters: str
    spaced: bool
    """Whether a space stands before it in the text."""


def romanise(text: str, language: str | None) -> list[RomanToken]:
    """The written words of a text (see `written_words`), each with its letters.

    Text that is ASCII once numbers are spoken costs no uroman, which would leave it as it is.

    Raises:
        EngineMissing: the text is not ASCII and uroman is not installed, or it holds numbers and num2words is not.
        LanguageUnsupported: the text is Japanese with Chinese characters, and SudachiPy is not installed.
    """
    words = read_aloud(text, language)
    tag = base_language(language)
    return [
        RomanToken(word.text, letters, word.spaced) for word, letters in zip(words, _letters(words, tag), strict=True)
    ]


def romanised_length(text: str, language: str | None) -> int:
    """How many letters a text has in Latin script, numbers spoken out; apostrophes do not count."""
    return sum(len(token.letters.replace("'", "")) for token in romanise(text, language))


def _letters(words: list[WrittenWord], language: str) -> list[str]:
    spoken = [" ".join(word.spoken) for word in words]
    pieces = [(" " if word.spaced else "") + said for word, said in zip(words, spoken, strict=True)]
    if all(piece.isascii() for piece in pieces):
        return [_clean(said).strip("'") for said in spoken]
    if language == "ja":
        pieces = _in_kana(pieces)
    elif language == "zh":
        pieces = ["".join(_CHINESE_NUMERALS.get(c, c) for c in piece) for piece in pieces]
    return _shared_out(pieces, _romanised_edges("".join(pieces), language))


def _shared_out(pieces: list[str], edges: list[tuple[int, int, str]]) -> list[str]:
    """Give every piece the letters of its stretch; an edge over several pieces is shared by their characters."""
    owners = [index for index, piece in enumerate(pieces) for _ in piece]
    letters = [""] * len(pieces)
    for start, end, romanised in edges:
        sound, width = _clean(romanised), end - start
        for place in range(width):
            share = sound[len(sound) * place // width : len(sound) * (place + 1) // width]
            letters[owners[start + place]] += share
    return [sound.strip("'") for sound in letters]


def _clean(text: str) -> str:
    """Lower-case a-z and apostrophes."""
    plain = unicodedata.normalize("NFKD", text).lower()
    return "".join(c for c in plain if "a" <= c <= "z" or c == "'")


def _romanised_edges(text: str, language: str) -> list[tuple[int, int, str]]:
    """What uroman reads for each stretch [start, end) of the text."""
    from uroman import RomFormat  # type: ignore[import-untyped,unused-ignore]

    code = _ISO_639_3.get(language, language)
    edges = _uroman().romanize_string(text, lcode=code or None, rom_format=RomFormat.EDGES)
    return [(edge.start, edge.end, edge.txt) for edge in edges]


@lru_cache(maxsize=1)
def _uroman() -> Any:
    """uroman's tables take two seconds to read: once per process, and only for text that needs them."""
    try:
        from uroman import Uroman
    except ImportError as error:
        raise EngineMissing("romanisation: uroman is not installed; pip install 'omni-curation[speech]'") from error
    return Uroman()


def _in_kana(pieces: list[str]) -> list[str]:
    """Each piece of a Japanese text with its Chinese characters read in kana, in their context."""
    text = "".join(pieces)
    if not any("\u3005" <= c <= "\u3007" or "\u3400" <= c <= "\u9fff" or "\uf900" <= c <= "\ufaff" for c in text):
        return pieces
    ends = list(accumulate(len(piece) for piece in pieces))
    owners = [index for index, piece in enumerate(pieces) for _ in piece]
    kana = [""] * len(pieces)
    for morpheme in _sudachi().tokenize(text):
        start, end = morpheme.begin(), morpheme.end()
        reading = morpheme.surface() if morpheme.surface().isspace() else morpheme.reading_form() or morpheme.surface()
        if end <= ends[owners[start]]:
            kana[owners[start]] += reading
            continue
        for place in range(end - start):
            share = reading[len(reading) * place // (end - start) : len(reading) * (place + 1) // (end - start)]
            kana[owners[start + place]] += share
    return kana


@lru_cache(maxsize=1)
def _sudachi() -> Any:
    try:
        from sudachipy import Dictionary

        return Dictionary(dict="core").tokenizer()
    except ImportError as error:
        raise LanguageUnsupported(
            "Japanese with Chinese characters is read by SudachiPy; pip install 'omni-curation[japanese]'"
        ) from error
