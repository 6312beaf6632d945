"""The walk through an HTML page: its texts and images in order, and the elements that they stand in.

lxml's parser (libxml2) calls us tag by tag and builds no tree, so that neither nesting nor size costs more than a pass.
Nothing of a page is executed or fetched.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from curation.errors import MediaError

CHUNK = 1 << 16
"""Characters that are parsed between looks at the depth and the number of blocks."""

RECORDED_DEPTH = 48
"""Elements within each other that are told apart; what is deeper counts to the last of them."""

MAX_JSON = 1 << 20
"""Characters of a page's structured data that are parsed."""

MAX_CLASS = 200
"""Characters of an element's class, id and role that are looked at."""

NEVER_TEXT = frozenset(
    (
        *("script", "style", "template", "svg", "math", "iframe", "object", "embed", "applet", "canvas"),
        *("audio", "video", "map", "button", "select", "option", "textarea", "datalist", "dialog"),
    )
)
_INLINE = frozenset(
    (
        *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i"),
        *("img", "ins", "kbd", "label", "mark", "picture", "q", "rp", "rt", "ruby", "s", "samp", "small", "source"),
        *("span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "br", "base", "link", "meta"),
        *("noscript", "input", "amp-img"),
    )
)
"""Tags that go on with the line of text that they stand in; every other tag ends it."""

_SPACE = re.compile(r"[ \t\r\f\v\u00a0]+")
_SPACES = "\t\r\f\v\u00a0"
_ALL_SPACES = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace())
LONG_TEXT = 1 << 16
"""Characters from which white space is replaced sign by sign."""
_PARAGRAPH = re.compile(r"\n\s*\n")

_LAZY = (
    *("data-src", "data-original", "data-lazy-src", "data-lazy", "data-original-src", "data-actualsrc", "data-url"),
    *("data-image", "data-fallback-src", "data-full-src", "data-hi-res-src", "data-echo", "data-cfsrc"),
    *("data-ks-lazyload", "data-lazyload", "data-li-src", "data-orig-file", "file", "zoomfile", "original"),
)
"""Where pages that load images late keep their addresses; `src` is missing, or has a stand-in, then."""
_LAZY_SETS = ("data-srcset", "data-lazy-srcset", "srcset")
_STAND_IN = re.compile(
    r"(?:^|[/_.-])(?:blank|spacer|place-?holder|transparent|1x1(?:-\w+)?|pixel|loading|loader|lazy(?:load)?|clear|grey|gray|dummy|empty)"
    r"[\w-]{0,12}\.(?:gif|png|svg|jpe?g|webp)(?:$|\?)|^about:|^#",
    re.IGNORECASE,
)
_IMAGE_FILE = re.compile(r"\S{1,2000}\.(?:jpe?g|png|webp|gif|avif)(?:[?#]\S*)?", re.IGNORECASE)
_IMAGE_LINK = re.compile(r"\S{1,2000}\.(?:jpe?g|png|webp|gif|avif|svg|tiff?)(?:[?#]\S*)?", re.IGNORECASE)
_INVISIBLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_OWN_IMAGE = re.compile(r"lazy|image|img|photo|image|figure|media", re.IGNORECASE)


@dataclass(frozen=True)
class Text:
    """A block of text: a heading, a paragraph, an item of a list, a cell of a table."""

    text: str


@dataclass(frozen=True)
class PageImage:
    """An image: its address as it stands in the page, and what the page says that it shows (`alt`)."""

    source: str
    alt: str | None


@dataclass(slots=True)
class Element:
    """An element that holds a block: where it stands, and what its author calls it (class, id, role)."""

    tag: str
    parent: int
    names: str


@dataclass(slots=True)
class Place:
    """Where a block stands.

    Attributes:
        element: the innermost element of its own lines, a place in `Walk.elements`.
        tag: that element's.
        linked: characters that stand in links; of an image, whether it stands in one.
        to_image: it stands in a link to an image.
    """

    element: int
    tag: str
    linked: int
    to_image: bool = False


@dataclass
class Walk:
    """All that a page holds, in order, and where it stands; what is never text is left out."""

    title: str | None = None
    url: str | None = None
    base: str | None = None
    language: str | None = None
    blocks: list[Text | PageImage] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    elements: list[Element] = field(default_factory=list)
    article: str | None = None
    """The body that the page's structured data gives (JSON-LD `articleBody`)."""
    hidden: int = 0
    """Letters that a style hides."""


def walk_page(text: str, max_depth: int, max_blocks: int, invisible: bool = False) -> Walk:
    """Walk through a page's text.

    Args:
        invisible: keep what a style hides.

    Raises:
        MediaError: tags are nested too deep, or there are too many blocks.
    """
    from lxml import etree

    walker = _Walker(invisible, max_blocks)
    # NUL ends a string in C.
    text = text.replace("\0", "\ufffd")
    parser = etree.HTMLParser(target=walker, encoding="utf-8", huge_tree=True, no_network=True)
    for start in range(0, len(text), CHUNK):
        parser.feed(text[start : start + CHUNK].encode("utf-8", "replace"))
        if len(walker.open) > max_depth:
            raise MediaError(f"tags nested more than {max_depth} deep")
        if len(walker.walk.blocks) > max_blocks:
            break
    walk = parser.close()
    assert isinstance(walk, Walk)
    if len(walk.blocks) > max_blocks:
        raise MediaError(f"more than {max_blocks} texts and images")
    return walk


