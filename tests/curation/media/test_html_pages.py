"""A page is read from top to bottom: its texts, its images where they stand, and nothing that no one reads."""

import time

import pytest
from hypothesis import given, settings, strategies as st

from curation.errors import MediaError
from curation.media.html_pages import Page, PageImage, Text, decode_page, read_page


def texts(page: Page) -> list[str]:
    return [block.text for block in page.blocks if isinstance(block, Text)]


def sources(page: Page) -> list[str]:
    return [block.source for block in page.blocks if isinstance(block, PageImage)]


PAGE = """<!doctype html><html lang="en-GB"><head><title>Lamps &amp; light</title>
<link rel="canonical" href="https://example.org/lamps"><style>p { color: red }</style></head><body>
<header><p>Site name</p><img src="logo.png"></header><nav><ul><li>Home</ul></nav>
<h1>Lamps <em>and</em>
   light</h1><p>The first lamps burnt oil.<br>They smoked.<p>Caf&eacute; lamps&nbsp;hung low.
<figure><img src="img/a%20lamp.jpg" alt="An &quot;Argand&quot; lamp"><figcaption>A lamp of 1784.</figcaption></figure>
<ul><li>brass<li>glass</ul><table><tr><td>year<td>price<tr><td>1784<td>2</table>
<script>document.write("<p>never</p>")</script><noscript><img src="again.jpg"></noscript><!-- <p>no</p> -->
<div hidden>secret</div><form><input value=x><p>Sign up!</form><aside>Advert</aside>
Loose words at the end.<footer>Copyright</footer></body></html>"""


def test_a_page_is_its_blocks_in_order() -> None:
    page = read_page(PAGE.encode())
    assert page.title == "Lamps & light"
    assert page.url == "https://example.org/lamps"
    assert page.language == "en-GB"
    assert page.blocks == [
        Text("Lamps and light"),
        Text("The first lamps burnt oil.\nThey smoked."),
        Text("Café lamps hung low."),
        PageImage("img/a%20lamp.jpg", 'An "Argand" lamp'),
        Text("A lamp of 1784."),
        *(Text(word) for word in ("brass", "glass", "year", "price", "1784", "2")),
        Text("Loose words at the end."),
    ]


def test_what_is_dropped_is_a_choice_but_scripts_are_never_text() -> None:
    found = texts(read_page(PAGE.encode(), dropped=()))
    assert {"Site name", "Home", "Sign up!", "Advert", "Copyright"} <= set(found)
    assert not any(word in text for text in found for word in ("never", "red", "secret"))


def test_a_page_that_stands_in_one_form_is_read() -> None:
    page = b"<body><form action=Default.aspx><h1>Town hall</h1><p>Open on Monday.<select><option>x</select></form>"
    assert texts(read_page(page)) == ["Town hall", "Open on Monday."]


def test_two_line_breaks_part_paragraphs_and_one_does_not() -> None:
    assert texts(read_page(b"<p>one<br>two<br><br>three<br> <br/>four")) == ["one\ntwo", "three", "four"]


def test_an_image_parts_the_text_that_it_stands_in() -> None:
    assert read_page(b"<p>left <img src=x.png> right").blocks == [Text("left"), PageImage("x.png", None), Text("right")]


@pytest.mark.parametrize(
    ("tag", "source"),
    [
        ('<img src="data:image/gif;base64,R0lG" data-src="real.jpg">', "real.jpg"),
        ('<img data-original="late.jpg">', "late.jpg"),
        ('<img srcset="small.jpg 1x, large.jpg 2x">', "small.jpg"),
        ('<picture><source srcset="a.webp"><img src="a.jpg"></picture>', "a.jpg"),
        ('<img src="  spaced.jpg ">', "spaced.jpg"),
    ],
)
def test_an_image_that_is_loaded_late_has_its_real_address(tag: str, source: str) -> None:
    assert sources(read_page(tag.encode())) == [source]


def test_an_image_without_an_address_is_none() -> None:
    assert read_page(b"<img alt=x><img src=''>").blocks == []


