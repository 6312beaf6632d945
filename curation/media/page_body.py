"""Which blocks of a page are its own: its body, without navigation, teasers, notices, comments' forms and footers.

Boosted trees over the features of `page_features.py` score each text (trained by `scripts/train_page_body.py` on pages
whose body people marked). Images go with the texts around them. A page of little text is judged by its tags.
"""

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.media.html_walk import PageImage, Text, Walk
from curation.media.page_features import features, letters

MODEL = Path(__file__).with_name("page_body.onnx")

SLOPE, OFFSET, HIGHEST = 0.5, -1.0, 1.5
"""Log odds from which a text is kept: this much of the page's own mean and this more, and no higher than that.

Where there is a clear body, as in an article, what is half as likely to belong to it does not; where there is none, as
on a page of products, little is certain. Best in cross-validation over the pages that the trees were trained on.
"""

LOOSE = -0.5
"""Log odds from which a text speaks for the images around it."""

LITTLE = 500
"""Letters of a page without links up to which it is judged by its tags: trees have seen whole pages."""

LEAST = 0.2
"""Of a page's text without links, that much is kept at least, if with texts of lower scores."""

CONTEXT = 250
"""Letters of an element that say where an image in it belongs."""

MOST, SOME = 0.5, 0.2
"""Shares of those that are kept."""

ARTICLE = 200
"""Letters of a navigation, a footer or an aside that is taken for a page's body."""

_WRAPPERS = frozenset(("form", "header"))
_OWN_HEADS = frozenset(("article", "main"))
"""A header within one is its own: the heading and the first image."""


def body_blocks(walk: Walk, dropped: Iterable[str]) -> list[bool]:
    """For each block of a page: does it belong to its body?

    Args:
        dropped: tags that are left out of a page of little text, unless they hold the most of it.
    """
    sizes = np.array([0.0 if isinstance(block, PageImage) else letters(block.text) for block in walk.blocks])
    linked = np.array([place.linked for place in walk.places], np.float64)
    plain = np.maximum(sizes - linked, 0)
    if plain.sum() < LITTLE:
        return outside_tags(walk, dropped)
    images = np.array([isinstance(block, PageImage) for block in walk.blocks])
    scores = body_scores(walk)
    kept = (scores > _threshold(scores, sizes)) & ~images
    if plain[kept].sum() < LEAST * plain.sum():
        order = np.argsort(-np.where(images, -np.inf, scores), kind="stable")
        enough = int(np.searchsorted(np.cumsum(plain[order]), LEAST * plain.sum()))
        kept[order[: enough + 1]] = True
        kept &= ~images
    if (heading := _heading(walk, kept)) >= 0:
        kept[heading] = True
    return _with_images(walk, kept, kept | ((scores > LOOSE) & ~images), images, sizes)


def _threshold(scores: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """The log odds from which a page's texts are kept."""
    likely = scores > 0
    mean = float(np.average(scores[likely], weights=sizes[likely] + 1)) if likely.any() else 0.0
    return min(HIGHEST, SLOPE * mean + OFFSET)


def outside_tags(walk: Walk, dropped: Iterable[str]) -> list[bool]:
    """For each block: does it stand outside the tags that are dropped?

    Such a tag is kept where it holds more text than stands outside of all of them: a page in one form, an article in a
    header. So is the header of an article.
    """
    dropped = frozenset(dropped)
    elements, count = walk.elements, len(walk.elements)
    text = [0.0] * (count + 1)
    for block, place in zip(walk.blocks, walk.places, strict=True):
        if not isinstance(block, PageImage):
            text[place.element] += max(0.0, len(block.text) - 0.9 * place.linked)
    loose = text[-1]
    for one in range(count - 1, -1, -1):
        if (parent := elements[one].parent) >= 0:
            text[parent] += text[one]
    total = loose + sum(text[one] for one in range(count) if elements[one].parent < 0)
    spared: set[int] = set()
    own = [False] * count
    for one, element in enumerate(elements):
        own[one] = element.tag in _OWN_HEADS or (element.parent >= 0 and own[element.parent])
        if element.tag == "header" and element.parent >= 0 and own[element.parent]:
            spared.add(one)
    while True:
        outermost, within = [], [False] * count
        for one, element in enumerate(elements):
            inside = element.parent >= 0 and within[element.parent]
            here = element.tag in dropped and one not in spared
            within[one] = inside or here
            if here and not inside:
                outermost.append(one)
        left = total - sum(text[one] for one in outermost)
        # A menu alone is no body; a page in one form is, however short.
        least = {one: 0 if elements[one].tag in _WRAPPERS else ARTICLE for one in outermost}
        held = [one for one in outermost if text[one] >= left and text[one] > least[one]]
        if not held:
            return [place.element < 0 or not within[place.element] for place in walk.places]
        spared.add(max(held, key=lambda one: text[one]))


def body_scores(walk: Walk) -> NDArray[np.float64]:
    """The log odds that each block belongs to the body."""
    found: NDArray[Any] = _trees()(features(walk).astype(np.float32))
    return found.astype(np.float64)


@lru_cache(maxsize=1)
def _trees() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(MODEL), options, providers=["CPUExecutionProvider"])

    def score(rows: NDArray[np.float32]) -> NDArray[Any]:
        found: NDArray[Any] = session.run(["score"], {"rows": rows})[0][:, 0]
        return found

    return score


