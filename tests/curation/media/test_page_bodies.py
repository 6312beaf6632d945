"""A page's body is kept, whatever it stands in; what stands around it is not. Images keep their place in it."""

import json
from pathlib import Path

import pytest

from curation.media.document_files import read_documents
from curation.media.html_pages import Page, PageImage, Text, decode_page, read_page
from curation.media.html_walk import walk_page
from curation.media.page_body import MODEL, body_scores

ENGLISH = [
    "The lamp was lit for the first time in the spring of 1784, when the harbour was still frozen, and the keepers had "
    "carried the oil up by hand for a week.",
    "It burnt with a round wick, which a Swiss physicist had thought of, and gave as much light as ten candles did; "
    "the glass around it kept the flame from the wind.",
    "Ships that came in from the north saw it from four miles away, so the town's merchants paid for a second one, and "
    "later for a third, before the century was out.",
    "Nobody knows who the keepers were. Their names are not in the books of the harbour, and the house that they lived "
    "in, which stood below the tower, was pulled down in 1840.",
    "What is left of the first lamp hangs in the museum today: the brass ring, two panes of the glass, and a bill for "
    "oil that the town refused to pay.",
    "Visitors may climb the tower between May and September. The stairs are steep, the view is wide, and the last "
    "light goes out at eleven, as it has since the war.",
]
CHINESE = [
    "一七八四年春天，港口还在结冰的时候，灯塔第一次点亮了，守塔人整整一个星期都在用手把灯油搬上塔顶。",
    "灯芯是圆形的，由一位瑞士物理学家设计，它发出的光相当于十支蜡烛，周围的玻璃罩挡住了海上吹来的大风。",
    "从北方驶来的船只在四英里以外就能看见它，于是镇上的商人们又出钱修建了第二座灯塔，后来又有了第三座。",
    "没有人知道守塔人是谁，港口的账簿上没有他们的名字，他们住过的塔下小屋在一八四〇年被拆除了。",
    "最早的那盏灯的残余今天挂在博物馆里：一个黄铜环、两块玻璃，还有一张镇政府拒绝支付的灯油账单。",
    "每年五月到九月，游客可以登上灯塔，楼梯很陡，视野开阔，最后一盏灯在晚上十一点熄灭，战后一直如此。",
]
JAPANESE = [
    "一七八四年の春、港がまだ凍っていたころ、灯台に初めて明かりがともされ、灯台守たちは一週間かけて油を手で運び上げた。",
    "丸い芯を持つそのランプはスイスの物理学者が考えたもので、ろうそく十本分の明るさがあり、ガラスが風から炎を守っていた。",
    "北から来る船は四マイル先からその光を見ることができたので、町の商人たちは二つ目、やがて三つ目の灯台にも金を出した。",
    "灯台守が誰だったのかは分からない。港の帳簿に名前はなく、塔の下にあった家は一八四〇年に取り壊されてしまった。",
    "最初のランプの残りは今も博物館に掛かっている。真鍮の輪と二枚のガラス、そして町が支払いを拒んだ油の請求書である。",
    "五月から九月まで塔に登ることができる。階段は急だが眺めは広く、最後の明かりは戦後ずっと十一時に消される。",
]
ARABIC = [
    "أضيء المصباح لأول مرة في ربيع عام 1784، حين كان الميناء لا يزال متجمدا، وكان الحراس قد حملوا الزيت بأيديهم.",
    "كانت فتيلته مستديرة، وقد فكر فيها فيزيائي سويسري، وكان ضوؤه يعادل عشر شمعات، وكان الزجاج يحمي اللهب من الريح.",
    "كانت السفن القادمة من الشمال تراه من مسافة أربعة أميال، فدفع تجار المدينة ثمن مصباح ثان ثم ثالث قبل نهاية القرن.",
    "لا أحد يعرف من كان الحراس، فأسماؤهم ليست في دفاتر الميناء، والبيت الذي سكنوه تحت البرج هدم في عام 1840.",
    "ما بقي من المصباح الأول معلق اليوم في المتحف: حلقة نحاسية ولوحان من الزجاج وفاتورة زيت رفضت المدينة دفعها.",
    "يمكن للزوار صعود البرج بين مايو وسبتمبر، والدرج شديد الانحدار، والمنظر واسع، وينطفئ آخر ضوء في الحادية عشرة.",
]
AROUND = """<div class="cookie-banner"><p>We use cookies to give you the best experience.
<a href="/c">Settings</a></p></div>
<nav class="menu"><ul><li><a href="/">Home</a><li><a href="/news">News</a><li><a href="/sport">Sport</a></ul></nav>"""
BELOW = """<div class="related"><h3>Read more</h3><ul><li><a href="/a">Ten lamps for your home</a>
<li><a href="/b">The price of oil</a><li><a href="/c">Museums that are free on Sundays</a></ul></div>
<footer><p>Copyright 2024 The Harbour Times. All rights reserved. <a href="/terms">Terms</a></p></footer>"""
NOISE = ("We use cookies", "Sport", "Ten lamps", "Museums that", "Copyright 2024")