WORDS = "Größe: 3 Äpfel – schön"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<meta charset=iso-8859-1>" + WORDS.encode(), WORDS),  # declared wrongly, and UTF-8 all the same
        (b"<meta charset=utf-8>" + WORDS.encode("cp1252"), WORDS),  # declared wrongly, and not UTF-8
        (b"<meta charset=latin1>" + WORDS.encode("cp1252"), WORDS),
        (WORDS.encode("cp1252"), WORDS),
        (b"\xef\xbb\xbf" + WORDS.encode(), WORDS),
        (WORDS.encode("utf-16"), WORDS),
        (b'<meta http-equiv=Content-Type content="text/html; charset=gb2312">' + "你好".encode("gbk"), "你好"),
        (b"<META CHARSET='Shift_JIS'>" + "日本語の頁".encode("cp932"), "日本語の頁"),
        (b"<meta charset=iso-2022-jp>" + "日本語".encode("iso2022_jp"), "日本語"),
        (b'<?xml version="1.0" encoding="koi8-r"?>' + "Привет".encode("koi8_r"), "Привет"),
        (b"<meta charset=zlib>" + WORDS.encode(), WORDS),  # a name of Python's that no page can mean
        (b"<meta charset=unicode_escape>a\\u0041", "a\\u0041"),
    ],
)
def test_the_encoding_is_what_the_bytes_can_be(data: bytes, text: str) -> None:
    assert decode_page(data).endswith(text)
    assert texts(read_page(data)) == [text]


def test_bytes_without_meaning_are_replaced() -> None:
    assert texts(read_page(b"<meta charset=utf-8>a\x81b\0c")) == ["a\ufffdb\ufffdc"]


@pytest.mark.parametrize("data", [b"", b"   ", b"\0\0", b"<html></html>", b"<!-- nothing", b"<", b"&", b"<p><div></p>"])
def test_an_empty_page_has_no_images_and_hardly_a_text(data: bytes) -> None:
    page = read_page(data)
    assert sources(page) == []
    assert len(page.blocks) <= 1


@pytest.mark.parametrize(
    "data",
    [
        b"<div>" * 1_900 + b"</b>" * 300_000 + b"deep",
        b"<table><tr><td>" * 400 + b"deep",
        b"<p>" + b"<i></i></b>" * 100_000 + b"deep",
        b"<!--" * 200_000 + b"-->deep",
        b"<a b='" * 100_000 + b"'>deep",
        b"<p " + b" ".join(b"a%d=1" % i for i in range(50_000)) + b">deep",
        b"<br>" * 200_000 + b"deep",
    ],
    ids=["ends", "table", "crossed", "comments", "quotes", "attributes", "breaks"],
)
def test_a_page_made_to_be_slow_is_not(data: bytes) -> None:
    started = time.process_time()
    assert "deep" in " ".join(texts(read_page(data)))
    assert time.process_time() - started < 5


@pytest.mark.parametrize("tag", [b"<div>", b"<b>", b"<i></b>", b"<table><tr><td>", b"<div></p>"])
def test_nesting_of_ten_thousand_is_refused_by_name(tag: bytes) -> None:
    with pytest.raises(MediaError, match="nested more than 2000 deep"):
        read_page(b"<p>" + tag * 10_000 + b"deep" + b"</div>" * 10_000 + b"<p>more</p>" * 100_000)


def test_a_page_of_ten_megabytes_is_read_whole() -> None:
    page = read_page(b"<p>" + b"word " * 2_000_000 + b"</p><p>the end</p>" + b"<p>more</p>" * 1000, body=False)
    assert len(texts(page)[0]) == 9_999_999
    assert len(page.blocks) == 1002


@settings(max_examples=200, deadline=None)
@given(st.text() | st.from_regex(r"(<(/?(p|div|b|td|img src=x|form|nav|title|br|!--)>?)|&[a-z#0-9]{0,4};?|[a-z ])*"))
def test_any_text_is_a_page(text: str) -> None:
    page = read_page(text.encode("utf-8", "replace"))
    assert page == read_page(text.encode("utf-8", "replace"))
    for block in page.blocks:
        assert isinstance(block, PageImage) or block.text == block.text.strip() != ""
