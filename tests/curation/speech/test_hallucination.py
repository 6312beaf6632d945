"""Loops, stock phrases and other inventions of recognisers are rejected; what people say is not."""

import zlib
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from curation.speech.hallucination import Hallucinations
from curation.text.repetition import compression_ratio, looped_ngram, repeated_share
from schemas.speech import TRANSCRIPT

PLAIN = "so what we did on that day was walk down to the river and look at the boats for an hour or two"


def decisions(*rows: dict[str, Any], stage: Hallucinations | None = None) -> list[str | None]:
    """The reason for each row, None where it passes; a row gives `text` and what differs from plain speech."""
    known = [{"second": row["text"], "language": "en", "speech_s": 30.0} | row for row in rows]
    names = [field.name for field in TRANSCRIPT]
    first = [{n: row.get(n) for n in names} for row in known]
    second = [{n: row["second"] if n == "text" else None for n in names} for row in known]
    table = pa.table(
        {
            "transcript": pa.array(first, TRANSCRIPT),
            "second_opinion": pa.array(second, TRANSCRIPT),
            "language": pa.array([row["language"] for row in known]),
            "speech_s": pa.array([row["speech_s"] for row in known], pa.float64()),
        }
    )
    result = (stage or Hallucinations())(table)
    assert set(Hallucinations.writes) <= set(result.column_names)
    return [decision and decision["reason"] for decision in result["decision"].to_pylist()]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("no no no", "en"),
        ("No, no, no, no, no!", "en"),
        ("ha ha ha ha ha ha", "en"),
        ("bye bye", "en"),
        ("very very very very very good", "en"),
        ("thank you thank you thank you", "en"),
        ("let it go let it go let it go", "en"),
        ("that is that and that is that", "en"),
        ("one two three one two three", "en"),
        ("哈哈哈哈哈哈", "zh"),
        ("好的好的好的好的", "zh"),
        ("对不起对不起对不起", "zh"),
        ("はいはいはいはい", "ja"),
        ("ครับ ครับ ครับ", "th"),
        (PLAIN, "en"),
    ],
)
def test_repetitions_that_people_say_pass(text: str, language: str) -> None:
    assert decisions({"text": text, "language": language}) == [None]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("i am going to the i am going to the i am going to the", "en"),
        ("I'm going to the, I'm going to the, I'm going to the, I'm going to the", "en"),
        (PLAIN + " and then and then and then and then and then", "en"),
        ("you " * 20, "en"),
        ("今天我们要去公园玩今天我们要去公园玩今天我们要去公园玩", "zh"),
        ("谢谢大家" * 6, "zh"),
        ("ご視聴ありがとう" * 4, "ja"),
        ("मैं जा रहा हूँ " * 5, "hi"),
    ],
)
def test_loops_are_named(text: str, language: str) -> None:
    assert decisions({"text": text, "language": language}) == ["looped_transcript"]


def test_a_loop_is_found_with_its_count() -> None:
    loop = looped_ngram("so i am going to the I am going to the, i am going to the end", "en")
    assert loop is not None
    assert (loop.ngram, loop.count, loop.repeated, loop.unit) == ("i am going to the", 3, 10, "word")
    assert looped_ngram("a b c d", "en") is None
    assert looped_ngram("a b a b", "en", min_repeats=3) is None


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5), st.integers(3, 6))
def test_every_planted_loop_is_found(gram: list[str], count: int) -> None:
    loop = looped_ngram(" ".join(["start", *gram * count, "end"]), "en")
    assert loop is not None
    assert loop.repeated >= (count - 1) * len(gram)


def test_repeated_share_counts_repeats_wherever_they_stand() -> None:
    assert repeated_share("a b c x a b c y", "en") == pytest.approx(1 / 6)
    assert repeated_share("a b", "en") == 0


