"""Normalisation of transcripts for comparison: what two recognisers may write differently for the same speech.

Case, punctuation, width, numerals and traditional or simplified Chinese are writing, not speech. The marks of Hindi,
Thai and other scripts are speech: they stay, where Whisper's BasicTextNormalizer (Radford et al. 2022, appendix C)
turns them to spaces.
"""

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

from curation.errors import EngineMissing
from curation.text.numerals import MAX_DIGITS, chinese_digits, chinese_numeral, number_words, point_word

Alternatives = tuple[tuple[str, ...], ...]
"""Ways to write the same, each in words."""

CHINESE = frozenset({"zh", "yue", "cmn", "wuu", "nan", "hak", "lzh"})
DECIMAL_COMMA = frozenset(
    {
        *("af", "az", "be", "bg", "bs", "ca", "cs", "da", "de", "el", "es", "et", "eu", "fi", "fr", "gl", "hr", "hu"),
        *("hy", "id", "is", "it", "ka", "kk", "ky", "lb", "lt", "lv", "mk", "mn", "nb", "nl", "nn", "no", "pl", "pt"),
        *("ro", "ru", "sk", "sl", "sq", "sr", "sv", "tr", "tt", "uk", "uz", "vi"),
    }
)
"""Languages that write 1.000,5 or 1 000,5 where English writes 1,000.5."""

SYMBOL_WORDS: dict[str, dict[str, str]] = {
    "en": {"%": "percent", "&": "and", "$": "dollars", "€": "euros", "£": "pounds", "+": "plus", "°": "degrees"},
    "de": {"%": "prozent", "&": "und", "$": "dollar", "€": "euro", "£": "pfund", "+": "plus", "°": "grad"},
    "fr": {"%": "pour cent", "&": "et", "$": "dollars", "€": "euros", "£": "livres", "+": "plus", "°": "degrés"},
    "es": {"%": "por ciento", "&": "y", "$": "dólares", "€": "euros", "£": "libras", "+": "más", "°": "grados"},
    "it": {"%": "per cento", "&": "e", "$": "dollari", "€": "euro", "£": "sterline", "+": "più", "°": "gradi"},
    "pt": {"%": "por cento", "&": "e", "$": "dólares", "€": "euros", "£": "libras", "+": "mais", "°": "graus"},
    "nl": {"%": "procent", "&": "en", "$": "dollar", "€": "euro", "£": "pond", "+": "plus", "°": "graden"},
}
"""Signs that are read aloud, per language; in any other they are dropped like all signs."""

_UNSPACED_RANGES = (
    "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
)
UNSPACED = re.compile(f"[{_UNSPACED_RANGES}]")
"""A character of a script that is written without spaces between words."""
_SPACED_WORD = re.compile(rf"(?:(?![{_UNSPACED_RANGES}])[^\W\d_])[^\s{_UNSPACED_RANGES}]*")
_UNSPACED_LANGUAGES = CHINESE | {"ja", "th", "lo", "my", "km"}

_PRONOUNS = ("i", "you", "he", "she", "it", "we", "they", "that", "there", "who", "what")
_CONTRACTED = {"re": ("are",), "ve": ("have",), "ll": ("will",), "d": ("would", "had")}
_FILLERS = ("uh", "um", "uhm", "er", "erm", "hmm", "hm", "mm", "mhm")
SPOKEN_FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        **{f"{verb}nt": (f"{verb} not",) for verb in ("do", "does", "did", "is", "are", "was", "were", "has", "have")},
        **{f"{verb}nt": (f"{verb} not",) for verb in ("had", "could", "would", "should", "must", "need")},
        **{who + end: tuple(f"{who} {verb}" for verb in _CONTRACTED[end]) for who in _PRONOUNS for end in _CONTRACTED},
        **{f"{who}s": (f"{who} is", f"{who} has") for who in _PRONOUNS[2:]},
        **{"im": ("i am",), "cant": ("can not",), "wont": ("will not",), "lets": ("let us",), "gonna": ("going to",)},
        **{"wanna": ("want to",), "gotta": ("got to",), "cause": ("because",), "til": ("until",), "ok": ("okay",)},
        **{"mr": ("mister",), "mrs": ("missus",), "dr": ("doctor",), "st": ("saint", "street"), "prof": ("professor",)},
        **{"jr": ("junior",), "sr": ("senior",), "vs": ("versus",), "etc": ("et cetera",)},
        **{"dollars": ("dollar",), "pounds": ("pound",), "degrees": ("degree",)},
        **dict.fromkeys(_FILLERS, ("",)),
    }
}
"""What else a normalised word may be written as, per language; an empty form may be left out (fillers)."""

