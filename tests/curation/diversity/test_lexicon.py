"""Lexicons: how entries are written, where they are found in texts of any script, and what lists are made into."""

import random
import unicodedata
from pathlib import Path
from time import process_time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from curation.diversity.concept_matching import CONCEPTS, ConceptMatcher
from curation.diversity.lexicon import (
    from_titles,
    from_vocabulary,
    from_words,
    lexicon_version,
    merge,
    normalise,
    pattern,
    read_lexicon,
    spaced,
    write_lexicon,
)
from curation.diversity.starter_lexicon import starter_lexicon
from curation.errors import SourceError
from schemas.concepts import LEXICON

MIXED = st.text(st.sampled_from("abCé ＡｶﾞがB.,-_'&+12猫狗手机ที่กน้ำÅ\u0301\u0327한글हिन्दीß\u200b\n(（，"), max_size=12)


def found(entries: list[str], text: str) -> set[str]:
    matcher = ConceptMatcher(from_words(entries, "xx", "test"))
    return set(matcher.match_all([text])[0].as_py())


@pytest.mark.parametrize(
    ("entry", "text", "named"),
    [
        ("cat", "a cat.", True),
        ("cat", "Cat, dog", True),
        ("cat", "the cat's nest", True),
        ("cat", "black-cat cafe", True),
        ("cat", "black_cat.jpg", True),
        ("cat", "concatenate cats", False),
        ("cat", "ＣＡＴ", True),
        ("cat", "cat3", False),
        ("black cat", "black   cat", True),
        ("black cat", "black\ncat", True),
        ("black cat", "blackcat", False),
        ("at&t", "AT&T shop", True),
        ("c++", "a C++ book", True),
        ("straße", "STRASSE", True),
        ("étude", "E\u0301TUDE", True),
        ("cat", "cat\u0301", False),  # another letter than t
        ("हिन्द", "हिन्दी", False),
        ("हिन्दी", "यह हिन्दी है", True),
        ("한국", "한국 지도", True),
        ("한국", "한국어", False),  # Korean is spaced
    ],
)
def test_entries_of_spaced_scripts_are_found_whole(entry: str, text: str, named: bool) -> None:
    assert found([entry], text) == ({normalise(entry)} if named else set())


@pytest.mark.parametrize(
    ("entry", "text", "named"),
    [
        ("熊猫", "两只大熊猫在吃竹子", True),
        ("熊猫", "熊　猫", False),
        ("cat", "一只cat和狗", True),
        ("cat", "一只cats", False),
        ("iphone手机", "新iPhone手机壳", True),
        ("iphone手机", "新 iPhone 手机 壳", True),
        ("iphone手机", "miphone手机", False),
        ("手机", "iPhone手机", True),
        ("5号线", "地铁5号线", True),
        ("5号线", "地铁15号线", False),
        ("富士山", "昨日富士山に登った", True),
        ("ラーメン", "ﾗｰﾒﾝを食べる", True),
        ("ガーデン", "ｶﾞｰﾃﾞﾝ", True),
        ("แมว", "มีแมวสองตัว", True),
        ("แมว", "แ\u200bมว", True),  # a zero-width space is not seen
        ("ที", "ที่บ้าน", False),  # the tone mark belongs to the letter
        ("ที่", "ที่บ้าน", True),
        ("น้ำ", "แม่น้ำ", True),
        ("ແມວ", "ມີແມວດຳ", True),
        ("cat", "แมวcatแมว", True),
        ("𠮷野家", "東京の𠮷野家で", True),
        ("猫，狗", "猫,狗", True),
    ],
)
def test_entries_of_unspaced_scripts_are_found_anywhere_and_end_with_a_character(
    entry: str, text: str, named: bool
) -> None:
    assert found([entry], text) == ({normalise(entry)} if named else set())


def test_entries_that_overlap_or_repeat_are_found_each_once() -> None:
    entries = ["new york", "york", "new", "york city", "大熊猫", "熊猫"]
    assert found(entries, "New York, new york city 大熊猫熊猫") == set(entries)
    assert found([], "anything") == set()
    matcher = ConceptMatcher(from_words(entries, "xx", "test"))
    result = matcher.match_all([None, "", "York", "nothing"])
    assert result.type == CONCEPTS
    assert result.to_pylist() == [[], [], ["york"], []]


@given(st.lists(MIXED, max_size=8), MIXED)
def test_the_automaton_finds_what_the_definition_says(entries: list[str], text: str) -> None:
    lexicon = from_words(entries, "xx", "test")
    ready = spaced(text)
    expected = []
    for entry in lexicon["entry"].to_pylist():
        key = pattern(entry)
        ends = [i + len(key) for i in range(len(ready)) if ready.startswith(key, i)]
        if any(not unicodedata.category(ready[end : end + 1] or " ").startswith("M") for end in ends):
            expected.append(entry)
    assert ConceptMatcher(lexicon).match_all([text])[0].as_py() == expected