@dataclass(slots=True)
class _Open:
    """A tag that is open."""

    tag: str
    dropped: bool
    unseen: bool
    names: str
    link: str | None
    element: int = -1


class _Walker:
    """Hears the tags and texts of a page in order."""

    def __init__(self, invisible: bool, max_blocks: int) -> None:
        self.walk = Walk()
        self.invisible, self.max_blocks = invisible, max_blocks
        self.open: list[_Open] = []
        self.dropped = self.unseen = 0
        """Open tags that are never text, or are hidden; and those that a style hides."""
        self.links: list[str] = []
        """What the links that are open lead to."""
        self.line: list[str] = []
        self.linked = 0
        """Characters of the line that stand in links."""
        self.title: list[str] | None = None
        self.data_block: list[str] | None = None
        self.preformatted = 0
        self.noscript = 0
        self.fresh: int | None = None
        """The place of an image that nothing follows as yet, or that of one without an address (-1)."""
        self.late = False
        """Is the last image one that is loaded late?"""
        self.sources: list[str] = []
        """Addresses that the `source` tags of an `image` give."""
        self.depths: list[int] = []
        """Of recorded elements."""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        unseen = drop = False
        if attributes and tag not in ("html", "body"):
            unseen = "style" in attributes and not self.invisible and bool(_INVISIBLE.search(attributes["style"]))
            drop = attributes.get("hidden", "until-found").lower() != "until-found"
        drop = drop or tag in NEVER_TEXT
        names = link = None
        if attributes:
            names = " ".join(filter(None, map(attributes.get, ("class", "id", "role", "itemprop"))))[:MAX_CLASS]
        if tag == "a":
            link = attributes.get("href", "")
            self.links.append(link)
        self.open.append(_Open(tag, drop, unseen, names or "", link))
        self.dropped += drop
        self.unseen += unseen
        if tag not in _INLINE:
            self.end_line(1)
        if tag == "script" and "ld+json" in attributes.get("type", ""):
            self.data_block = []
        if self.dropped or self.unseen:
            return
        match tag:
            case "img" | "amp-img":
                self.image(attributes)
            case "source":
                if source := _first_of_set(attributes.get("srcset", "") or attributes.get("data-srcset", "")):
                    self.sources.append(source)
            case "picture":
                self.sources = []
            case "noscript":
                self.noscript += 1
            case "br":
                self.line.append("\n")
            case "pre":
                self.preformatted += 1
            case "title" if self.walk.title is None:
                self.title = []
            case "html":
                self.walk.language = plain(attributes.get("lang") or attributes.get("xml:lang") or "") or None
            case "base" if self.walk.base is None:
                self.walk.base = attributes.get("href", "").strip() or None
            case "link" if attributes.get("rel", "").lower() == "canonical":
                self.walk.url = attributes.get("href") or self.walk.url
            case "meta" if attributes.get("property", "").lower() == "og:url":
                self.walk.url = self.walk.url or attributes.get("content")

    def end(self, tag: str) -> None:
        if tag not in _INLINE:
            self.end_line()
        if self.open:
            closed = self.open.pop()
            self.dropped -= closed.dropped
            self.unseen -= closed.unseen
            if closed.link is not None and self.links:
                self.links.pop()
        match tag:
            case "title" if self.title is not None:
                self.walk.title = plain("".join(self.title)) or None
                self.title = None
            case "script" if self.data_block is not None:
                self.walk.article = self.walk.article or _article("".join(self.data_block))
                self.data_block = None
            case "pre":
                self.preformatted = max(0, self.preformatted - 1)
            case "noscript":
                self.noscript = max(0, self.noscript - 1)
            case "picture":
                self.sources = []

    def data(self, text: str) -> None:
        if self.dropped or self.unseen:
            if self.data_block is not None:
                self.data_block.append(text)
            elif not self.dropped:
                self.walk.hidden += len(text.strip())
            return
        if self.title is not None:
            self.title.append(text)
        elif not self.noscript:
            self.line.append(text if self.preformatted else text.replace("\n", " "))
            if self.links:
                self.linked += len(text.strip())
            if self.fresh is not None and not text.isspace():
                self.fresh = None

    def comment(self, text: str) -> None:
        """Comments are no text."""

    def close(self) -> Walk:
        self.end_line()
        return self.walk

    def image(self, attributes: Mapping[str, str]) -> None:
        if _pixel(attributes):
            return
        source, stand_in = _address(attributes)
        if self.sources and (not source or stand_in):
            source, stand_in = self.sources[0], False
        blocks = self.walk.blocks
        if self.noscript:
            if not source or stand_in:
                return
            if self.fresh is not None and self.fresh >= 0:  # what stands before it, for those without scripts
                before = blocks[self.fresh]
                assert isinstance(before, PageImage)
                if self.late:
                    blocks[self.fresh] = PageImage(source, before.alt or plain(attributes.get("alt", "")) or None)
                return
            if self.fresh is None and not any(
                one.tag in ("figure", "picture") or _OWN_IMAGE.search(one.names) for one in self.open[-4:]
            ):
                return
        self.late = stand_in or "lazy" in attributes.get("class", "").lower()
        if not source:
            self.fresh = -1
            return
        self.end_line()
        self.fresh = len(blocks)
        to_image = any(_IMAGE_LINK.fullmatch(link) for link in self.links[-1:])
        self.emit(PageImage(source, plain(attributes.get("alt", "")) or None), int(bool(self.links)), 0, to_image)

    def emit(self, block: Text | PageImage, linked: int, above: int, to_image: bool = False) -> None:
        element = self.element(above)
        tag = self.walk.elements[element].tag if element >= 0 else ""
        self.walk.blocks.append(block)
        self.walk.places.append(Place(element, tag, linked, to_image))

    def element(self, above: int) -> int:
        """The place of the innermost element that is not inline, `above` tags from the top; records what is not yet."""
        unknown, found, depth = [], -1, 0
        for one in reversed(self.open[: len(self.open) - above] if above else self.open):
            if one.element >= 0:
                found = one.element
                break
            if one.tag not in _INLINE:
                unknown.append(one)
        if found >= 0:
            depth = self.depths[found]
        for one in reversed(unknown):
            if depth >= RECORDED_DEPTH:
                one.element = found
                continue
            self.walk.elements.append(Element(one.tag, found, one.names))
            found, depth = len(self.walk.elements) - 1, depth + 1
            self.depths.append(depth)
            one.element = found
        return found

    def end_line(self, above: int = 0) -> None:
        """Make blocks of the text so far; two line breaks separate paragraphs.

        Args:
            above: tags that were opened since, and do not hold the text.
        """
        if not self.line:
            return
        text, linked = "".join(self.line), self.linked
        self.line, self.linked = [], 0
        for paragraph in _paragraphs(text):
            if len(self.walk.blocks) > self.max_blocks:
                return
            if kept := _lines(paragraph):
                within = min(linked, len(kept))
                linked -= within
                self.emit(Text(kept), within, above)


