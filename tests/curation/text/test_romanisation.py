"""Numbers are spoken, scripts are romanised, and every letter goes back to the word that it was written as."""

import pytest
from hypothesis import given, settings, strategies as st

from curation.text.normalisation import number_alternatives
from curation.text.numbers import read_aloud, written_words
from curation.text.romanisation import romanise, romanised_length

pytest.importorskip("uroman")
pytest.importorskip("num2words")


def said(text: str, language: str | None = "en") -> list[str]:
    return [" ".join(word.spoken) for word in read_aloud(text, language)]


def letters(text: str, language: str | None) -> list[str]:
    return [token.letters for token in romanise(text, language)]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("1984", "nineteen eighty four"),
        ("2005", "two thousand and five"),
        ("£13.60", "thirteen pounds sixty"),
        ("$1", "one dollar"),
        ("£1.05", "one pound five"),
        ("$5m", "five million dollars"),
        ("3.5", "three point five"),
        ("3.0", "three point zero"),
        ("(12%)", "twelve percent"),
        ("21st", "twenty first"),
        ("1980s", "nineteen eighties"),
        ("3:05", "three oh five"),
        ("10-20", "ten to twenty"),
        ("1,234", "one thousand two hundred and thirty four"),
        ("007", "zero zero seven"),
        ("B&B", "b and b"),
        ("5°C", "five degrees c"),
        ("Mr.", "mister"),
        ("don’t", "don't"),
        ("well-known,", "well known"),
        ("—", ""),
    ],
)
def test_english_is_read_as_people_say_it(written: str, spoken: str) -> None:
    assert said(written) == [spoken]


def test_numbers_are_read_in_other_languages() -> None:
    assert said("3,50 1.000", "de") == ["drei komma fünf", "eintausend"]
    assert said("有20305人", "zh") == ["有", "二万零三百零五", "人"]
    assert said("13.5", "zh") == ["十三点五"]
    assert said("100010", "zh") == ["十万零一十"]
    assert said("12 %", "fr-CA") == ["douze", "pour cent"]


def test_a_number_in_an_unknown_language_keeps_its_digits() -> None:
    assert said("12 xx", None) == ["12", "xx"]
    assert letters("12 xx", None) == ["", "xx"]


@given(st.integers(0, 10**8 - 1))
def test_a_chinese_number_is_read_as_transcripts_are_compared(number: int) -> None:
    (read,) = said(str(number), "zh")
    assert (read,) in number_alternatives(str(number), "zh")


def test_a_number_of_a_thousand_digits_is_read_digit_by_digit() -> None:
    assert said("9" * 1000)[0].split() == ["nine"] * 1000


def test_spaced_text_is_cut_at_spaces_alone() -> None:
    text = 'He said: "No — £13.60, (really)!"'
    assert written_words(text) == text.split()


def test_unspaced_text_is_cut_at_characters_with_their_punctuation() -> None:
    assert written_words("他说：「你好。」iPhone手机") == ["他", "说：", "「你", "好。」", "iPhone", "手", "机"]
    assert written_words("きょうはラーメン。") == ["きょ", "う", "は", "ラー", "メ", "ン。"]
    assert written_words("ดีมาก") == ["ดี", "ม", "า", "ก"]
    assert written_words("안녕하세요 세계") == ["안녕하세요", "세계"]


@settings(deadline=None)  # uroman's tables are read on the first call
@given(st.text(alphabet=st.sampled_from("ab1.,-'% 「」（。我你きょーンดี\u0301¥(\"…"), max_size=30))
def test_words_hold_all_of_the_text_and_nothing_else(text: str) -> None:
    words = written_words(text)
    assert "".join(words) == "".join(text.split())
    assert all(words)
    assert [token.text for token in romanise(text, "zh")] == words


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Привет, мир!", "ru", ["privet", "mir"]),
        ("नमस्ते दुनिया", "hi", ["namaste", "duniyaa"]),
        ("안녕하세요", "ko", ["annyeonghaseyo"]),
        ("你好。二十三人", "zh", ["ni", "hao", "er", "shi", "san", "ren"]),
        ("Größe für", "de", ["groesse", "fuer"]),
        ("naïve café", "en", ["naive", "cafe"]),
        ("don't ‘quote’ 1984", "en", ["don't", "quote", "nineteeneightyfour"]),
    ],
)
def test_scripts_are_romanised_word_by_word(text: str, language: str, expected: list[str]) -> None:
    assert letters(text, language) == expected


def test_japanese_is_read_in_kana_and_not_as_mandarin() -> None:
    pytest.importorskip("sudachipy")
    pytest.importorskip("sudachidict_core")
    assert letters("東京へ行く。", "ja") == ["tou", "kyou", "he", "i", "ku"]
    assert letters("10杯", "ja")[0] == "juu"


@settings(deadline=None)  # uroman's tables are read on the first call
@given(st.text(max_size=40), st.sampled_from(["en", "de", "ru", "hi", None]))
def test_any_text_gives_a_to_z_only(text: str, language: str | None) -> None:
    for token in romanise(text, language):
        assert set(token.letters) <= set("abcdefghijklmnopqrstuvwxyz'")


@settings(deadline=None)  # uroman's tables are read on the first call
@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126, exclude_categories=["Nd"]), max_size=40))
def test_ascii_is_what_uroman_would_leave(text: str) -> None:
    """The same text with one letter that is not ASCII goes through uroman, and the rest must not change."""
    assert letters(text, "fr") == letters(f"{text} é", "fr")[:-1]


def test_romanised_length_compares_across_scripts() -> None:
    assert romanised_length("don't stop", "en") == 8
    assert romanised_length("£13.60", "en") == len("thirteenpoundssixty")
    assert romanised_length("你好世界", "zh") == len("nihaoshijie")
    assert romanised_length("… —", "en") == 0


def test_romanising_does_not_depend_on_earlier_calls() -> None:
    texts = [("你好", "zh"), ("مرحبا", "ar"), ("Київ", "uk"), ("ภาษา", "th")]
    once = [letters(*text) for text in texts]
    assert [letters(*text) for text in reversed(texts)] == once[::-1]