@given(MIXED)
def test_normalising_and_spacing_twice_is_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert spaced(once) == spaced(text) == spaced(spaced(text))


@given(MIXED)
def test_a_text_names_the_entry_that_it_is(text: str) -> None:
    assert found([text], text) == ({normalise(text)} if pattern(normalise(text)) else set())


def test_a_title_dump_becomes_entries() -> None:
    lines = [
        "page_title",
        "Mercury_(planet)",
        "Mercury_(element)",
        "List_of_rivers",
        "1984",
        "A",
        "!!!",
        "Eiffel_Tower",
        "熊猫（动物）",
        "中国城市列表",
        "x" * 51,
        "one_two_three_four_five_six_seven",
        "half \ud83d of a character",
    ]
    table = from_titles(lines, "en", "titles of a day")
    assert table["entry"].to_pylist() == ["eiffel tower", "mercury", "熊猫"]
    assert table.schema.equals(LEXICON)
    assert set(table["source"].to_pylist()) == {"titles of a day"}


def test_a_spacy_vocabulary_becomes_words() -> None:
    spacy = pytest.importorskip("spacy")
    strings = spacy.blank("en").vocab.strings
    for text in ("Panda", "Xxxxx", "dd.d", "well-known", "NOUN_x", "http://x.org", "'s", "C3PO", "猫咪", "-", "x"):
        strings.add(text)
    entries = set(from_vocabulary(strings, "en", "spacy")["entry"].to_pylist())
    assert {"panda", "well-known", "猫咪"} <= entries
    assert not {"xxxxx", "dd.d", "noun_x", "noun x", "http://x.org", "'s", "c3po", "-", "x"} & entries


def test_the_first_list_that_has_an_entry_names_its_language() -> None:
    english, chinese = from_words(["NASA", "cat"], "en", "a"), from_words(["nasa", "猫咪", "iPhone 手机"], "zh", "b")
    both = merge([english, chinese, from_words(["iphone手机"], "en", "c")])
    languages = dict(zip(both["entry"].to_pylist(), both["language"].to_pylist(), strict=True))
    assert languages == {"nasa": "en", "cat": "en", "猫咪": "zh", "iphone 手机": "zh"}
    assert both["entry"].to_pylist() == sorted(languages)


@given(st.lists(MIXED, max_size=12), st.randoms())
def test_the_order_of_a_list_does_not_matter(words: list[str], chance: random.Random) -> None:
    before = from_words(words, "en", "x")
    chance.shuffle(words)
    after = from_words(words, "en", "x")
    assert before.equals(after)
    assert lexicon_version(before) == lexicon_version(after)


def test_a_lexicon_comes_back_from_its_file(tmp_path: Path) -> None:
    lexicon = starter_lexicon()
    write_lexicon(lexicon, tmp_path / "own.parquet")
    assert read_lexicon(tmp_path / "own.parquet").equals(lexicon)
    raw = pa.table({"language": ["en", "en", None], "entry": ["Black_Cat", None, "猫"]})
    pq.write_table(raw, tmp_path / "foreign.parquet")
    assert read_lexicon(tmp_path / "foreign.parquet")["entry"].to_pylist() == ["black cat", "猫"]
    smaller = lexicon.slice(1)
    assert lexicon_version(smaller) != lexicon_version(lexicon) == lexicon_version(starter_lexicon())


def test_what_is_no_lexicon_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"word": ["cat"]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("cat\ndog\n")
    with pytest.raises(SourceError, match=r"other\.parquet: no column entry and language"):
        read_lexicon(tmp_path / "other.parquet")
    for name in ("text.parquet", "nothing.parquet"):
        with pytest.raises(SourceError, match=name):
            read_lexicon(tmp_path / name)


def test_the_starter_lexicon_has_hundreds_of_each_language_that_are_normalised() -> None:
    lexicon = starter_lexicon()
    languages = lexicon["language"].to_pylist()
    assert languages.count("en") > 500 < languages.count("zh")
    assert all(normalise(entry) == entry for entry in lexicon["entry"].to_pylist())
    matcher = ConceptMatcher(lexicon)
    named = matcher.match_all(["A golden retriever and a red umbrella on the beach", "雪山下的湖泊和樱花"]).to_pylist()
    assert named == [["beach", "golden retriever", "umbrella"], ["樱花", "湖泊", "雪山"]]


def test_a_hundred_thousand_entries_and_a_caption_of_a_megabyte_take_seconds() -> None:
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghij", k=7)) for _ in range(100_000)]
    start = process_time()
    matcher = ConceptMatcher(from_words(words, "en", "made up"))
    assert len(matcher.match(" ".join(words))) == len(set(words))
    assert process_time() - start < 15
