"""Which blocks of a page are its own: its body, without navigation, teasers, notices, comments' forms and footers.

Boosted trees over the features of `page_features.py` score each text (trained by `scripts/train_page_body.py` on pages
whose body people marked). Images go with the texts that they stand between. A page of little text is judged by its tags.
"""

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.media.html_walk import Picture, Walk
from curation.media.page_features import features, letters

MODEL = Path(__file__).with_name("page_body.onnx")

SCORE = -0.5
"""Log odds from which a text is kept, where mean F1 over the pages that the trees were trained on is best."""

LITTLE = 1000
"""Letters of a page without links up to which it is judged by its tags: trees have seen whole pages."""

LEAST = 0.2
"""Of a page's text without links, that much is kept at least, if with texts of lower scores."""

_OWN_HEADS = frozenset(("article", "main"))
"""A header within one is its own: the heading and the first image."""


def body_blocks(walk: Walk, dropped: Iterable[str]) -> list[bool]:
    """For each block of a page: does it belong to its body?

    Args:
        dropped: tags that are left out of a page of little text, unless they hold the most of it.
    """
    sizes = np.array([0.0 if isinstance(block, Picture) else letters(block.text) for block in walk.blocks])
    linked = np.array([place.linked for place in walk.places], np.float64)
    plain = np.maximum(sizes - linked, 0)
    if plain.sum() < LITTLE:
        return outside_tags(walk, dropped)
    images = np.array([isinstance(block, Picture) for block in walk.blocks])
    scores = body_scores(walk)
    kept = (scores > SCORE) & ~images
    if plain[kept].sum() < LEAST * plain.sum():
        order = np.argsort(-np.where(images, -np.inf, scores), kind="stable")
        enough = int(np.searchsorted(np.cumsum(plain[order]), LEAST * plain.sum()))
        kept[order[: enough + 1]] = True
        kept &= ~images
    return _with_images(walk, kept, images)


def outside_tags(walk: Walk, dropped: Iterable[str]) -> list[bool]:
    """For each block: does it stand outside the tags that are dropped?

    Such a tag is kept where it holds more text than stands outside of all of them: a page in one form, an article in a
    header. So is the header of an article.
    """
    dropped = frozenset(dropped)
    elements, count = walk.elements, len(walk.elements)
    text = [0.0] * (count + 1)
    for block, place in zip(walk.blocks, walk.places, strict=True):
        if not isinstance(block, Picture):
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
        held = [one for one in outermost if text[one] >= left and text[one] > 0]
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


def _with_images(walk: Walk, kept: NDArray[np.bool_], images: NDArray[np.bool_]) -> list[bool]:
    """The texts that are kept, and the images that stand among them.

    An image does where the texts before and after it are kept, or where one is that shares more of its elements with it
    than the other; one that leads to another page, with a text that is left out, is a teaser.
    """
    if not images.any():
        return kept.tolist()
    result: list[bool] = kept.tolist()
    texts = np.flatnonzero(~images)
    for one in np.flatnonzero(images).tolist():
        after = int(np.searchsorted(texts, one))
        before = int(texts[after - 1]) if after else -1
        behind = int(texts[after]) if after < len(texts) else -1
        near = [text for text in (before, behind) if text >= 0]
        if not near:
            result[one] = True
            continue
        shared = {text: _shared(walk, one, text) for text in near}
        most = max(shared.values())
        closest = [text for text in near if shared[text] == most]
        place = walk.places[one]
        teaser = place.linked and not place.to_image
        if all(kept[text] for text in near):
            result[one] = True
        elif any(kept[text] for text in closest):
            result[one] = not teaser or len(closest) == 1
    return result


def _shared(walk: Walk, one: int, other: int) -> int:
    """How deep the innermost element stands that two blocks are both in."""
    lines = []
    for block in (one, other):
        line, at = [], walk.places[block].element
        while at >= 0:
            line.append(at)
            at = walk.elements[at].parent
        lines.append(line[::-1])
    depth = 0
    for first, second in zip(*lines, strict=False):
        if first != second:
            break
        depth += 1
    return depth
