"""What tells a block of a page's own text from the boilerplate around it: one row of numbers a block.

Lengths, links and signs of the block (Kohlschütter et al. 2010, "Boilerplate Detection using Shallow Text Features"),
the same of its neighbours and of the elements that it stands in, what their author calls them, and where the block
stands to the element that Readability's rule would choose (Arc90, Mozilla).
"""

import re
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.media.html_walk import Element, PageImage, Walk

NAMES: tuple[tuple[str, ...], ...] = (
    ("comment", "disqus", "discuss", "respond", "reply", "replies"),
    ("share", "sharing", "social", "follow", "tweet", "facebook", "twitter", " sns ", "whatsapp"),
    ("relat", "recommend", "suggest", "readnext", "read next", "read more", "readmore", "also", "popular", "trend"),
    ("latest", "most", "more"),
    ("nav", "menu", "crumb", " toc ", "pager", "paginat", " tab ", " tabs ", "dropdown"),
    ("foot", "copyright", "legal", "colophon", "bottom", "contentinfo"),
    (" head ", "header", "masthead", "banner", "logo", "brand", "topbar"),
    ("side", "aside", "rail ", "widget", "complementary"),
    (" ad ", " ads ", "advert", "sponsor", "promo", "outbrain", "taboola", " cta "),
    (
        *("cookie", "consent", "gdpr", "newsletter", "subscri", "signup", "sign up", "signin", "login"),
        *("modal", "popup", "overlay"),
    ),
    ("hidden", "hide", " sr only", "screen reader", "collaps", "noprint", "accordion"),
    ("meta", "byline", "author", "date", "time", " tag ", " tags ", "categor", " bio", "profile"),
    ("content", "article", "post", "entry", "story", "main", "prose", "markdown", "wysiwyg", "rich text", "richtext"),
    ("body", "text", "copy", "desc", "paragraph"),
    ("title", "headline", "heading"),
    ("caption", "figure", "image", "img", "photo", "gallery", "media", "video", "thumb"),
    ("card", "grid", "list", "item", "teaser", "tile", "feed", "archive", "result", "carousel", "slid"),
    ("product", "price", "spec", "feature", "detail", "review"),
    ("thread", "message", "topic", "answer", "question", "forum", "quote"),
)  # fmt: skip
"""What classes, ids and roles say, in the words of many sites; those with spaces are whole words, or ends of them."""

AROUND_NAMES = 11
"""So many of `NAMES`, from the first, are said of what stands around a page's own text."""
AROUND_TAGS = frozenset(("header", "footer", "nav", "aside", "form"))