_INNER_APOSTROPHE = re.compile(r"(?<=[^\W_])['\u2019\u02bc\u2018`\u05f3\u05f4](?=[^\W_])")
_ACRONYM_DOT = re.compile(r"(?<=\b[^\W\d_])\.(?=[^\W\d_]\b)")
_IDLE_DOT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_CURRENCY = re.compile(r"([$€£])\s?(\d+(?:[.,]\d+)*)")
_COMMA_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_DOT_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:[. ]\d{3})+(?![\d.])")
_DECIMAL_COMMA_SIGN = re.compile(r"(?<=\d),(?=\d)")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3040-\u30ff]")


def normalise(text: str, language: str | None) -> str:
    """The text as it is compared: words separated by single spaces, without case, punctuation, signs and width.

    NFKC and case folding; punctuation (P) and signs (S) become spaces, but an apostrophe inside a word joins
    ("don't" is "dont"), so do the dots of an acronym ("U.S." is "us"), and a decimal point stays ("3,5" in German is
    "3.5"). Thousands lose their separators, digits of any script become ASCII, "5 %" and "$5" become words where
    `SYMBOL_WORDS` has them. Marks (Mn, Mc) stay, save the optional vowel points of Arabic and Hebrew, which some
    recognisers write and some do not. Chinese is folded to simplified characters, one by one.

    Raises:
        EngineMissing: Chinese text, and OpenCC is not installed.
    """
    tag = base_language(language)
    plain = text.isascii()
    if not plain:
        text = unicodedata.normalize("NFKC", text.replace("\u00b4", "'"))
    if tag in ("tr", "az"):
        text = text.replace("İ", "i").replace("I", "ı")
    text = text.lower() if plain else unicodedata.normalize("NFKC", text.casefold())
    text = _INNER_APOSTROPHE.sub("", text)
    text = _ACRONYM_DOT.sub("", text)
    text = _read_signs(_join_thousands(text, tag), tag)
    text = text.translate(_KEPT)
    if "." in text:
        text = _IDLE_DOT.sub(" ", text)
    if not plain:
        if _is_chinese(text, tag):
            text = text.translate(_simplified())
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.split())


def base_language(language: str | None) -> str:
    """The language of a tag without region or script: "zh" of "zh-Hant-TW"; empty where nothing is known."""
    return re.split("[-_]", language or "", maxsplit=1)[0].lower()


def is_unspaced(text: str, language: str | None) -> bool:
    """Whether a text is mostly of scripts without spaces between words (Han, kana, Thai, Lao, Burmese, Khmer).

    Its characters of such scripts are counted against its words of others, so that "我用 Python 写代码" is unspaced.
    The text decides; the language only where the text has no letters, or as many of either.
    """
    if text.isascii():
        unspaced, spaced = 0, int(any(map(str.isalpha, text)))
    else:
        unspaced, spaced = len(UNSPACED.findall(text)), len(_SPACED_WORD.findall(text))
    if unspaced == spaced:
        return base_language(language) in _UNSPACED_LANGUAGES
    return unspaced > spaced


