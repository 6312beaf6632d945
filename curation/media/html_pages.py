"""HTML pages as they are read from top to bottom: blocks of text, and pictures where they stand.

lxml's parser (libxml2) calls us tag by tag and builds no tree, so that neither nesting nor size costs more than a pass.
Nothing of a page is executed or fetched.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from curation.errors import MediaError

DROPPED = ("nav", "header", "footer", "aside", "form")
"""What stands around a page's own text."""

MAX_DEPTH = 2000
"""Browsers stop at 512 (Blink) or 5,000 (Gecko)."""

MAX_BLOCKS = 20_000
"""Of a page that is read at all: an empty picture takes eleven bytes of it, and some hundred of ours."""

LONG_LINE = 1 << 16

CHUNK = 1 << 16
"""Characters that are parsed between looks at the depth and the number of blocks."""

NEVER_TEXT = frozenset(
    (
        *("script", "style", "noscript", "template", "svg", "math", "iframe", "object", "embed", "applet", "canvas"),
        *("audio", "video", "map", "button", "select", "option", "textarea", "datalist", "dialog"),
    )
)
_INLINE = frozenset(
    (
        *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i"),
        *("img", "ins", "kbd", "label", "mark", "picture", "q", "rp", "rt", "ruby", "s", "samp", "small", "source"),
        *("span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "br"),
    )
)
"""Tags that go on with the line of text that they stand in; every other tag ends it."""

_LAZY = ("data-src", "data-original", "data-lazy-src")
"""Where pages that load pictures late keep their addresses; `src` has a stand-in then."""

_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})""")
_SPACE = re.compile(r"[ \t\r\f\v\u00a0]+")
_PARAGRAPH = re.compile(r"\n\s*\n")

ENCODINGS = {
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "cp1251": "cp1251",
    "euc-jp": "euc_jp",
    "euc-kr": "cp949",
    "gb18030": "gb18030",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso-2022-jp": "iso2022_jp",
    "iso-8859-1": "cp1252",
    "iso-8859-2": "iso8859_2",
    "iso-8859-5": "iso8859_5",
    "iso-8859-7": "iso8859_7",
    "iso-8859-9": "cp1254",
    "iso-8859-15": "iso8859_15",
    "koi8-r": "koi8_r",
    "koi8-u": "koi8_u",
    "ks_c_5601-1987": "cp949",
    "latin1": "cp1252",
    "shift-jis": "cp932",
    "shift_jis": "cp932",
    "sjis": "cp932",
    "tis-620": "cp874",
    "us-ascii": "cp1252",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "windows-874": "cp874",
    "windows-949": "cp949",
    "windows-31j": "cp932",
    "x-gbk": "gb18030",
    "x-sjis": "cp932",
} | {f"windows-125{i}": f"cp125{i}" for i in range(9)}
"""Names that pages use, and the codecs that browsers take for them (WHATWG Encoding). No other name is looked up."""

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class Text:
    """A block of text: a heading, a paragraph, an item of a list, a cell of a table."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A picture: its address as it stands in the page, and what the page says that it shows (`alt`)."""

    source: str
    alt: str | None


@dataclass
class Page:
    """What a page holds, in order."""

    title: str | None = None
    url: str | None = None
    """The address that it gives as its own (`link rel=canonical`, `og:url`)."""
    language: str | None = None
    """The language that it claims (`html lang`)."""
    blocks: list[Text | Picture] = field(default_factory=list)


def read_page(
    data: bytes, dropped: Iterable[str] = DROPPED, max_depth: int = MAX_DEPTH, max_blocks: int = MAX_BLOCKS
) -> Page:
    """The page that bytes hold.

    Where nothing is left, and forms are dropped, they are read after all: some sites put a whole page in one.

    Args:
        dropped: tags that are left out with all that is in them, besides those that are never text.
        max_depth: more tags open at once are refused, since the parser looks through them at every end tag.
        max_blocks: more texts and pictures together are refused.

    Raises:
        MediaError: tags are nested too deep, or there are too many blocks.
    """
    text = decode_page(data)
    if not text.strip():
        return Page()
    page = _parsed(text, frozenset(dropped) | NEVER_TEXT, max_depth, max_blocks)
    if not page.blocks and "form" in dropped:
        page = _parsed(text, (frozenset(dropped) | NEVER_TEXT) - {"form"}, max_depth, max_blocks)
    return page


