"""What counts as the same text when transcripts are compared."""

import unicodedata

import pytest
from hypothesis import given, strategies as st

from curation.text.normalisation import is_unspaced, normalise, number_alternatives


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("  Well,\tDON'T  stop!  ", "en", "well dont stop"),
        ("the dogs’ “well-known” goin'", "en", "the dogs well known goin"),
        ("U.S. e.g. J. K.", "en", "us eg j k"),
        ("1,000 and 3.5, at 10:30.", "en", "1000 and 3.5 at 10 30"),
        ("1.000 und 3,5 und 12 000", "de", "1000 und 3.5 und 12000"),
        ("$3.50 & 5%", "en", "3.50 dollars and 5 percent"),
        ("ＦＵＬＬ　１２３", None, "full 123"),
        ("Straße", "de", "strasse"),
        ("İSTANBUL IŞIK", "tr", "istanbul ışık"),
        ("१२३ नमस्ते, कैसे हैं?", "hi", "123 नमस्ते कैसे हैं"),
        ("مَرْحَبًا", "ar", "مرحبا"),
        ("臺灣的音樂，後來", "zh", "台湾的音乐 后来"),
        ("臺灣的音樂", None, "台湾的音乐"),
        ("ok ❤️ 1️⃣ ☺", None, "ok 1"),
        ("soft\u00adhyphen zero\u200bwidth", "en", "softhyphen zerowidth"),
        ("…!?", "en", ""),
    ],
)
def test_writing_is_folded_and_speech_is_kept(text: str, language: str | None, expected: str) -> None:
    assert normalise(text, language) == expected


@pytest.mark.parametrize(("text", "language"), [("कैसे हैं", "hi"), ("ที่นี่เป็นน้ำ", "th"), ("তুমি কেমন আছ", "bn")])
def test_marks_of_hindi_thai_and_bengali_stay(text: str, language: str) -> None:
    kept = [c for c in normalise(text, language) if unicodedata.category(c)[0] == "M"]
    assert len(kept) >= sum(unicodedata.category(c)[0] == "M" for c in text) > 0


def test_japanese_kanji_are_not_folded_to_chinese() -> None:
    assert normalise("後で音楽", "ja") == "後で音楽"
    assert normalise("後の音", None) == "後の音"


@given(st.text(), st.sampled_from([None, "en", "de", "tr", "zh", "hi"]))
def test_normalising_twice_changes_nothing_of_letters(text: str, language: str | None) -> None:
    once = normalise(text, language)
    assert normalise(once, language) == once
    assert once == " ".join(once.split())


@pytest.mark.parametrize(
    ("token", "language", "spoken"),
    [
        ("3", "en", "three"),
        ("1984", "en", "nineteen eighty four"),
        ("1984", "en", "one thousand nine hundred and eighty four"),
        ("1984", "en", "one thousand nine hundred eighty four"),
        ("1905", "en", "nineteen oh five"),
        ("2000", "en", "two thousand"),
        ("21st", "en", "twenty first"),
        ("1980s", "en", "nineteen eighties"),
        ("3.5", "en", "three point five"),
        ("100", "en", "a hundred"),
        ("911", "en", "nine one one"),
        ("5pm", "en", "five pm"),
        ("1500000", "en", "one point five million"),
        ("21", "de", "einundzwanzigsten"),
        ("1000", "de", "tausend"),
        ("3.5", "fr", "trois virgule cinq"),
        ("25", "th", "ยี่สิบห้า"),
        ("25", "ja", "二十五"),
        ("1984", "zh", "一九八四"),
        ("1984", "zh", "一千九百八十四"),
        ("10005", "zh", "一万零五"),
        ("12", "zh", "十二"),
        ("200", "zh", "两百"),
        ("100000001", "zh", "一亿零一"),
    ],
)
def test_numbers_are_read_in_the_ways_people_say_them(token: str, language: str, spoken: str) -> None:
    assert spoken in [" ".join(words) for words in number_alternatives(token, language)]


def test_an_unknown_language_and_a_token_without_digits_have_no_alternatives() -> None:
    assert number_alternatives("25", "hi") == ()
    assert number_alternatives("25", None) == ()
    assert number_alternatives("25", "fil") == ()  # not Finnish, which begins alike
    assert number_alternatives("three", "en") == ()


def test_an_ordinal_is_not_its_cardinal() -> None:
    assert ("twenty", "one") not in number_alternatives("21st", "en")


@given(st.text(alphabet="0123456789.", min_size=1, max_size=40), st.sampled_from(["en", "de", "zh", "ja", "th", "xx"]))
def test_no_number_of_a_stranger_raises(token: str, language: str) -> None:
    number_alternatives(token, language)


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("你好世界", "en", True),
        ("hello world", "zh", False),
        ("我用 Python 写代码", "zh", True),
        ("he said 你好 to me", "en", False),
        ("안녕하세요 여러분", "ko", False),
        ("สวัสดีครับ", None, True),
        ("123", "zh", True),
        ("123", "en", False),
        ("", None, False),
    ],
)
def test_the_script_of_the_text_decides_about_spaces(text: str, language: str | None, expected: bool) -> None:
    assert is_unspaced(text, language) is expected
