"""Character references are decoded, once or twice encoded, before texts are compared; the source's text is kept."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from curation.media.document_records import image, text
from curation.text.boilerplate import boilerplate
from curation.text.entities import DecodeTexts, decoded, decoded_column
from schemas.documents import NODE_ITEM


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp;amp; Jerry", "Tom & Jerry"),
        ("Tom &amp Jerry, &quot tea &quot", 'Tom & Jerry, " tea "'),
        ("Children&#39;s &#039;room&#x27;", "Children's 'room'"),
        ("&amp;#39;Growing Pains&amp;#39; star", "'Growing Pains' star"),
        ("Blue&nbsp;dress&#160;size&nbsp, M", "Blue dress size , M"),
        ("Caf&eacute; &ndash; 5&nbsp;&euro;", "Café – 5 €"),
        ("P&EACUTE;REZ &NTILDE; &AMP; &NBSP;", "PÉREZ Ñ &  "),
        ("I &lt;3 you &amp; a &lt; b", "I <3 you & a < b"),
        ("&lt;b&gt;Sale&lt;/b&gt;", "<b>Sale</b>"),
        ("wait&hellip; &#128;5 &#8230;", "wait… €5 …"),
        ("soft&shy;hyphen", "softhyphen"),
        ("AT&T, R&D; and Q&A; fish & chips", "AT&T, R&D; and Q&A; fish & chips"),
        ("/page?a=1&amp=2&lang=en&copy=3", "/page?a=1&amp=2&lang=en&copy=3"),
        ("&notanentity; &#; &#x;", "&notanentity; &#; &#x;"),
        ("Ben &Jerry", "Ben &Jerry"),
        ("", ""),
    ],
)
def test_references_become_what_they_stand_for(source: str, meant: str) -> None:
    assert decoded(source) == meant


@given(st.text(st.sampled_from("&amp;#39lt;gnbsx \U0001f600é"), max_size=40))
def test_what_is_decoded_is_utf8_and_no_longer(source: str) -> None:
    after = decoded(source)
    assert after.encode() is not None
    assert len(after) <= len(source)


@pytest.mark.parametrize(
    "prose",
    [
        "I <3 you and you > me",
        "a < b and c > d",
        "The curve x<b> of the plot",
        "Plot of the function (blue) and its derivative (red)",
        "A wedding function (blue) in the hall",
        "(blue) dress on a hanger",
        "Rainy again >:( at the office",
        "vector<int> in a slide about <stdio.h>",
        "He said <hello> and left -> home",
        "style=modern, class=A energy label",
    ],
)
def test_angle_brackets_in_prose_are_no_markup(prose: str) -> None:
    assert boilerplate(prose).kind is None


@pytest.mark.parametrize(
    "markup",
    [
        "<b>Sale</b> of shoes",
        "Sale of shoes</b>",
        "<b>Sale of shoes",
        "<p>A red car",
        "A red car <br> in the street",
        "A red car <br/> in the street",
        "A red car <BR /> in the street",
        '<img src="foo.jpg" alt="dog">',
        '<a href="https://example.org/">A red car',
        "A car <div class=",
        "A car <!-- photo -->",
        "<p class='caption'>A red car</p>",
        '<span style="font-size:13px;">Nintendo</span>',
        "A red car" + decoded("&lt;br&gt;") + "in the street",
        "function load(image) { return 1 }",
    ],
)
def test_markup_is_rejected_whole(markup: str) -> None:
    assert boilerplate(markup).kind == "html"


def test_a_column_keeps_what_its_source_had_where_it_changed() -> None:
    after, before = decoded_column(pa.chunked_array([["a &amp; b", None], ["a & b", "&", "&lt;3"]]))
    assert after.to_pylist() == ["a & b", None, "a & b", "&", "<3"]
    assert before.to_pylist() == ["a &amp; b", None, None, None, "&lt;3"]
    assert decoded_column(pa.chunked_array([pa.array([], pa.string())]))[1].to_pylist() == []


def documents(*several: tuple[str, list[dict[str, Any]] | None]) -> pa.Table:
    lists = pa.array([items for _, items in several], pa.list_(NODE_ITEM))
    return pa.table({"row_id": [str(i) for i in range(len(several))], "uri": [u for u, _ in several], "nodes": lists})


def test_texts_of_tables_and_of_images_are_decoded_and_a_pages_own_text_is_as_it_is_read() -> None:
    nodes = [text("Use &lt; here"), image(text="Tom &amp; Jerry"), text("plain")]
    found = DecodeTexts()(documents(("a.jsonl", nodes), ("b.HTML", nodes), ("c.parquet", None), ("d.parquet", [])))
    texts = [items and [item["text"] for item in items] for items in found["nodes"].to_pylist()]
    assert texts == [["Use < here", "Tom & Jerry", "plain"], ["Use &lt; here", "Tom & Jerry", "plain"], None, []]
    assert found["source_texts"].to_pylist() == [
        [{"ordinal": 0, "text": "Use &lt; here"}, {"ordinal": 1, "text": "Tom &amp; Jerry"}],
        [{"ordinal": 1, "text": "Tom &amp; Jerry"}],
        None,
        None,
    ]
    assert found.slice(1, 1)["nodes"].to_pylist() == DecodeTexts()(documents(("b.html", nodes)))["nodes"].to_pylist()
    assert DecodeTexts()(documents(("a.jsonl", [text("plain")])))["source_texts"].to_pylist() == [None]
    assert DecodeTexts()(documents(("a.jsonl", []))).num_rows == 1
