"""Where fragments end: after marks, and not inside numbers, abbreviations, names and addresses."""

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from curation.text.punctuation import Level, fragment_ends, language_data


def pieces(text: str, language: str | None, level: Level = "clause") -> list[str]:
    ends = fragment_ends(text, language, level)
    borders = [0, *ends, len(text)]
    return [piece for a, b in pairwise(borders) if (piece := text[a:b].strip())]


WHOLE = [
    ("It cost 3.5 million", "en"),
    ("about 1,000 people", "en"),
    ("at 10:30 sharp", "en"),
    ("the score was 3:2 at half time", "en"),
    ("Mr. Smith and Mrs. Jones met Dr. Will Young", "en"),
    ("mr. smith met dr. jones", "en"),
    ("the U.S. Army went", "en"),
    ("fruit e.g. apples i.e. this one", "en"),
    ("J. K. Rowling and George W. Bush", "en"),
    ("St. Louis in Nov. with Capt. Cook", "en"),
    ("No. 5 and Fig. 3 on p. 12", "en"),
    ("at 5 p.m. we left", "en"),
    ("see https://example.com/a,b?c=d&e=1:2 now", "en"),
    ("write to me@example.com about node.js v1.2.3", "en"),
    ("a well-known 1990–1995 era", "en"),
    ("from 10 – 20 people", "en"),
    ("he said “hello” to (nearly) everyone", "en"),
    ("Ph.D. students at 9 a.m. daily", "en"),
    ("Apples Inc. and Sons Ltd. merged", "en"),
    ("Am 3. Mai kam z.B. Dr. Müller", "de"),
    ("das kostet 3,50 Euro d.h. wenig", "de"),
    ("der 2. Weltkrieg", "de"),
    ("M. Dupont et Mme. Martin av. J.-C.", "fr"),
    ("la Sra. García vive en EE.UU. con él", "es"),
    ("в 2020 г. в Москве и т.д.", "ru"),
    ("We want approx. twenty or ca. ten", "en"),
    ("ul. Długa 5 m.in. w Warszawie", "pl"),
    ("He said hm. and left", "en"),
    ("今天是3.5度", "zh"),
    ("价格是１，０００元", "zh"),
    ("早上10：30见", "zh"),
    ("アイスクリーム・コーヒー", "ja"),
    ("เขาอายุ 25 ปี", "th"),
    ("เด็ก ๆ ไปโรงเรียน", "th"),
    ("พ.ศ. 2567", "th"),
]


@pytest.mark.parametrize(("text", "language"), WHOLE)
def test_these_signs_end_nothing(text: str, language: str) -> None:
    assert [end for end in fragment_ends(text, language) if end < len(text)] == []


SPLIT = [
    (["Hello,", "world.", "How are you?", "Fine!"], "en"),
    (["He lives in the U.S.", "He likes it."], "en"),
    (["We met at 5 p.m.", "The show began."], "en"),
    (["Take plan B.", "Then go."], "en"),
    (["No.", "I do not."], "en"),
    (["“Hello,”", "he said.", '"Go!"', "she cried (loudly).", "'No.'"], "en"),
    (["What?!", "Well...", "maybe…", "yes."], "en"),
    (["It was —", "I think —", "fine;", "it is true:", "yes"], "en"),
    (["See https://example.com/a.", "Then go."], "en"),
    (["It was 1990.", "She is 30.", "He is not."], "en"),
    (["Er kam 1990.", "Dann ging er."], "de"),
    (["„Hallo.“", "Er ging,", "»Gut.«", "Sie auch."], "de"),
    (["« Bonjour. »", "Il dit :", "« Oui ! »", "Bon."], "fr"),
    (["¿Qué?", "¡Hola!", "Bien."], "es"),
    (["— Привет,", "— сказал он."], "ru"),
    (["你好，", "世界。", "他说：", "“今天是3.5度。”", "她说「好！」", "真的……", "嗯"], "zh"),
    (["你好,", "世界!", "再见."], "zh"),
    (["これは、", "ペンです。", "「はい。」", "そうですか？"], "ja"),
    (["यह एक है।", "वह दो है॥", "ठीक"], "hi"),
    (["مرحبا،", "كيف حالك؟", "جيد."], "ar"),
    (["안녕하세요.", "반갑습니다!"], "ko"),
    (["สวัสดีครับ", "ผมชื่อสมชาย"], "th"),
    (["one.", "two."], "xx"),
    (["it is so.", "then we went."], "en"),
    (["One,", "two."], None),
    (["Tomorrow.", "he said so"], "en"),
]


@pytest.mark.parametrize(("fragments", "language"), SPLIT)
def test_these_marks_end_fragments(fragments: list[str], language: str | None) -> None:
    joint = "" if language in ("zh", "ja") else " "
    assert pieces(joint.join(fragments), language) == fragments


def test_sentences_alone_can_be_asked_for() -> None:
    assert pieces("Well, yes; it is. Then: go... on. Stop… He did", "en", "sentence") == [
        "Well, yes; it is.",
        "Then: go... on.",
        "Stop…",
        "He did",
    ]
    assert pieces("你好，世界。再见", "zh", "sentence") == ["你好，世界。", "再见"]


def test_a_text_of_marks_has_no_fragment() -> None:
    assert fragment_ends("... !? — …", "en") == []
    assert fragment_ends("", "en") == []


@given(st.text(alphabet="ab.,!? …\"'”)3:—。，“", max_size=40), st.sampled_from(["en", "de", "zh", None]))
def test_ends_ascend_and_every_fragment_has_a_letter(text: str, language: str | None) -> None:
    ends = fragment_ends(text, language)
    assert ends == sorted(set(ends))
    borders = [0, *ends]
    assert all(any(map(str.isalnum, text[a:b])) for a, b in pairwise(borders))


def test_the_word_lists_come_without_importing_spacy() -> None:
    assert {"Mr.", "Nov."} <= language_data("en").abbreviations
    assert "z.B." in language_data("de").abbreviations
    assert "he" in language_data("en").stop_words
    code = "import sys; from curation.text.punctuation import *; language_data('en'); print('spacy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("language", ["../../etc", "char_classes.py", "__pycache__", "", "x" * 500])
def test_a_strange_language_is_no_path(language: str) -> None:
    language_data(language)
    assert fragment_ends("One. Two.", language) == [4, 9]