def test_a_text_without_letters_of_latin_1_is_not_compressible_by_its_script_alone() -> None:
    hindi = (
        "भारत एक विशाल देश है जहाँ अनेक भाषाएँ बोली जाती हैं और विभिन्न संस्कृतियों के लोग मिलजुल कर रहते हैं। "
        "यहाँ के त्योहार पूरे विश्व में प्रसिद्ध हैं और हर मौसम में कोई न कोई उत्सव मनाया जाता है। "
        "गंगा नदी को पवित्र माना जाता है और लाखों लोग उसके किनारे स्नान करने आते हैं।"
    )
    data = hindi.encode()
    assert len(data) / len(zlib.compress(data)) > 2.4
    assert compression_ratio(hindi) < 2
    assert compression_ratio(hindi[:60] * 6) > 2.4
    assert compression_ratio("") == 1


def test_a_text_that_is_too_repetitive_is_compressible_without_a_loop() -> None:
    text = " ".join(f"and then he went to the shop {i} and then he went to the {i} shop" for i in "abcdefgh")
    assert decisions({"text": text}) == ["compressible_transcript"]
    assert decisions({"text": text}, stage=Hallucinations(min_compression_letters=10_000)) == [None]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Thanks for watching!", "en"),
        ("Thank you for watching. Please subscribe.", "en"),
        ("Subtitles by the Amara.org community", "en"),
        ("Untertitelung des ZDF, 2020", "de"),
        ("请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", "zh"),
        ("請不吝點贊訂閱", "zh"),
        ("ご視聴ありがとうございました", "ja"),
        ("시청해주셔서 감사합니다.", "ko"),
        ("देखने के लिए धन्यवाद", "hi"),
    ],
)
def test_a_transcript_that_is_a_stock_phrase_is_named(text: str, language: str) -> None:
    assert decisions({"text": text, "language": language}) == ["stock_phrase"]


def test_a_stock_phrase_within_speech_counts_only_where_there_is_doubt() -> None:
    text = PLAIN + ", thanks for watching"
    assert decisions({"text": text}) == [None]
    assert decisions({"text": text, "second": ""}) == ["stock_phrase"]
    assert decisions({"text": text, "no_speech": 0.9}) == ["stock_phrase"]
    assert decisions({"text": "no thanks for watchingham", "second": ""}) == [None]


def test_a_courtesy_counts_only_where_there_is_doubt() -> None:
    assert decisions({"text": "Thank you."}) == [None]
    assert decisions({"text": "Thank you.", "second": ""}) == ["stock_phrase"]
    assert decisions({"text": "Thank you, Mary.", "second": ""}) == [None]


def test_a_long_run_of_courtesies_takes_no_time() -> None:
    assert decisions({"text": "bye " * 7 + "now " + "bye bye " * 3, "second": ""}) == [None]
    assert decisions({"text": "bye " * 400 + "x", "second": "", "speech_s": 900.0}) == ["looped_transcript"]


def test_silence_requires_both_no_speech_and_low_confidence() -> None:
    assert decisions(
        {"text": PLAIN, "no_speech": 0.8, "confidence": -1.4},
        {"text": PLAIN, "no_speech": 0.8, "confidence": -0.3},
        {"text": PLAIN, "no_speech": 0.2, "confidence": -1.4},
        {"text": PLAIN},
    ) == ["no_speech", None, None, None]


def test_more_text_than_can_be_spoken_is_named() -> None:
    assert decisions({"text": PLAIN, "speech_s": 1.5}) == ["impossible_pace"]
    assert decisions({"text": PLAIN, "speech_s": 4.0}) == [None]
    assert decisions({"text": "今天天气很好我们去公园玩", "language": "zh", "speech_s": 0.6}) == ["impossible_pace"]
    assert decisions({"text": "今天天气很好我们去公园玩", "language": "zh", "speech_s": 1.5}) == [None]
    assert decisions({"text": "hello", "speech_s": 0.0}) == ["impossible_pace"]
    assert decisions({"text": "hello", "speech_s": None}) == [None]


def test_an_empty_transcript_is_left_to_the_cross_check() -> None:
    assert decisions({"text": ""}, {"text": None}) == [None, None]


def test_the_opinion_that_is_trained_on_is_the_one_checked() -> None:
    row = {"text": PLAIN, "second": "Thanks for watching!"}
    assert decisions(row) == [None]
    assert decisions(row, stage=Hallucinations(column="second_opinion")) == ["stock_phrase"]