BODIES = {
    "article": "<article><h1>The first lamp</h1>{}</article>",
    "main": "<main><h1>The first lamp</h1>{}</main>",
    "header": "<header><h1>The first lamp</h1>{}</header>",
    "form": '<form id="aspnetForm"><h1>The first lamp</h1>{}</form>',
    "header in form": "<form><header><div><h1>The first lamp</h1>{}</div></header></form>",
    "footer": "<footer><h1>The first lamp</h1>{}</footer>",
    "aside": "<aside><h1>The first lamp</h1>{}</aside>",
    "nav": "<nav><h1>The first lamp</h1>{}</nav>",
    "header of an article": "<article><header><h1>The first lamp</h1></header><div>{}</div></article>",
    "a wrapper of a bad name": '<div class="sidebar-layout has-footer comments-on"><h1>The first lamp</h1>{}</div>',
    "a table": "<table><tr><td><h1>The first lamp</h1>{}</td></tr></table>",
}


def texts(page: Page) -> list[str]:
    return [block.text for block in page.blocks if isinstance(block, Text)]


def sources(page: Page) -> list[str]:
    return [block.source for block in page.blocks if isinstance(block, PageImage)]


def page_of(body: str, around: str = AROUND, below: str = BELOW, head: str = "") -> bytes:
    return f"<!doctype html><html><head><title>The first lamp</title>{head}</head><body>{around}{body}{below}".encode()


def paragraphs(lines: list[str]) -> str:
    return "".join(f"<p>{line}</p>" for line in lines)


@pytest.mark.parametrize("size", [2, 6], ids=["short", "long"])
@pytest.mark.parametrize("wrapped", BODIES.values(), ids=BODIES.keys())
def test_a_body_is_kept_whatever_it_stands_in(wrapped: str, size: int) -> None:
    lines = ENGLISH[:size]
    found = texts(read_page(page_of(wrapped.format(paragraphs(lines)))))
    assert [text for text in found if text in lines] == lines
    assert "The first lamp" in found


@pytest.mark.parametrize("wrapped", [BODIES[name] for name in ("article", "main", "form", "header", "a table")])
def test_what_stands_around_a_body_is_not_kept(wrapped: str) -> None:
    found = " ".join(texts(read_page(page_of(wrapped.format(paragraphs(ENGLISH))))))
    assert [words for words in NOISE if words in found] == []


@pytest.mark.parametrize("lines", [CHINESE, JAPANESE, ARABIC], ids=["Chinese", "Japanese", "Arabic"])
def test_a_page_in_another_script_keeps_its_body(lines: list[str]) -> None:
    found = texts(read_page(page_of(f"<div class=content>{paragraphs(lines)}</div>")))
    assert [text for text in found if text in lines] == lines
    assert not any(words in text for text in found for words in ("Sport", "Ten lamps"))


def test_a_body_of_lines_that_only_breaks_part_is_kept() -> None:
    found = texts(read_page(page_of(f"<div class=content>{'<br>'.join(CHINESE)}</div>")))
    assert "\n".join(CHINESE) in found


def test_lists_tables_and_code_of_a_body_are_kept() -> None:
    body = paragraphs(ENGLISH[:4]) + (
        "<ul><li>a brass ring that was cast in one piece</li><li>two panes of the glass</li></ul>"
        "<table><tr><th>Year</th><th>Oil</th></tr><tr><td>1784</td><td>20 barrels</td></tr></table>"
        "<pre>light = oil\n    * wick</pre>"
    ) + paragraphs(ENGLISH[4:])  # fmt: skip
    found = texts(read_page(page_of(f"<article><h1>The first lamp</h1>{body}</article>")))
    assert {"two panes of the glass", "20 barrels", "light = oil\n* wick"} <= set(found)


