"""Documents that say something pass every filter; each fault is rejected under its reason, and measured beside it."""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from curation.documents.alt_texts import CheckAltTexts
from curation.documents.filters import (
    DocumentFlaggedWords,
    DocumentLanguage,
    DocumentLength,
    DocumentNoise,
    DocumentPersonalData,
    DocumentRepetition,
    DocumentShape,
    DocumentSpecialCharacters,
    NodeBoilerplate,
    NodeFlaggedWords,
    NodeLength,
    NodeNoise,
    NodePersonalData,
    NodeRepetition,
    NodeSpecialCharacters,
    shape,
)
from curation.documents.noise import noisy_share
from curation.documents.personal_data import PersonalData, personal_data
from curation.runtime.chain import check_chain, run_chain
from curation.stage import Only, Stage
from schemas.documents import DOCUMENT, NODE_ITEM

ARTICLE = (
    "The first street lamps of the town burnt oil, and a man with a ladder went from one to the next every evening.",
    "Gas came in 1823. The pipes were laid by prisoners, who were paid in bread, and the mayor lit the first flame.",
    "Electric light took another sixty years, since the gas works belonged to the mayor's brother-in-law.",
)
CHINESE = (
    "镇上最早的路灯烧的是油，每天傍晚都有一个人扛着梯子，从一盏灯走到下一盏灯。",
    "一八二三年有了煤气。管道是囚犯铺设的，他们的工钱是面包，镇长点燃了第一盏灯。",
)
IMAGE = {"node_kind": "image", "place": {"path": "/data/a.png", "format": "file"}}
REMOTE = {"node_kind": "image", "url": "https://e.org/a.png"}


def document(*items: str | dict[str, Any]) -> list[dict[str, Any]]:
    return [{"node_kind": "text", "text": item} if isinstance(item, str) else item for item in items]


GOOD = document(ARTICLE[0], IMAGE, ARTICLE[1], ARTICLE[2])


def documents(*nodes: Sequence[dict[str, Any]]) -> pa.Table:
    names = [str(i) for i in range(len(nodes))]
    lists = pa.array([list(items) for items in nodes], pa.list_(NODE_ITEM))
    columns = {"row_id": names, "root": names, "ordinal": [0] * len(nodes)}
    kinds = {"kind": ["document"] * len(nodes), "uri": names}
    return pa.table(columns | kinds).append_column("nodes", lists)


def texts(*values: str | None) -> pa.Table:
    names = [str(i) for i in range(len(values))]
    columns = {"row_id": names, "root": names, "ordinal": [0] * len(values), "kind": ["node"] * len(values)}
    return pa.table(columns | {"uri": names, "text": pa.array(values, pa.string())})


def reasons(stage: Stage, rows: pa.Table) -> list[str | None]:
    rows = stage(rows)
    assert set(stage.writes) <= set(rows.column_names)
    if "decision" not in rows.column_names:
        return [None] * rows.num_rows
    return [decision and decision["reason"] for decision in rows["decision"].to_pylist()]


DOCUMENT_STAGES = [
    DocumentShape(),
    DocumentLength(),
    DocumentNoise(),
    DocumentSpecialCharacters(),
    DocumentRepetition(),
    DocumentFlaggedWords(),
    DocumentPersonalData(),
    DocumentLanguage(),
]
NODE_STAGES = [
    NodeLength(),
    NodeNoise(),
    NodeSpecialCharacters(),
    NodeRepetition(),
    NodeBoilerplate(),
    NodeFlaggedWords(),
    NodePersonalData(),
]


def test_good_documents_pass_all_filters() -> None:
    chinese = document(CHINESE[0], IMAGE, CHINESE[1])
    outcome = run_chain("documents", DOCUMENT_STAGES, documents(GOOD, chinese))
    assert outcome.counts == {"document": {"kept": 2}}
    assert outcome.rows["nodes_language"].to_pylist() == ["en", "zh"]
    check_chain("documents", DOCUMENT.names, DOCUMENT_STAGES)


def test_good_texts_pass_all_filters() -> None:
    rows = texts(*ARTICLE, *CHINESE, "Call 999 at once! It is 12:30 on 2024-05-06, and costs 1,299.00 in 90210.")
    outcome = run_chain("nodes", NODE_STAGES, rows)
    assert outcome.counts == {"node": {"kept": rows.num_rows}}, outcome.ledger.to_pylist()


