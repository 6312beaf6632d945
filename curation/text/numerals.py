"""Numbers as words: what num2words says in each language it knows, and Chinese numerals."""

from decimal import Decimal
from typing import Any

from curation.errors import EngineMissing

MAX_DIGITS = 15
"""Longer numbers are read digit by digit, as people do."""
HAN_DIGITS = "零一二三四五六七八九"
_HAN_SCALES = ((10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十"))


def number_words(value: int | Decimal | str, language: str, form: str = "cardinal") -> str | None:
    """What num2words says for a number; None where it does not know the language, or this form of the number in it.

    Args:
        language: ISO 639-1; num2words itself would take an unknown "fil" for "fi".
        form: cardinal, ordinal, or year.

    Raises:
        EngineMissing: num2words is not installed.
    """
    if not has_number_words(language):
        return None
    try:
        return str(_num2words()[0](value, lang=language, to=form))
    except (NotImplementedError, ArithmeticError, ValueError, TypeError, IndexError, KeyError, AttributeError):
        return None  # it lacks forms in some languages, and says so by whichever of these its code meets first


def has_number_words(language: str) -> bool:
    """Whether num2words knows a language."""
    return language in _num2words()[1]


def point_word(language: str) -> str:
    """What is said for a decimal point; empty where nobody knows."""
    word = getattr(_num2words()[1].get(language), "pointword", "")
    return word if isinstance(word, str) else ""


def chinese_numeral(value: int) -> str:
    """A whole number below 10**16 in Chinese numerals, with 一十 for ten: 20305 is 二万零三百零五."""
    for size, unit in _HAN_SCALES:
        if value >= size:
            head, rest = divmod(value, size)
            gap = "零" if 0 < rest < size // 10 else ""
            return chinese_numeral(head) + unit + gap + (chinese_numeral(rest) if rest else "")
    return HAN_DIGITS[value]


def chinese_digits(digits: str) -> str:
    """Digits one by one in Chinese numerals: 305 is 三零五."""
    return "".join(HAN_DIGITS[int(digit)] for digit in digits)


def _num2words() -> tuple[Any, dict[str, Any]]:
    try:
        from num2words import CONVERTER_CLASSES, num2words  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise EngineMissing("numbers: num2words is not installed; pip install 'omni-curation[speech]'") from error
    return num2words, CONVERTER_CLASSES