TAGS = (
    *("article", "main", "header", "footer", "nav", "aside", "form", "table", "ul", "ol", "dl", "section", "figure"),
    *("blockquote", "pre", "p", "h1", "h2", "h3", "li", "td", "div", "figcaption"),
)
_KIND = {
    **{"p": 0, "h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 5, "blockquote": 6, "pre": 7, "li": 8, "dd": 9},
    **{"dt": 10, "td": 11, "th": 12, "figcaption": 13, "article": 14, "section": 15, "main": 15, "div": 16},
    **{"body": 17, "center": 17, "header": 18, "footer": 19, "nav": 20, "aside": 21},
}
_OTHER = 22
_NO_WORD = re.compile("[^a-z0-9]+")
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
"""Scripts of which a character says about as much as three letters (Korean, of which one is a syllable, too)."""
_END = re.compile(r"[.!?…。！？؟।][\"'”’»」』)\]]*$")
_COMMAS = ",،、，;；"
PROSE = 80
"""Letters without links from which a block counts as prose."""
LEVELS = 5
"""Elements around a block that are described one by one."""

Numbers = NDArray[np.float64]


def features(walk: Walk) -> Numbers:
    """One row a block, of images as well; every number is finite."""
    elements, places = walk.elements, walk.places
    if not places:
        return np.zeros((0, 0))
    of = np.array([place.element for place in places], np.int64)
    texts = [None if isinstance(block, PageImage) else block.text for block in walk.blocks]
    own = np.array([_own(text, place.linked) for text, place in zip(texts, places, strict=True)])
    size, linked, commas = own[:, 0], own[:, 1], own[:, 3]
    plain = np.maximum(size - linked, 0)
    prose = np.where((plain >= PROSE) | ((plain >= 30) & (own[:, 4] > 0) & (linked < 0.4 * size)), plain, 0)
    image = np.array([text is None for text in texts], np.float64)
    kind = np.array([_KIND.get(place.tag, _OTHER) for place in places], np.float64)
    parent = np.array([element.parent for element in elements], np.int64)
    sums = _sums(parent, of, np.stack([size, linked, prose, np.ones(len(size)), image, (prose > 0) * 1.0], 1))
    total = sums[parent < 0].sum(0) if len(parent) else np.zeros(6)
    described = _described(elements, _share(sums[:, 2], total[2]))
    best, inside, above = _candidate(parent, of, plain, commas, prose, sums, described)
    around = [
        np.log1p(size), _share(linked, size), own[:, 2], commas, own[:, 4], own[:, 5], own[:, 6], own[:, 7], kind,
        image, np.array([place.to_image for place in places], np.float64),
    ]  # fmt: skip
    names = described[of] if len(elements) else np.zeros((len(of), 2 * _bits()))
    levels = [_level(parent, of, sums, total, level) for level in range(LEVELS)]
    neighbours = [_beside(np.stack([np.log1p(size), _share(linked, size), kind, image], 1), by) for by in _NEIGHBOURS]
    same = [(_beside(of[:, None].astype(np.float64), by) == of[:, None]) * 1.0 for by in (-1, 1)]
    windows = [_window(np.log1p(prose), 3), _window(np.log1p(prose), 8), _window(_share(linked, size), 5)]
    before = np.cumsum(prose) - prose
    seen = Counter(text for text in texts if text is not None)
    heads = np.flatnonzero(kind == 1)
    head = heads[0] if len(heads) else -1
    place = np.arange(len(size))
    title = (walk.title or "").lower()
    page = [
        place / max(1, len(size)), _share(before, total[2]), np.full(len(size), np.log1p(total[2])),
        np.full(len(size), np.log1p(len(size))), np.full(len(size), float(_share(total[1], total[0]))),
        np.array([0 if text is None else min(seen[text], 9) for text in texts], np.float64),
        np.where(head < 0, 0, np.sign(place - head) * np.log1p(np.abs(place - head))),
        np.array([0.0 if text is None or len(text) < 8 else float(text.lower() in title) for text in texts]),
        inside, above, np.full(len(size), best), _within_article(walk.article, texts),
    ]  # fmt: skip
    rows = [np.stack(around, 1), names, *levels, *neighbours, *same, np.stack(windows, 1), np.stack(page, 1)]
    return np.concatenate(rows, 1)


_NEIGHBOURS = (-3, -2, -1, 1, 2, 3)


def _bits() -> int:
    return len(NAMES) + len(TAGS)


def letters(text: str) -> float:
    """A text's length in letters; a character of a script without spaces counts as three."""
    if text.isascii():
        return len(text)
    return len(text) + 2.0 * sum(found.end() - found.start() for found in _UNSPACED.finditer(text))


def _own(text: str | None, linked: int) -> tuple[float, ...]:
    """Letters, letters in links, words, commas, does it end as a sentence, digits, capitals, mean length of words."""
    if text is None:
        return (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    size = letters(text)
    start = text[:400]
    words = start.split()
    digits = sum(map(str.isdigit, start)) / len(start)
    capitals = sum(word[0].isupper() for word in words) / max(1, len(words))
    mean = sum(map(len, words)) / max(1, len(words))
    commas = sum(map(text.count, _COMMAS))
    share = min(1.0, linked / len(text))
    return (size, size * share, min(size / 6, 400.0), commas, float(bool(_END.search(text))), digits, capitals, mean)


def _share(part: Any, whole: Any) -> Any:
    return np.asarray(part) / np.maximum(np.asarray(whole), 1)


def _sums(parent: NDArray[np.int64], of: NDArray[np.int64], values: Numbers) -> Numbers:
    """Of each element, the sums over the blocks in it and in what it holds. Children come after their parents."""
    sums = np.zeros((len(parent), values.shape[1]))
    held = of >= 0
    np.add.at(sums, of[held], values[held])
    for one in range(len(parent) - 1, -1, -1):
        if parent[one] >= 0:
            sums[parent[one]] += sums[one]
    return sums


def _described(elements: list[Element], held: Numbers) -> Numbers:
    """Of each element, which tags and names it and what holds it have; then, which it and its parent have alone.

    Args:
        held: the share of the page's prose that each holds. What holds most of it stands around nothing, whatever it
            is called: a page in one form, an article in a header.
    """
    own: list[int] = []
    within: list[int] = []
    near: list[int] = []
    for element, share in zip(elements, held.tolist(), strict=True):
        bits = _names(element.names) if element.names else 0
        bits |= _TAG_BIT.get(element.tag, 0)
        if share > WHOLE:
            bits &= ~_AROUND
        own.append(bits)
        within.append(bits | (within[element.parent] if element.parent >= 0 else 0))
        near.append(bits | (own[element.parent] if element.parent >= 0 else 0))
    return np.concatenate([_as_bits(within), _as_bits(near)], 1)


WHOLE = 0.5
_TAG_BIT = {tag: 1 << (len(NAMES) + place) for place, tag in enumerate(TAGS)}
_AROUND = (1 << AROUND_NAMES) - 1 | sum(_TAG_BIT[tag] for tag in AROUND_TAGS)


@lru_cache(maxsize=1 << 14)
def _names(names: str) -> int:
    spaced = f" {_NO_WORD.sub(' ', names.lower())} "
    return sum(1 << place for place, words in enumerate(NAMES) if any(word in spaced for word in words))


def _as_bits(numbers: list[int]) -> Numbers:
    whole = np.array(numbers, np.uint64)[:, None]
    return ((whole >> np.arange(_bits(), dtype=np.uint64)) & np.uint64(1)).astype(np.float64)


def _level(parent: NDArray[np.int64], of: NDArray[np.int64], sums: Numbers, total: Numbers, level: int) -> Numbers:
    """The element `level` above each block's own: letters, links, share of the page's prose, blocks, prose a block."""
    at = of
    for _ in range(level):
        at = np.where(at >= 0, parent[at], -1) if len(parent) else at
    found = sums[at] if len(sums) else np.zeros((len(of), 6))
    found = np.where((at >= 0)[:, None], found, total)
    rows = [
        np.log1p(found[:, 0]), _share(found[:, 1], found[:, 0]), _share(found[:, 2], total[2]),
        np.log1p(found[:, 3]), _share(found[:, 2], found[:, 3]), found[:, 4] / np.maximum(found[:, 3], 1),
        _share(found[:, 5], found[:, 3]),
    ]  # fmt: skip
    return np.stack(rows, 1)


def _candidate(
    parent: NDArray[np.int64],
    of: NDArray[np.int64],
    plain: Numbers,
    commas: Numbers,
    prose: Numbers,
    sums: Numbers,
    described: Numbers,
) -> tuple[float, Numbers, Numbers]:
    """Readability's candidate: its share of the page's prose; is a block in it; how far up its elements meet a block's.

    A paragraph gives its element points for its length and commas, half of them to the next, a third to the third.
    """
    count = len(of)
    if not len(parent):
        return 0.0, np.zeros(count), np.zeros(count)
    points = np.where(prose > 0, 1 + commas + np.minimum(plain / 100, 3), 0)
    scores = np.zeros(len(parent))
    at = of
    for weight in (1.0, 1.0, 0.5, 1 / 3):
        held = at >= 0
        np.add.at(scores, at[held], weight * points[held])
        at = np.where(held, parent[at], -1)
    scores *= 1 - np.minimum(1, _share(sums[:, 1], sums[:, 0]))
    top = int(np.argmax(scores))
    line = [top]
    while parent[line[-1]] >= 0:
        line.append(int(parent[line[-1]]))
    steps = {element: step for step, element in enumerate(line)}
    meets: list[int] = []
    for one in range(len(parent)):
        meets.append(steps[one] if one in steps else meets[parent[one]] if parent[one] >= 0 else len(line))
    above = np.array(meets, np.float64)
    found = np.where(of >= 0, above[of], len(line))
    whole = sums[parent < 0, 2].sum()
    return float(_share(sums[top, 2], whole)), (found == 0) * 1.0, found


def _beside(values: Numbers, by: int) -> Numbers:
    """The rows `by` places further on; -1 beyond the ends."""
    moved = np.full(values.shape, -1.0)
    if by > 0:
        moved[:-by] = values[by:]
    else:
        moved[-by:] = values[:by]
    return moved


def _window(values: Numbers, reach: int) -> Numbers:
    """Means over `reach` places on either side."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - reach, 0)
    high = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    means: Numbers = (sums[high] - sums[low]) / np.maximum(high - low, 1)
    return means


def _within_article(article: str | None, texts: list[str | None]) -> Numbers:
    """1 for texts that stand in the body that structured data gives, 0 for others, -1 where it gives none."""
    if not article:
        return np.full(len(texts), -1.0)
    whole = "".join(article.split())
    return np.array([float(text is not None and "".join(text[:2000].split())[:200] in whole) for text in texts])
