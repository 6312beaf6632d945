"""Public sets of web pages with gold texts, as their repositories lay them out, and how a text is held against one.

They are not ours to hand on: `benchmarks/pages.py` takes the folders into which they were cloned.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename
from typing import Any
from urllib.parse import unquote, urlsplit

from curation.hashing import digest

WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")
"""A character of a script that is written without spaces, or what stands between spaces and signs."""


@dataclass(frozen=True)
class GoldPage:
    """A page, and what people say is its own.

    Attributes:
        tuned: rules and models may have been fitted to it; figures are of the others.
        text: its whole text; None where only pieces of it are known.
        present, absent: pieces of text that belong to it, or do not.
        images: addresses of its images; None where nobody listed them.
        kind: what sort of a page it is, where the set says.
    """

    name: str
    data: bytes
    tuned: bool
    text: str | None = None
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    images: tuple[str, ...] | None = None
    kind: str = ""


def readability(folder: Path) -> Iterator[GoldPage]:
    """Test pages of mozilla/readability (Apache-2.0): the text and the images that reviewers agreed on."""
    from lxml import html

    for page in sorted((folder / "test" / "test-pages").iterdir()):
        expected = page / "expected.html"
        if expected.is_file():
            tree = html.fromstring(expected.read_bytes().decode(), parser=html.HTMLParser(encoding="utf-8"))
            images = tuple(source for image in tree.iter("img") if (source := image.get("src", "")))
            data = (page / "source.html").read_bytes()
            yield GoldPage(page.name, data, _first_half(page.name), text_of(tree), images=images)


def article_extraction(folder: Path) -> Iterator[GoldPage]:
    """The article extraction benchmark of scrapinghub (MIT): news and blogs."""
    for name, gold in sorted(json.loads((folder / "ground-truth.json").read_text()).items()):
        data = gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes())
        yield GoldPage(name, data, _first_half(name), gold["articleBody"])


def wcxb(folder: Path) -> Iterator[GoldPage]:
    """Murrough-Foley/web-content-extraction-benchmark (CC-BY-4.0): seven kinds of pages, with its own parts."""
    for part in ("dev", "test"):
        for file in sorted((folder / part / "ground-truth").glob("*.json")):
            record = json.loads(file.read_text())
            gold = record["ground_truth"]
            if not gold.get("main_content"):
                continue
            data = gzip.decompress((folder / part / "html" / f"{file.stem}.html.gz").read_bytes())
            kind = record.get("_internal", {}).get("page_type", {}).get("primary", "")
            yield GoldPage(file.stem, data, part == "dev", gold["main_content"], kind=kind)


def newspaper(folder: Path) -> Iterator[GoldPage]:
    """Test pages of AndyTheFactory/newspaper4k (MIT): news in many languages, some of it without spaces."""
    for file in sorted((folder / "tests" / "data" / "txt").glob("*.txt")):
        page = folder / "tests" / "data" / "html" / f"{file.stem}.html"
        if page.is_file():
            yield GoldPage(file.stem, page.read_bytes(), _first_half(file.stem), file.read_text())


def trafilatura(folder: Path) -> Iterator[GoldPage]:
    """The evaluation set of adbar/trafilatura (Apache-2.0): pieces of text that must, or must not, be there."""
    tests = folder / "tests"
    for gold in json.loads((tests / "evaldata.json").read_text()).values():
        found = [path for part in ("cache", "eval") if (path := tests / part / gold["file"]).is_file()]
        if found:
            pieces = tuple(gold["with"]), tuple(gold["without"])
            yield GoldPage(gold["file"], found[0].read_bytes(), _first_half(gold["file"]), None, *pieces)


SETS: dict[str, Callable[[Path], Iterator[GoldPage]]] = {
    "wcxb": wcxb,
    "article-extraction": article_extraction,
    "readability": readability,
    "newspaper": newspaper,
    "trafilatura": trafilatura,
}


def _first_half(name: str) -> bool:
    return int(digest(name)[:8], 16) % 2 == 0


def text_of(tree: Any) -> str:
    """The text of a tree with spaces between its elements."""
    return " ".join(tree.itertext())


def words(text: str) -> Counter[str]:
    return Counter(WORD.findall(text.lower()))


@dataclass(frozen=True)
class Score:
    """Precision, recall and their harmonic mean."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / (self.precision + self.recall) if self.recall else 0.0


def score_words(found: str, gold: str) -> Score:
    """Words that are in both, as often as they are in both, over those found and those of the gold text."""
    ours, true = words(found), words(gold)
    both = (ours & true).total()
    if not true:
        return Score(float(not ours), 1.0)
    return Score(both / ours.total() if ours else 0.0, both / true.total())


def score_pieces(found: str, present: tuple[str, ...], absent: tuple[str, ...]) -> tuple[int, int, int]:
    """Pieces that are there as they should, that are there and should not, and that are not there and should."""
    text = " ".join(found.split())
    hits = sum(" ".join(piece.split()) in text for piece in present)
    return hits, sum(" ".join(piece.split()) in text for piece in absent), len(present) - hits


def image_key(source: str) -> str:
    """What tells an image from others of its page, however its address is written: the path without its folders.

    Proxies put the address of the original in theirs; what stands behind the last slash is that of the original.
    """
    return basename(unquote(unquote(urlsplit(source.strip()).path)).rstrip("/")) or source.strip()
