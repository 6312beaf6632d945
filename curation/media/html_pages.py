"""HTML pages: the texts and images of their body in order, and what they say of themselves."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urljoin, urlsplit

from curation.media.html_encoding import decode_page
from curation.media.html_walk import PageImage, Text, Walk, plain, walk_page
from curation.media.page_body import body_blocks, outside_tags

__all__ = ["DROPPED", "MAX_BLOCKS", "MAX_DEPTH", "Page", "PageImage", "Text", "decode_page", "read_page"]

DROPPED = ("nav", "header", "footer", "aside", "form")
"""What stands around a page's own text, where a page is judged by its tags."""

MAX_DEPTH = 2000
"""Browsers stop at 512 (Blink) or 5,000 (Gecko)."""

MAX_BLOCKS = 20_000
"""Of a page that is read at all: an empty image takes eleven bytes of it, and some hundred of ours."""

_TAG = re.compile(r"<(?:p|br|div|h\d|img)\b", re.IGNORECASE)

SHOWN = 0.25
"""A page of which styles hide more than three quarters shows them by a script; then they count as seen."""


@dataclass
class Page:
    """What a page holds, in order."""

    title: str | None = None
    url: str | None = None
    """The address that it gives as its own (`link rel=canonical`, `og:url`)."""
    language: str | None = None
    """The language that it claims (`html lang`)."""
    base: str | None = None
    """Where its relative addresses begin (`base href`), if it says so."""
    blocks: list[Text | PageImage] = field(default_factory=list)


def read_page(
    data: bytes,
    dropped: Iterable[str] = DROPPED,
    max_depth: int = MAX_DEPTH,
    max_blocks: int = MAX_BLOCKS,
    body: bool = True,
) -> Page:
    """The page that bytes hold.

    Args:
        dropped: tags that are left out with all that is in them, unless they hold the most of the page.
        max_depth: more tags open at once are refused, since the parser looks through them at every end tag.
        max_blocks: more texts and images together are refused.
        body: keep only the body of a page that is long enough to tell it from the rest (`page_body`), whatever tags it
            stands in; otherwise only `dropped` decides.

    Raises:
        MediaError: tags are nested too deep, or there are too many blocks.
    """
    text = decode_page(data)
    if not text.strip():
        return Page()
    walk = walk_page(text, max_depth, max_blocks)
    if walk.hidden > (1 - SHOWN) / SHOWN * _letters(walk):
        walk = walk_page(text, max_depth, max_blocks, invisible=True)
    dropped = tuple(dropped)
    kept = body_blocks(walk, dropped) if body else outside_tags(walk, dropped)
    blocks = [block for block, keep in zip(walk.blocks, kept, strict=True) if keep]
    if body and walk.article is not None and len(walk.article) > 2 * _letters(walk):
        blocks += _article(walk.article, max_depth, max_blocks)
    base = _base(walk)
    return Page(walk.title, _joined(base, walk.url), walk.language, base, blocks)


def _letters(walk: Walk) -> int:
    return sum(len(block.text) for block in walk.blocks if isinstance(block, Text))


def _article(article: str, max_depth: int, max_blocks: int) -> list[Text | PageImage]:
    """The body of a page that only a script would show, as its structured data has it: in lines, or as HTML."""
    if _TAG.search(article):
        return walk_page(article, max_depth, max_blocks).blocks
    lines = (plain(unescape(line)) for line in article.splitlines())
    return [Text(line) for line in lines if line]


def _base(walk: Walk) -> str | None:
    """The base that a page gives; one that no browser would follow is none."""
    try:
        scheme = urlsplit(walk.base or "").scheme.lower()
    except ValueError:
        return None
    return walk.base if scheme in ("", "http", "https") else None


def _joined(base: str | None, address: str | None) -> str | None:
    try:
        return urljoin(base, address) if base and address else address
    except ValueError:
        return address