def _with_images(
    walk: Walk,
    kept: NDArray[np.bool_],
    loose: NDArray[np.bool_],
    images: NDArray[np.bool_],
    sizes: NDArray[np.float64],
) -> list[bool]:
    """The texts that are kept, the images among them, and the captions of those.

    An image goes with the smallest element around it that has some text: it is kept where most of that text is, or
    where a good part of it is and the texts next to the image are. One that leads to another page, in an element whose
    text is left out, is a teaser; one within the body that leads to an image is of a gallery.

    Args:
        loose: texts that are kept, and those that might as well have been: an image's surroundings.
    """
    result: list[bool] = kept.tolist()
    if not images.any():
        return result
    elements, places = walk.elements, walk.places
    letters_in, kept_in = [0.0] * (len(elements) + 1), [0.0] * (len(elements) + 1)
    for size, keep, place in zip(sizes.tolist(), loose.tolist(), places, strict=True):
        letters_in[place.element] += size
        kept_in[place.element] += size * keep
    for one in range(len(elements) - 1, -1, -1):
        if elements[one].parent >= 0:
            letters_in[elements[one].parent] += letters_in[one]
            kept_in[elements[one].parent] += kept_in[one]
    texts = np.flatnonzero(~images)
    body = np.flatnonzero(kept)
    first, last = (int(body[0]), int(body[-1])) if len(body) else (0, 0)
    figures: set[int] = set()
    for one in np.flatnonzero(images).tolist():
        place = places[one]
        figure = _figure(walk, place.element)
        # A figure's own caption says nothing of where the figure belongs.
        outer = place.element if figure < 0 else elements[figure].parent
        some, enough = (_around(walk, outer, letters_in, least) for least in (1, CONTEXT))
        teaser = place.linked and not place.to_image and some >= 0 and not kept_in[some] and letters_in[some] < CONTEXT
        share = kept_in[enough] / max(1.0, letters_in[enough]) if enough >= 0 else 1.0
        after = int(np.searchsorted(texts, one))
        beside = [int(text) for text in texts[max(0, after - 1) : after + 1]]
        near = any(loose[text] for text in beside)
        gallery = place.to_image and first < one < last
        result[one] = gallery or (not teaser and (share >= MOST or (share >= SOME and near)))
        if result[one] and figure >= 0:
            figures.add(figure)
    if figures:
        for one in texts.tolist():
            if not result[one] and walk.places[one].tag == "figcaption":
                result[one] = _figure(walk, places[one].element) in figures
    return result


def _around(walk: Walk, element: int, letters_in: list[float], least: float) -> int:
    """The innermost element around one, or itself, with so many letters; -1 where none has."""
    while element >= 0 and letters_in[element] < least:
        element = walk.elements[element].parent
    return element


def _figure(walk: Walk, element: int) -> int:
    while element >= 0 and walk.elements[element].tag != "figure":
        element = walk.elements[element].parent
    return element


def _heading(walk: Walk, kept: NDArray[np.bool_]) -> int:
    """The place of the heading that the page's title repeats, above the first text that is kept; -1 for none."""
    title = " ".join((walk.title or "").lower().split())
    first = int(np.argmax(kept)) if kept.any() else 0
    for one in range(first - 1, -1, -1):
        block = walk.blocks[one]
        if walk.places[one].tag == "h1" and isinstance(block, Text):
            text = " ".join(block.text.lower().split())
            return one if text in title or title in text else -1
    return -1