def test_filters_of_texts_leave_images_alone() -> None:
    rows = texts("no", None).append_column("node_kind", pa.array(["text", "image"]))
    outcome = run_chain("nodes", [Only("node_kind", "text", stage) for stage in NODE_STAGES], rows)
    assert outcome.counts == {"node": {"kept": 1, "rejected": 1}}
    assert outcome.ledger.to_pylist()[0]["reason"] == "too_few_words"


def test_a_text_that_goes_on_where_no_check_looks_is_rejected() -> None:
    tail = "incomprehensibilities " * 900 + "x" * 1_000_000
    assert reasons(NodeLength(), texts("few words " * 100, tail)) == [None, "too_long"]
    assert reasons(NodeNoise(), texts(tail)) == [None], "no other check sees the tail"
    both = documents(document(*["antidisestablishmentarianism " * 100] * 70), document(*ARTICLE))
    assert reasons(DocumentLength(), both) == ["too_long", None]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (document(*ARTICLE), "too_few_images"),
        (document(ARTICLE[0], REMOTE), "images_not_here"),
        (document(ARTICLE[0], IMAGE | {"error": "leads out"}), "images_not_here"),
        (document(IMAGE, IMAGE), "no_text"),
        (document(ARTICLE[0], *[IMAGE] * 30), None),
        (document(ARTICLE[0], *[IMAGE] * 31), "too_many_images"),
        (document(IMAGE, *["a short text"] * 499), None),
        (document(IMAGE, *["a short text"] * 500), "too_many_nodes"),
        (document(), "too_few_images"),
    ],
)
def test_the_shape_of_a_document_decides(nodes: list[dict[str, Any]], reason: str | None) -> None:
    assert reasons(DocumentShape(), documents(GOOD, nodes, GOOD)) == [None, reason, None]


def test_a_document_that_changes_too_often_is_too_complex() -> None:
    restless = document("word", IMAGE) * 10
    assert reasons(DocumentShape(max_alternations=18), documents(restless, GOOD)) == ["too_many_alternations", None]
    assert reasons(DocumentShape(max_alternations=19), documents(restless)) == [None]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("tirb"), max_size=12), max_size=8))
def test_counts_are_those_of_a_plain_count(kinds: list[list[str]]) -> None:
    node = {"t": document("x")[0], "i": IMAGE, "r": REMOTE, "b": IMAGE | {"error": "bad"}}
    table = documents(*[[node[kind] for kind in row] for row in kinds])
    found = shape(table["nodes"])
    for i, row in enumerate(kinds):
        usable = [kind for kind in row if kind in "ti"]
        assert found["node_count"][i] == len(row)
        assert found["image_count"][i] == row.count("i")
        assert found["text_count"][i] == row.count("t")
        assert found["alternations"][i] == sum(a != b for a, b in pairwise(usable))


