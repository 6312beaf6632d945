"""Scripts are told by character, and words and characters are counted so that scripts compare."""

import pytest
from hypothesis import given, strategies as st

from curation.text.scripts import (
    latin_is_names,
    mixes_scripts_within_words,
    script_of,
    script_shares,
    script_units,
    special_share,
    text_units,
    unit_counts,
)


@pytest.mark.parametrize(
    ("letters", "script"),
    [
        ("aZéßđｆ", "Latin"),
        ("漢字々〇㐀𠀀", "Han"),
        ("ひらカタｶー", "Kana"),
        ("한글ㄱ", "Hangul"),
        ("กิ์", "Thai"),
        ("कीं", "Devanagari"),
        ("жЁ", "Cyrillic"),
        ("عربي", "Arabic"),
        ("עברית", "Hebrew"),
        ("αΩ", "Greek"),
        ("தமிழ்", "Tamil"),
        ("ລາວ", "Lao"),
        ("မြန်", "Burmese"),
        ("ខ្មែរ", "Khmer"),
        ("ქართ", "Georgian"),
        ("አማ", "Ethiopic"),
        ("বাং", "Bengali"),
    ],
)
def test_letters_and_marks_have_their_script(letters: str, script: str) -> None:
    assert {script_of(letter) for letter in letters if letter not in "〇"} == {script}


def test_what_is_no_letter_has_no_script() -> None:
    assert {script_of(character) for character in "12 .,!?%。、☃😀\u0301\u200b\ue000µº"} == {None}


def test_shares_are_of_letters_alone_and_largest_first() -> None:
    assert script_shares("ab 12 漢字！") == {"Han": 0.5, "Latin": 0.5}
    assert list(script_shares("abc 漢")) == ["Latin", "Han"]
    assert script_shares("12 %") == {}


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("A brown Dog, running!", ["a", "brown", "dog", "running"]),
        ("don't rock-n-roll & 3.5 €", ["don't", "rock-n-roll", "3.5"]),
        ("我用 Python 写代码。", ["我", "用", "python", "写", "代", "码"]),
        ("耐克Nike鞋", ["耐", "克", "nike", "鞋"]),
        ("สีน้ำ ตาล", ["สี", "น้", "ำ", "ต", "า", "ล"]),
        ("लाल साड़ी", ["लाल", "साड़ी"]),
        ("갈색 개", ["갈색", "개"]),
        ("ラーメン", ["ラ", "ー", "メ", "ン"]),
        ("「花」…", ["花"]),
        ("-- ... !!", []),
        ("", []),
    ],
)
def test_units_are_words_or_characters_of_unspaced_scripts(text: str, units: list[str]) -> None:
    assert text_units(text) == units


def test_words_and_unspaced_letters_are_counted_apart() -> None:
    assert unit_counts("我用 Python 写代码") == (1, 5)
    assert unit_counts("two words") == (2, 0)
    assert unit_counts("हिन्दी में") == (2, 0)


def test_a_brand_does_not_outweigh_the_sentence_around_it() -> None:
    assert script_shares("耐克 Nike Air Max 90 男子运动鞋")["Latin"] > 0.5
    assert script_units("耐克 Nike Air Max 90 男子运动鞋") == {"Han": 7, "Latin": 3}


def test_kanji_beside_kana_is_japanese() -> None:
    assert script_units("東京タワーと桜") == {"Kana": 7}


def test_latin_names_are_told_by_their_capitals() -> None:
    assert latin_is_names("耐克 Nike Air Max 90 男鞋")
    assert latin_is_names("指环王 The Lord of the Rings 海报")
    assert latin_is_names("iPhone 15 手机")
    assert not latin_is_names("sunset 日落 over the sea")
    assert latin_is_names("没有")


def test_a_word_of_latin_and_cyrillic_letters_is_seen() -> None:
    assert mixes_scripts_within_words("p\u0430ypal")
    assert not mixes_scripts_within_words("Москва, Moscow")
    assert not mixes_scripts_within_words("β-Carotene, 5μm, αMSH")


def test_special_characters_are_shares_of_what_is_no_space() -> None:
    assert special_share("a b!") == pytest.approx(1 / 3)
    assert special_share("1967 Ford") == 0.0
    assert special_share("กิน ข้าว") == 0.0
    assert special_share("  ") == 0.0


@given(st.text())
def test_units_are_never_empty_and_never_hold_spaces(text: str) -> None:
    units = text_units(text)
    assert all(units)
    assert not any(character.isspace() for unit in units for character in unit)
    words, unspaced = unit_counts(text)
    assert words + unspaced == len(units)
    assert sum(script_units(text).values()) <= len(units)
    assert 0 <= special_share(text) <= 1


@given(st.text(), st.text())
def test_units_of_two_texts_are_those_of_each(first: str, second: str) -> None:
    assert text_units(f"{first}\n{second}") == text_units(first) + text_units(second)