def test_images_of_a_body_keep_their_place_and_others_go() -> None:
    figure = (
        '<figure><img src="lamp{0}.jpg" alt="lamp {0}"><figcaption>The lamp in {0}, by night.</figcaption></figure>'
    )
    body = "".join(f"<p>{line}</p>{figure.format(1780 + n)}" for n, line in enumerate(ENGLISH))
    cards = "".join(
        f'<div class=card><a href="/p{n}"><img src="teaser{n}.jpg"><h3>Story {n}</h3></a></div>' for n in range(5)
    )
    page = read_page(page_of(f"<article><h1>The first lamp</h1>{body}</article><div class=related>{cards}</div>"))
    assert sources(page) == [f"lamp{1780 + n}.jpg" for n in range(6)]
    order = [block.source if isinstance(block, PageImage) else block.text for block in page.blocks]
    for n, line in enumerate(ENGLISH):
        assert (
            order.index(line) < order.index(f"lamp{1780 + n}.jpg") < order.index(f"The lamp in {1780 + n}, by night.")
        )


def test_a_header_of_an_article_keeps_its_heading_and_image() -> None:
    page = read_page(
        b"<header><p>Site</header><article><header><h1>Lamps</h1><img src=a.jpg></header><p>They burn.</article>"
    )
    assert page.blocks == [Text("Lamps"), PageImage("a.jpg", None), Text("They burn.")]


def test_all_but_the_dropped_tags_is_kept_where_a_recipe_says_so() -> None:
    data = page_of(f"<article>{paragraphs(ENGLISH)}</article>")
    found = " ".join(texts(read_page(data, body=False)))
    assert "Ten lamps" in found
    assert "Sport" not in found


def test_a_body_that_only_structured_data_has_is_read() -> None:
    data = json.dumps([{"@type": "NewsArticle", "articleBody": "\n\n".join(ENGLISH)}])
    page = page_of("<div id=app>Loading</div>", "", "", f'<script type="application/ld+json">{data}</script>')
    assert texts(read_page(page)) == ["Loading", *ENGLISH]


def test_structured_data_that_repeats_the_page_adds_nothing() -> None:
    data = json.dumps({"articleBody": "\n\n".join(ENGLISH)})
    page = page_of(paragraphs(ENGLISH), "", "", f'<script type="application/ld+json">{data}</script>')
    assert texts(read_page(page)) == ENGLISH


def test_a_page_that_a_script_shows_is_read_and_what_a_style_hides_is_not() -> None:
    hidden = f'<div style="display:none">{paragraphs(ENGLISH)}</div>'
    assert texts(read_page(page_of(hidden, "", ""))) == ENGLISH
    page = page_of(paragraphs(ENGLISH) + '<div style="display: none"><p>Sign in to go on.</p></div>', "", "")
    assert texts(read_page(page)) == ENGLISH


def test_the_same_page_has_the_same_scores() -> None:
    walk = walk_page(page_of(paragraphs(ENGLISH)).decode(), 2000, 20_000)
    assert body_scores(walk).tolist() == body_scores(walk).tolist()
    assert MODEL.stat().st_size < 1 << 20


@pytest.mark.parametrize(
    ("tag", "source"),
    [
        ('<img class="lazyload" src="grey.gif" data-src="real.jpg">', "real.jpg"),
        ('<img class="lazy" src="small.jpg" data-original="large.jpg">', "large.jpg"),
        ('<img src="shown.jpg" data-native-src="other.png">', "shown.jpg"),
        ('<img src="/img/spacer.gif" data-lazy-src="real.jpg">', "real.jpg"),
        ('<img src="1x1.png" data-srcset="a,b.jpg 400w, c.jpg 800w">', "a,b.jpg"),
        ('<img data-unheard-of="https://cdn.example/real.webp?w=2">', "https://cdn.example/real.webp?w=2"),
        ('<picture><source data-srcset="a.webp 1x"><img src="data:image/gif;base64,R0lG"></picture>', "a.webp"),
        ('<img src="blank.gif" class="x"><noscript><img src="real.jpg"></noscript>', "real.jpg"),
        ("<figure><noscript><img src=real.jpg></noscript></figure>", "real.jpg"),
        ('<amp-img src="amp.jpg"></amp-img>', "amp.jpg"),
    ],
)
def test_an_image_that_a_script_loads_has_its_real_address_once(tag: str, source: str) -> None:
    assert sources(read_page(f"<p>Before.</p>{tag}<p>After.</p>".encode())) == [source]


