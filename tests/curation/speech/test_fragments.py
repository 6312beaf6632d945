"""Words are split to fragments by the punctuation of the text that they stand in."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from curation.speech.fragments import split_words


def words(*texts: str) -> list[dict[str, Any]]:
    return [{"text": text, "start": None, "end": None, "score": None, "untimed": None} for text in texts]


@pytest.mark.parametrize(
    ("texts", "language", "ranges"),
    [
        (("Hello,", "Mr.", "Smith.", "Bye"), "en", [(0, 1), (1, 3), (3, 4)]),
        (("in", "the", "U.S.", "He", "left."), "en", [(0, 3), (3, 5)]),
        (("yes", "—", "no"), "en", [(0, 2), (2, 3)]),
        (("wait—what", "now"), "en", [(0, 2)]),
        (("你", "好，", "世", "界。"), "zh", [(0, 2), (2, 4)]),
        (("他说：", "“好。”", "然后"), "zh", [(0, 1), (1, 2), (2, 3)]),
        (("one", "two"), "en", [(0, 2)]),
        ((), "en", []),
    ],
)
def test_words_are_split_after_marks(texts: tuple[str, ...], language: str, ranges: list[tuple[int, int]]) -> None:
    assert split_words(words(*texts), language) == ranges


def test_the_text_gives_back_the_spaces_that_thai_words_lack() -> None:
    assert split_words(words("สวัสดี", "ครับ", "ผม", "ชื่อ"), "th", text="สวัสดีครับ ผมชื่อ") == [(0, 2), (2, 4)]
    assert split_words(words("สวัสดี", "ครับ", "ผม", "ชื่อ"), "th") == [(0, 4)]


def test_a_word_that_is_not_in_the_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="not found"):
        split_words(words("one", "three"), "en", text="one two")


@given(st.lists(st.text(alphabet="ab.,!?“”你好。，", min_size=1, max_size=4), max_size=12))
def test_every_word_is_in_exactly_one_fragment(texts: list[str]) -> None:
    ranges = split_words(words(*texts), "en")
    assert [i for first, last in ranges for i in range(first, last)] == list(range(len(texts)))
    assert all(first < last for first, last in ranges)