@lru_cache(maxsize=65536)
def number_alternatives(token: str, language: str | None) -> Alternatives:
    """The ways to say a normalised token that holds digits, each in normalised words; () where none is known.

    "1984" gives "one thousand nine hundred eighty four", "nineteen eighty four", "one nine eight four" and the ordinal;
    "21st", "1980s", "3.5" and "5pm" are read too. Words come from num2words; Chinese has rules of its own here.
    """
    tag = base_language(language)
    number = re.search(r"\d+(?:\.\d+)?", token)
    if number is None:
        return ()
    before, after = token[: number.start()], token[number.end() :]
    if any(map(str.isdigit, before + after)):
        return ()
    spoken = dict.fromkeys(_readings(number[0], after, tag))
    if not (after and _is_suffix(after, tag)):
        spoken = dict.fromkeys(f"{before} {reading} {after}" for reading in spoken)
    return tuple(dict.fromkeys(tuple(normalise(reading, language).split()) for reading in spoken))


def spoken_alternatives(token: str, language: str | None) -> Alternatives:
    """The other ways to write a normalised token, each in words: of numbers, titles, contractions, fillers."""
    if any(map(str.isdigit, token)):
        return number_alternatives(token, language)
    return tuple(tuple(form.split()) for form in SPOKEN_FORMS.get(base_language(language), {}).get(token, ()))


def _join_thousands(text: str, language: str) -> str:
    if language in DECIMAL_COMMA:
        text = _DOT_THOUSANDS.sub(lambda number: re.sub("[. ]", "", number[0]), text)
        return _DECIMAL_COMMA_SIGN.sub(".", text)
    return _COMMA_THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)


def _read_signs(text: str, language: str) -> str:
    if language in CHINESE:
        return re.sub(r"(\d+(?:\.\d+)?)\s?%", r"百分之\1", text)
    words = SYMBOL_WORDS.get(language)
    if words is None:
        return text
    text = _CURRENCY.sub(r"\2 \1", text)
    for sign, word in words.items():
        if sign in text:
            text = text.replace(sign, f" {word} ")
    return text


def _is_suffix(after: str, language: str) -> bool:
    """Whether letters after a number inflect it (21st, 1980s, 2ème), and are said within its words."""
    suffixes = {"en": {"st", "nd", "rd", "th", "s"}, "fr": {"er", "re", "e", "ème", "eme", "nd", "nde"}}
    return after in suffixes.get(language, {"o", "a", "os", "as", "er"})


def _readings(number: str, after: str, language: str) -> Iterator[str]:
    if language in CHINESE:
        yield from _chinese_readings(number)
        return
    whole, _, fraction = number.partition(".")
    if len(whole) > MAX_DIGITS or len(fraction) > MAX_DIGITS:
        yield from _digit_by_digit(number.replace(".", ""), language)
        return
    if fraction:
        point = point_word(language)
        for start in _num2words(int(whole), language):
            yield from (f"{start} {point} {end}" for end in _digit_by_digit(fraction, language))
            yield from (f"{start} {point} {end}" for end in _num2words(int(fraction), language))
        yield from _num2words(Decimal(number), language)
        return
    value = int(whole)
    if not (language == "en" and _is_suffix(after, language)):
        yield from _num2words(value, language)
    if after != "s":
        yield from _num2words(value, language, form="ordinal")
    if language == "en" and (after == "s" or not _is_suffix(after, language)):
        yield from _english_readings(whole, plural=after == "s")
    if language == "de":
        yield from (words[3:] for words in _num2words(value, language) if words.startswith(("einhund", "eintaus")))
        yield from (o + end for o in _num2words(value, language, form="ordinal") for end in "nrs")
    if language != "en" and 1100 <= value < 2100:
        yield from _num2words(value, language, form="year")
    if not after:
        yield from _digit_by_digit(whole, language)