@pytest.mark.parametrize(
    "tag",
    [
        "<img src=count.gif width=1 height=1>",
        '<noscript><img src="https://t.example/tr?id=1" height="1" width="1" style="display:none"></noscript>',
        '<img src="shown.jpg" alt=x hidden>',
        '<img src="shown.jpg" style="display:none">',
    ],
)
def test_an_image_that_no_one_sees_is_none(tag: str) -> None:
    assert sources(read_page(f"<p>Before.</p>{tag}<p>After.</p>".encode())) == []


RUSSIAN = (
    "<p>Маяк впервые зажгли весной 1784 года, когда гавань ещё была скована льдом, и смотрители носили масло вручную."
)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            b"<meta charset=utf-8><p>" + "Größe über alles schön".encode() + b"\x96 ok",
            "Größe über alles schön\ufffd ok",
        ),
        (b'<meta name=description content="charset=gbk"><p>\xe4\xf6\xfc', "äöü"),
        (b"<!-- <meta charset=gbk> --><p>\xe4\xf6\xfc", "äöü"),
        (
            b'<meta content="text/html; charset=windows-1251" http-equiv=content-type><p>' + "Маяк".encode("cp1251"),
            "Маяк",
        ),
        (b'<meta charset="text/html; charset=windows-1251"><p>' + "Маяк".encode("cp1251"), "Маяк"),
        (b'<meta http-equiv=Content-Type content="charset=gbk"><p>' + "灯塔".encode("gbk"), "灯塔"),
        (b"<meta charset=gbk><p>" + ("灯塔第一次点亮了" * 20).encode("gbk") + b"\x81", "灯塔第一次点亮了" * 20),
        ("<html><p>Größe".encode("utf-16-le"), "Größe"),
        (b"<meta charset=utf-16><p>" + "Größe".encode(), "Größe"),
        (RUSSIAN.encode("cp1251") * 4, "Маяк впервые зажгли весной"),
        (b"<meta charset=iso-8859-1>" + RUSSIAN.encode("cp1251") * 4, "Маяк впервые зажгли весной"),
        ("".join(JAPANESE).encode("euc_jp"), JAPANESE[0]),
    ],
)
def test_an_encoding_that_is_wrong_missing_or_damaged_is_found_out(data: bytes, text: str) -> None:
    assert text in decode_page(data)


@pytest.mark.parametrize(
    ("base", "source", "url", "path"),
    [
        ("https://cdn.example/a/", "b.jpg", "https://cdn.example/a/b.jpg", None),
        ("https://cdn.example/a/", "/b.jpg", "https://cdn.example/b.jpg", None),
        ("//cdn.example/a/", "b.jpg", "//cdn.example/a/b.jpg", None),
        ("images/", "b.jpg", None, "pages/images/b.jpg"),
        ("/images/", "b.jpg", None, "images/b.jpg"),
        ("images/", "https://other.example/b.jpg", "https://other.example/b.jpg", None),
        ("javascript:alert(1)", "b.jpg", None, "pages/b.jpg"),
        ("http://[broken/", "b.jpg", None, "pages/b.jpg"),
    ],
)
def test_addresses_begin_at_the_base_of_a_page(
    tmp_path: Path, base: str, source: str, url: str | None, path: str | None
) -> None:
    (node,) = image_nodes(tmp_path, f'<base target=_top><base href="{base}"><base href="other/"><img src="{source}">')
    assert node["error"] is None
    assert node["url"] == url
    assert (node["place"] and Path(node["place"]["path"]).relative_to(tmp_path).as_posix()) == path


@pytest.mark.parametrize("base", ["../../", "/../", "images/../../../", "file:///etc/"])
def test_a_base_does_not_lead_out_of_the_folder(tmp_path: Path, base: str) -> None:
    (node,) = image_nodes(tmp_path, f'<base href="{base}"><img src="../../passwd">')
    assert node["place"] is None
    assert "no file below" in node["error"]


def image_nodes(folder: Path, html: str) -> list[dict[str, object]]:
    (folder / "pages").mkdir()
    page = folder / "pages" / "page.html"
    page.write_text(f"<p>text{html}")
    file = {"uri": str(page), "name": "page.html", "format": "html", "folder": str(folder), "images": str(page.parent)}
    file |= {"roots": [str(folder)]}
    (found,) = read_documents(file)
    return [node for node in found.fields["nodes"] if node["node_kind"] == "image"]