def _paragraphs(text: str) -> Iterator[str]:
    """What stands between empty lines, one after the other: a text may have millions."""
    start = 0
    for found in _PARAGRAPH.finditer(text):
        yield text[start : found.start()]
        start = found.end()
    yield text[start:]


def _lines(paragraph: str) -> str:
    """The lines of a paragraph that are not empty, with one space for each run of white space."""
    if len(paragraph) < LONG_TEXT:
        lines = (_SPACE.sub(" ", line).strip() for line in paragraph.split("\n"))
        return "\n".join(line for line in lines if line)
    text = _one_space(paragraph, _SPACES).replace(" \n", "\n").replace("\n ", "\n")
    while "\n\n" in text:
        text = text.replace("\n\n", "\n")
    return text.strip()


def plain(text: str) -> str:
    """The text as one line, with one space for each run of white space."""
    return " ".join(text.split()) if len(text) < LONG_TEXT else _one_space(text, _ALL_SPACES).strip()


def _one_space(text: str, signs: str) -> str:
    """The same without a string for each word, of which a long text has millions."""
    for sign in signs:
        text = text.replace(sign, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def _address(attributes: Mapping[str, str]) -> tuple[str, bool]:
    """The address of an image, and whether it is that of a stand-in."""
    source = attributes.get("src", "").strip()
    stand_in = not source or source.startswith("data:") or bool(_STAND_IN.search(source))
    if not stand_in and "lazy" not in attributes.get("class", "").lower():
        return source, False
    for name in _LAZY:
        late = attributes.get(name, "").strip()
        if late and not late.startswith(("data:", "{", "[")) and not _STAND_IN.search(late):
            return late, False
    for name in _LAZY_SETS:
        late = _first_of_set(attributes.get(name, ""))
        if late and not late.startswith("data:") and not _STAND_IN.search(late):
            return (source, False) if name == "srcset" and not stand_in else (late, False)
    if stand_in:
        for name, value in attributes.items():
            if name.startswith("data-") and _IMAGE_FILE.fullmatch(value.strip()) and not _STAND_IN.search(value):
                return value.strip(), False
    return source, stand_in


def _first_of_set(srcset: str) -> str:
    """The first address of a `srcset`; addresses may have commas in them, but no spaces."""
    return srcset.strip().partition(" ")[0].rstrip(",")


def _pixel(attributes: Mapping[str, str]) -> bool:
    """Is it of a size that no one sees, as those that count visits are?"""
    return any(attributes.get(name, "").strip().removesuffix("px") in ("0", "1", "2") for name in ("width", "height"))


def _article(text: str) -> str | None:
    """The longest `articleBody` of structured data; None where it has none, or is not JSON."""
    if "articleBody" not in text or len(text) > MAX_JSON:
        return None
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    bodies: list[str] = []
    waiting: list[Any] = [found]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(body := one.get("articleBody"), str):
                bodies.append(body)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return max(bodies, key=len, default=None) or None