def distinct_words(count: int) -> str:
    return " ".join(f"w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(count))


@pytest.mark.parametrize(
    ("words", "reason"), [(9, "too_few_words"), (10, None), (2000, None), (2001, "too_many_words")]
)
def test_a_document_has_ten_to_two_thousand_words(words: int, reason: str | None) -> None:
    half = distinct_words(words // 2), distinct_words(words - words // 2)
    assert reasons(DocumentLength(), documents(document(half[0], IMAGE, half[1]))) == [reason]


@pytest.mark.parametrize(("words", "reason"), [(3, "too_few_words"), (4, None), (1000, None), (1001, "too_many_words")])
def test_a_text_has_four_to_a_thousand_words(words: int, reason: str | None) -> None:
    assert reasons(NodeLength(), texts(distinct_words(words))) == [reason]


def test_letters_of_unspaced_scripts_are_parts_of_words() -> None:
    rows = NodeLength()(texts("路灯烧的是油每天", "路灯烧的是油", "รถ", "", None))
    assert rows["text_words"].to_pylist() == [4.0, 3.0, 1.0, 0.0, 0.0]
    assert reasons(NodeLength(), texts("路灯烧的是油每天", "路灯烧的是油")) == [None, "too_few_words"]


def test_a_document_that_repeats_itself_is_rejected_and_its_texts_with_it() -> None:
    again = "Sign up to our letter today and never miss an offer again from all of us here. "
    spread = document(*[part for text in ARTICLE for part in (text, again)], IMAGE, again, again, again)
    found = reasons(DocumentRepetition(), documents(GOOD, spread))
    assert found[0] is None
    assert found[1] in ("repetition_of_words", "repetition_of_characters", "repetition_looped")
    assert reasons(NodeRepetition(), texts(again * 8, ARTICLE[0]))[0] is not None


def test_special_characters_and_flagged_words_are_rejected(tmp_path: Path) -> None:
    stars = "*** $$$ >>> !!! " * 20 + "buy now"
    assert reasons(DocumentSpecialCharacters(), documents(GOOD, document(stars, IMAGE))) == [None, "special_characters"]
    assert reasons(NodeSpecialCharacters(), texts(ARTICLE[0], stars)) == [None, "special_characters"]
    (tmp_path / "words.txt").write_text("lamps\nmayor\n")
    path = str(tmp_path / "words.txt")
    assert reasons(DocumentFlaggedWords(words_path=path), documents(GOOD)) == ["flagged_words"]
    assert reasons(NodeFlaggedWords(words_path=path), texts(*ARTICLE)) == ["flagged_words"] * 2 + [None]
    assert reasons(DocumentFlaggedWords(), documents(GOOD)) == [None]


def test_the_language_of_a_document_must_be_sure_wanted_and_one() -> None:
    english, chinese = " ".join(ARTICLE) * 1, "".join(CHINESE)
    both = document(english, IMAGE, chinese * 4)
    gibberish = document("xkq zzv qwp", IMAGE, "12 34 56")
    assert reasons(DocumentLanguage(), documents(GOOD, both, gibberish)) == [
        None,
        "mixed_language",
        "language_uncertain",
    ]
    assert reasons(DocumentLanguage(languages=("zh",)), documents(GOOD)) == ["wrong_language"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Write to anna.lee+news@mail.example.co.uk today", PersonalData(1, 0, 0)),
        ("+44 20 7946 0958, (212) 555-0147, 212-555-0147, 030 1234 5678", PersonalData(0, 4, 0)),
        ("电话：13812345678。", PersonalData(0, 1, 0)),
        ("SSN 078-05-1120", PersonalData(0, 0, 1)),
        ("4111 1111 1111 1111 and 5500-0000-0000-0004", PersonalData(0, 0, 2)),
        ("IBAN DE89 3704 0044 0532 0130 00", PersonalData(0, 0, 1)),
        ("身份证 11010519491231002X", PersonalData(0, 0, 1)),
        # What looks alike, and is not.
        ("4111 1111 1111 1112, DE88 3704 0044 0532 0130 00", PersonalData(0, 0, 0)),
        ("ISBN 978-3-16-148410-0, 2024-05-06 12:30:45, 1,299.00, 3.14159265358979", PersonalData(0, 0, 0)),
        ("@user on the net, a@b, page 12 of 345, 1990-2024, 192.168.0.1", PersonalData(0, 0, 0)),
        ("", PersonalData(0, 0, 0)),
    ],
)
def test_personal_data_is_told_from_what_looks_like_it(text: str, found: PersonalData) -> None:
    assert personal_data(text) == found


def test_a_text_with_an_address_goes_and_a_list_of_addresses_takes_its_document_along() -> None:
    mails = " ".join(f"person{i}@example.org" for i in range(11))
    assert reasons(NodePersonalData(), texts(ARTICLE[0], "Write to me@example.org, please")) == [None, "personal_data"]
    good = document(*ARTICLE, "Write to me@example.org, please", IMAGE)
    assert reasons(DocumentPersonalData(), documents(good, document(mails, IMAGE))) == [None, "personal_data"]


@pytest.mark.parametrize(
    "noise",
    [
        "https://example.org/a/b?c=d&e=f",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "d41d8cd98f00b204e9800998ecf8427e",
        "%E4%BD%A0%E5%A5%BD",
        '<div class="x">&nbsp;</div>',
        "Ã¼Ã¤Ã¶",
        "â€œâ€™â€¦",
        "ä½\xa0å¥½ä¸–ç•Œ".replace("\xa0", "\u00a0"),
        "ÐŸÑ€Ð¸Ð²ÐµÑ‚",
        "\ufffd\ufffd\ufffd",
        "\\u4f60\\u597d",
        "x" * 80,
    ],
)
def test_noise_is_told_in_a_sentence(noise: str) -> None:
    share = noisy_share(f"The lamp {noise} was lit.")
    visible = len("".join(noise.split()))
    assert share >= 0.7 * visible / (visible + len("Thelampwaslit."))
    assert reasons(NodeNoise(), texts(ARTICLE[0], " ".join([noise] * 12))) == [None, "noisy_tokens"]
    assert reasons(DocumentNoise(), documents(GOOD, document("a lamp", *[noise] * 12, IMAGE))) == [None, "noisy_tokens"]


@pytest.mark.parametrize(
    "text",
    [
        *ARTICLE,
        *CHINESE,
        "Ça coûte 30 € à « l'Éden » — déjà vu…",
        "Größe: 3 Äpfel, naïve façade, São Tomé, Ångström, Þórr",
        "Привет, мир! Как дела?",
        "AT&T and Q&A; x < y > z; 5 % of 100 %",
        "antidisestablishmentarianism internationalization Donaudampfschifffahrtsgesellschaft",
        "ภาษาไทยไม่มีช่องว่างระหว่างคำ ประโยคจึงยาวมากแต่ไม่ใช่ขยะ",
        "ACCOMMODATIONS FOR 1234567890123456 PEOPLE",
    ],
)
def test_plain_text_of_any_language_has_no_noise(text: str) -> None:
    assert noisy_share(text) == 0.0


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_rules_take_any_text(text: str) -> None:
    assert 0 <= noisy_share(text) <= 1
    personal_data(text)


@pytest.mark.parametrize(
    "piece", ["a", "1", "1 ", "a@", "(", "+1", "A1", "aA", "%4", "&a", "<a", "Ã", "à\u0080", "\\u", "a.", "3"]
)
def test_rules_are_not_slow_on_text_made_for_it(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    noisy_share(text)
    personal_data(text)
    assert time.process_time() - started < 3


def test_an_article_may_quote_a_tag() -> None:
    quotes = f"{ARTICLE[0]} On a page you would write <b> for that, and close it."
    scrap = "<div class='x'><a href='y'>so</a></div>"
    assert reasons(NodeBoilerplate(), texts(quotes, scrap)) == [None, "boilerplate"]


def test_boilerplate_is_rejected() -> None:
    assert reasons(NodeBoilerplate(), texts("Click here to read more", "IMG_2041.JPG", ARTICLE[0])) == [
        "boilerplate"
    ] * 2 + [None]


def test_filters_decide_the_same_whatever_stands_beside() -> None:
    rows = [GOOD, document(ARTICLE[0]), document("no", IMAGE), document(*ARTICLE * 9, IMAGE), document()]
    together = (
        run_chain("d", DOCUMENT_STAGES, documents(*rows)).ledger.select(["row_id", "reason", "value"]).to_pylist()
    )
    for i in range(len(rows)):
        alone = run_chain("d", DOCUMENT_STAGES, documents(*rows).slice(i, 1)).ledger
        assert alone.select(["row_id", "reason", "value"]).to_pylist() == [together[i]]


def test_an_image_s_own_text_is_looked_at_and_the_image_stays() -> None:
    checks = CheckAltTexts((NodeLength(min_words=0, max_words=50), NodePersonalData(), NodeBoilerplate()))
    rows = texts("A lamp", None, "Mail me@example.org", "IMG_2041.JPG", "word " * 60)
    checked = checks(rows)
    assert checked["text"].to_pylist() == ["A lamp", None, None, None, None]
    assert checked["alt_removed"].to_pylist() == [None, None, "personal_data", "boilerplate", "too_many_words"]
    assert "decision" not in checked.column_names
    assert CheckAltTexts()(rows.slice(0, 2))["text"].to_pylist() == ["A lamp", None]
    assert checks.fingerprint() != CheckAltTexts().fingerprint()
    outcome = run_chain(
        "checked", [Only("node_kind", "image", checks)], rows.append_column("node_kind", pa.array(["text"] * 5))
    )
    assert outcome.rows["text"].to_pylist()[2] == "Mail me@example.org"