def decode_page(data: bytes) -> str:
    """The text of a page's bytes.

    A byte order mark decides; then UTF-8, if the bytes are UTF-8, whatever the page says, since text in another
    encoding hardly ever is by chance; then what the page says; then Windows-1252. Bytes without meaning become U+FFFD.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data.decode(codec, "replace")
    declared = _declared(data)
    # A text in ISO-2022-JP is ASCII to the eye of UTF-8.
    for encoding in ("iso2022_jp" if declared == "iso2022_jp" else "utf-8", declared, "cp1252"):
        if encoding is not None:
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
    return data.decode(declared or "cp1252", "replace")


def _declared(data: bytes) -> str | None:
    """The codec of the encoding that the first 4 KiB name; None where they name none that is known."""
    found = _XML_ENCODING.search(data[:1024]) or _CHARSET.search(data[:4096])
    return ENCODINGS.get(found.group(1).decode("ascii", "replace").lower()) if found else None


def _parsed(text: str, dropped: frozenset[str], max_depth: int, max_blocks: int) -> Page:
    from lxml import etree

    reader = _Reader(dropped)
    # NUL ends a string in C.
    text = text.replace("\0", "\ufffd")
    parser = etree.HTMLParser(target=reader, encoding="utf-8", huge_tree=True, no_network=True)
    for start in range(0, len(text), CHUNK):
        parser.feed(text[start : start + CHUNK].encode("utf-8", "replace"))
        if len(reader.open_dropped) > max_depth:
            raise MediaError(f"tags nested more than {max_depth} deep")
        if len(reader.page.blocks) > max_blocks:
            break
    page = parser.close()
    assert isinstance(page, Page)
    if len(page.blocks) > max_blocks:
        raise MediaError(f"more than {max_blocks} texts and pictures")
    return page


class _Reader:
    """Hears the tags and texts of a page in order."""

    def __init__(self, dropped: frozenset[str]) -> None:
        self.page = Page()
        self.dropped = dropped
        self.open_dropped: list[bool] = []
        """For each open tag: is it one that is dropped?"""
        self.depth_dropped = 0
        self.line: list[str] = []
        self.title: list[str] | None = None
        self.preformatted = 0

    def start(self, tag: str, attributes: Any) -> None:
        drop = tag in self.dropped or "hidden" in attributes
        self.open_dropped.append(drop)
        self.depth_dropped += drop
        if tag not in _INLINE:
            self.end_line()
        if self.depth_dropped:
            return
        match tag:
            case "img":
                self.picture(attributes)
            case "br":
                self.line.append("\n")
            case "pre":
                self.preformatted += 1
            case "title" if self.page.title is None:
                self.title = []
            case "html":
                self.page.language = _plain(attributes.get("lang", "")) or None
            case "link" if attributes.get("rel", "").lower() == "canonical":
                self.page.url = attributes.get("href") or self.page.url
            case "meta" if attributes.get("property", "").lower() == "og:url":
                self.page.url = self.page.url or attributes.get("content")

    def end(self, tag: str) -> None:
        if self.open_dropped:
            self.depth_dropped -= self.open_dropped.pop()
        if tag == "title" and self.title is not None:
            self.page.title = _plain("".join(self.title)) or None
            self.title = None
        if tag == "pre":
            self.preformatted = max(0, self.preformatted - 1)
        if tag not in _INLINE:
            self.end_line()

    def data(self, text: str) -> None:
        if self.depth_dropped:
            return
        if self.title is not None:
            self.title.append(text)
        else:
            self.line.append(text if self.preformatted else text.replace("\n", " "))

    def comment(self, text: str) -> None:
        """Comments are no text."""

    def close(self) -> Page:
        self.end_line()
        return self.page

    def picture(self, attributes: Any) -> None:
        source = attributes.get("src", "").strip()
        if not source or source.startswith("data:"):
            source = next((late for name in _LAZY if (late := attributes.get(name, "").strip())), source)
        if not source:
            source = attributes.get("srcset", "").strip().partition(" ")[0].rstrip(",")
        if source:
            self.end_line()
            self.page.blocks.append(Picture(source, _plain(attributes.get("alt", "")) or None))

    def end_line(self) -> None:
        """Make blocks of the text so far; two line breaks part paragraphs."""
        if not self.line:
            return
        text = "".join(self.line)
        self.line = []
        for paragraph in _PARAGRAPH.split(text):
            lines = (_collapsed(line).strip() for line in paragraph.split("\n"))
            if kept := "\n".join(line for line in lines if line):
                self.page.blocks.append(Text(kept))


def _collapsed(line: str) -> str:
    """The line with one space for each run of white space. A pattern makes a string of each word of a long one."""
    if len(line) < LONG_LINE:
        return _SPACE.sub(" ", line)
    for sign in "\t\r\f\v\u00a0":
        line = line.replace(sign, " ")
    while "  " in line:
        line = line.replace("  ", " ")
    return line


def _plain(text: str) -> str:
    return " ".join(text.split())
