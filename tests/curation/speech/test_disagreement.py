"""The disagreement of two transcripts, and the stage that rejects by it."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from curation.speech.disagreement import CrossCheck
from curation.text.disagreement import transcript_disagreement
from schemas.speech import TRANSCRIPT

WORDS = st.lists(
    st.sampled_from(["the", "cat", "3", "three", "1984", "sat", "ice", "cream", "icecream", "um", "don't"])
)
HAN = st.text(alphabet="我你好是一二三12 ", max_size=12)


@pytest.mark.parametrize(
    ("a", "b", "language"),
    [
        ("I have 3 dogs, born in 1984.", "i have three dogs born in nineteen eighty four", "en"),
        ("the 21st of May", "The twenty-first of may!", "en"),
        ("1,000,000 people", "1 million people", "en"),
        ("at 10:00 they paid $5", "at ten o'clock they paid five dollars", "en"),
        ("Mr. Smith doesn't, um, know", "mister smith does not know", "en"),
        ("ice cream, e-mail and U.S.A.", "icecream email and USA", "en"),
        ("3,5 Millionen, 1.000", "drei Komma fünf Millionen tausend", "de"),
        ("臺灣有1984個人", "台湾有一千九百八十四个人", "zh"),
        ("二十五日です", "25日です。", "ja"),
        ("อายุ 25 ปี", "อายุยี่สิบห้าปี", "th"),
    ],
)
def test_the_same_speech_written_differently_agrees(a: str, b: str, language: str) -> None:
    found = transcript_disagreement(a, b, language)
    assert found.value == 0
    assert found.characters == 0


def test_a_wrong_number_is_no_agreement() -> None:
    assert transcript_disagreement("in 1984", "in nineteen eighty five", "en").value > 0
    assert transcript_disagreement("4 dogs", "for dogs", "en").value > 0


def test_the_parts_are_kept_apart() -> None:
    found = transcript_disagreement("a big red dog ran off", "a big read dog ran far off", "en")
    assert (found.substitutions, found.insertions, found.deletions, found.length) == (1, 1, 0, 7)
    assert found.value == 2 / 7
    assert found.unit == "word"


def test_empty_against_empty_is_nothing_and_against_words_is_everything() -> None:
    assert transcript_disagreement("...", "", "en").value == 0
    assert transcript_disagreement("", "hello there", "en").value == 1
    assert transcript_disagreement("um", "", "en").value == 1


def test_the_unit_follows_the_script_not_the_tag() -> None:
    assert transcript_disagreement("你好世界", "你好世间", "en").unit == "character"
    assert transcript_disagreement("hello world", "hello word", "zh").unit == "word"
    assert transcript_disagreement("你好世界", "你好世间", "zh").value == 0.25
    assert transcript_disagreement("안녕 세계", "안녕 세상", "ko").unit == "word"
    assert transcript_disagreement("hello", "hallo", "en", unit="character").value == 0.2


def test_a_clipped_edge_shows_at_the_edge_and_an_inner_error_does_not() -> None:
    whole = "going to the store with my friends today"
    assert transcript_disagreement(whole, "ing to the store with my friends today", "en").edge_cer > 0.3
    assert transcript_disagreement(whole, "going to the store with my friends to", "en").edge_cer > 0.2
    assert transcript_disagreement(whole, "going to the shop with my friends today", "en").edge_cer == 0


@given(WORDS, WORDS)
def test_it_is_symmetric_bounded_and_accounts_for_its_edits(a: list[str], b: list[str]) -> None:
    there, back = (
        transcript_disagreement(x, y, "en") for x, y in ((" ".join(a), " ".join(b)), (" ".join(b), " ".join(a)))
    )
    assert (there.value, there.characters, there.edge_cer) == (back.value, back.characters, back.edge_cer)
    assert (there.substitutions, there.insertions, there.deletions) == (
        back.substitutions,
        back.deletions,
        back.insertions,
    )
    assert 0 <= there.value <= 1
    assert there.value * there.length == pytest.approx(there.substitutions + there.insertions + there.deletions)


@given(HAN, HAN)
def test_it_is_symmetric_in_characters_too(a: str, b: str) -> None:
    assert transcript_disagreement(a, b, "zh").value == transcript_disagreement(b, a, "zh").value


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from([None, "en", "zh", "de"]))
def test_no_text_of_a_stranger_raises_and_equal_texts_agree(a: str, b: str, language: str | None) -> None:
    assert 0 <= transcript_disagreement(a, b, language).value <= 1
    assert transcript_disagreement(a, a, language).value == 0


def test_texts_that_are_no_utterances_are_compared_all_the_same() -> None:
    assert transcript_disagreement("17 " * 20_000, "seventeen " * 20_000, "en").value == 1
    assert transcript_disagreement("x" * 50_000, "x" * 49_000, "en").substitutions == 1


def opinions(*pairs: tuple[str | None, str | None]) -> pa.Table:
    def transcript(text: str | None) -> dict[str, Any] | None:
        return None if text is None else {"recogniser": "test", "text": text, "language": "en"}

    return pa.table(
        {
            "transcript": pa.array([transcript(a) for a, _ in pairs], TRANSCRIPT),
            "second_opinion": pa.array([transcript(b) for _, b in pairs], TRANSCRIPT),
            "language": pa.array(["en"] * len(pairs)),
        }
    )


def test_the_stage_rejects_what_disagrees_with_value_and_limit() -> None:
    rows = CrossCheck()(
        opinions(
            ("one two three four", "1, 2, 3, 4."), ("all is well here", "all is lost here"), ("", "..."), ("", "hi")
        )
    )
    decisions = rows["decision"].to_pylist()
    assert decisions[0] is None
    assert (decisions[1]["reason"], decisions[1]["value"], decisions[1]["threshold"]) == (
        "transcripts_disagree",
        0.25,
        0.15,
    )
    assert decisions[2]["reason"] == "no_words"
    assert decisions[3]["reason"] == "transcripts_disagree"
    assert decisions[3]["value"] == 1
    assert set(CrossCheck.writes) <= set(rows.column_names)


def test_an_opinion_that_is_missing_is_an_empty_one() -> None:
    rows = CrossCheck()(opinions((None, None), ("hello", None)))
    assert [d["reason"] for d in rows["decision"].to_pylist()] == ["no_words", "transcripts_disagree"]


def test_limits_on_characters_and_edges_apply_where_they_are_given() -> None:
    pair = ("walking to the store with all of my friends today", "king to the store with all of my friends today")
    assert "decision" not in opinions(pair).column_names
    assert CrossCheck()(opinions(pair))["decision"].to_pylist() == [None]
    assert CrossCheck(max_edge_cer=0.2)(opinions(pair))["decision"][0]["reason"].as_py() == "edges_disagree"
    strict = CrossCheck(max_character_disagreement=0.05)(opinions(pair))
    assert strict["decision"][0]["reason"].as_py() == "characters_disagree"


def test_an_empty_table_stays_empty() -> None:
    rows = CrossCheck()(opinions())
    assert rows.num_rows == 0
    assert set(CrossCheck.writes) <= set(rows.column_names)