def _english_readings(digits: str, plural: bool) -> Iterator[str]:
    """Without "and", by pairs ("nineteen eighty four", "seven forty seven"), as clocks, as decades."""
    value = int(digits)
    cardinal = next(_num2words(value, "en"))
    readings = [cardinal.replace(" and ", " ")]
    if cardinal.startswith("one "):
        readings += ["a" + cardinal[3:], readings[0].replace("one", "a", 1)]
    if digits.strip("0") == "":
        readings += ["", "oclock", "hundred"]
    if 3 <= len(digits) <= 4:
        head, tail = next(_num2words(int(digits[:-2]), "en")), int(digits[-2:])
        if tail == 0:
            readings += [f"{head} hundred"]
        elif tail < 10:
            readings += [f"{head} {zero} {next(_num2words(tail, 'en'))}" for zero in ("oh", "o", "zero")]
        else:
            readings += [f"{head} {next(_num2words(tail, 'en'))}"]
    if value >= 100_000 and value % 100_000 == 0:
        millions = Decimal(value) / 1_000_000
        readings += [f"{next(_num2words(millions, 'en'))} million"]
    for reading in readings:
        yield (reading[:-1] + "ies" if reading.endswith("y") else reading + "s") if plural else reading


def _digit_by_digit(digits: str, language: str) -> Iterator[str]:
    words = [next(_num2words(int(digit), language), "") for digit in digits]
    if not all(words):
        return
    yield " ".join(words)
    if language == "en" and "0" in digits:
        yield from (" ".join(zero if word == "zero" else word for word in words) for zero in ("oh", "o"))
    if language == "ja":
        yield "".join("〇一二三四五六七八九"[int(digit)] for digit in digits)


def _num2words(value: int | Decimal, language: str, form: str = "cardinal") -> Iterator[str]:
    """The words of a number; none where the language, or this form of it, is not known."""
    if (words := number_words(value, language, form)) is not None:
        yield words


def _chinese_readings(number: str) -> Iterator[str]:
    """Chinese numerals: positional (一千九百八十四; 两 or 二; 十 or 一十), and digit by digit with 零, 〇 or 幺."""
    whole, _, fraction = number.partition(".")
    end = "点" + chinese_digits(fraction) if fraction else ""
    if len(whole) <= 16:
        plain = chinese_numeral(int(whole))
        two = re.sub("二(?=[百千万亿])", "两", plain)
        for reading in (plain, two, plain.removeprefix("一") if plain.startswith("一十") else plain):
            yield reading + end
        if whole == "2":
            yield "两" + end
    digits = chinese_digits(whole)
    for reading in (digits, digits.replace("零", "〇"), digits.replace("一", "幺")):
        yield reading + end


def _is_chinese(text: str, language: str) -> bool:
    """Han that may be folded: said to be Chinese, or of unknown language without kana (Japanese keeps its kanji)."""
    return language in CHINESE or (not language and bool(_HAN.search(text)) and not _KANA.search(text))


class _Kept(dict[int, int | str]):
    """A table for `str.translate`, filled as characters are met."""

    def __missing__(self, code: int) -> int | str:
        self[code] = kept = _kept(code)
        return kept


def _kept(code: int) -> int | str:
    character = chr(code)
    category = unicodedata.category(character)
    if character == ".":
        return code  # decided later, by its neighbours
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Cf" or category == "Me" or code == 0x0640 or _is_optional_mark(code):
        return ""
    if category[0] in "PSCZ":
        return " "
    return code


def _is_optional_mark(code: int) -> bool:
    """Vowel points of Hebrew and Arabic, and variation selectors."""
    return (
        0x0591 <= code <= 0x05C7
        or 0x064B <= code <= 0x0652
        or code == 0x0670
        or 0xFE00 <= code <= 0xFE0F
        or 0xE0100 <= code <= 0xE01EF
    )


_KEPT = _Kept()


@lru_cache(maxsize=1)
def _simplified() -> dict[int, str]:
    """OpenCC's characters, one to one. Its phrases would make a character's fold depend on its neighbours."""
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise EngineMissing("Chinese transcripts need OpenCC; pip install 'omni-curation[speech]'") from error
    han = [chr(code) for code in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000))]
    folded = OpenCC("t2s").convert("\n".join(han)).split("\n")
    return {ord(before): after for before, after in zip(han, folded, strict=True) if before != after}
