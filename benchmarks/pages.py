"""The body of a page against people's gold texts: our reader beside trafilatura and readability, in one run.

Pages are those of public sets (`page_sets.py`), cloned beforehand into folders that options name; none is fetched. Our
trees, thresholds and rules were fitted to one part of each set (its own development part, or half of its pages by the
hash of their names); all figures are of the other. Every reader gets the same bytes, and is held against the same text
by the same words. Precision, recall and F1 are means over pages; of `trafilatura`, whose pages have only pieces of text
marked, they are of all pieces together. An image is kept where an image of that name is read; `lost` counts pages of
which less than a tenth of the gold text is read, though at least half of it stands in the page. Times are CPU
milliseconds a page, decoding and parsing included.

    python benchmarks/pages.py [--wcxb FOLDER] [--article-extraction FOLDER] [--readability FOLDER]
        [--newspaper FOLDER] [--trafilatura FOLDER] [--at-most PAGES] [--all-readers] [--json]

`trafilatura` and `readability-lxml` are compared where they are installed.
"""

import argparse
import json
import logging
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any

from lxml import etree, html

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page_sets import SETS, GoldPage, Score, image_key, score_pieces, score_words, text_of
from curation.media.html_pages import DROPPED, PageImage, Text, decode_page, read_page
from curation.media.html_walk import walk_page

LOST = 0.1
THERE = 0.5
LEAST_WORDS = 50
"""Of a gold text, to be counted as lost."""


@dataclass(frozen=True)
class Reading:
    """What a reader makes of a page: its text, and the addresses of its images in order."""

    text: str
    images: tuple[str, ...] = ()


def ours(data: bytes) -> Reading:
    return _reading(read_page(data).blocks)


def by_tags(data: bytes) -> Reading:
    """Ours without trees: all but navigation, headers, footers, asides and forms."""
    return _reading(read_page(data, DROPPED, body=False).blocks)


def trafilatura(data: bytes) -> Reading:
    from trafilatura import extract

    return Reading(extract(data, include_comments=False) or "")


def trafilatura_with_images(data: bytes) -> Reading:
    from trafilatura import bare_extraction

    found = bare_extraction(data, include_comments=False, include_images=True)
    if found is None or found.body is None:
        return Reading("")
    return Reading(text_of(found.body), tuple(image.get("src", "") for image in found.body.iter("graphic")))


def readability(data: bytes) -> Reading:
    from readability import Document
    from readability.readability import Unparseable

    try:
        tree = html.fromstring(Document(decode_page(data)).summary())
    except (Unparseable, etree.ParserError):
        return Reading("")
    return Reading(text_of(tree), tuple(image.get("src", "") for image in tree.iter("img")))


def _reading(blocks: Iterable[Text | PageImage]) -> Reading:
    blocks = list(blocks)
    texts = "\n".join(block.text for block in blocks if isinstance(block, Text))
    return Reading(texts, tuple(block.source for block in blocks if isinstance(block, PageImage)))


READERS: dict[str, tuple[Callable[[bytes], Reading], str | None]] = {
    "ours": (ours, None),
    "trafilatura": (trafilatura, "trafilatura"),
    "readability": (readability, "readability"),
    "trafilatura with images": (trafilatura_with_images, "trafilatura"),
    "ours by tags": (by_tags, None),
}
"""Readers, and the module that each needs. The first three are compared, the others shown with `--all-readers`."""


@dataclass
class Tally:
    """What a reader made of one set."""

    scores: list[Score] = field(default_factory=list)
    pieces: list[tuple[int, int, int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    images: int = 0
    images_kept: int = 0
    images_read: int = 0
    images_wanted: int = 0
    cpu_s: float = 0.0
    pages: int = 0

    def add(self, page: GoldPage, found: Reading, cpu_s: float, here: bool) -> None:
        self.pages += 1
        self.cpu_s += cpu_s
        if page.text is None:
            self.pieces.append(score_pieces(found.text, page.present, page.absent))
            return
        self.scores.append(score := score_words(found.text, page.text))
        if here and score.recall < LOST:
            self.lost.append(page.name)
        if page.images is not None:
            gold, read = set(map(image_key, page.images)), set(map(image_key, found.images))
            self.images += len(gold)
            self.images_kept += len(gold & read)
            self.images_read += len(read)

    def figures(self) -> dict[str, Any]:
        result: dict[str, Any] = {"pages": self.pages, "cpu_ms_per_page": 1000 * self.cpu_s / max(1, self.pages)}
        if self.scores:
            result |= {
                name: mean(getattr(score, name) for score in self.scores) for name in ("precision", "recall", "f1")
            }
            result["lost"] = self.lost
        if self.pieces:
            hits, wrong, missed = (sum(one[place] for one in self.pieces) for place in range(3))
            score = Score(hits / max(1, hits + wrong), hits / max(1, hits + missed))
            result |= {"precision": score.precision, "recall": score.recall, "f1": score.f1}
        if self.images:
            result |= {
                "images": self.images,
                "images_kept": self.images_kept / self.images,
                "images_precision": self.images_kept / max(1, self.images_read),
            }
        return result


def compare(folders: dict[str, Path], readers: list[str], at_most: int | None) -> dict[str, Any]:
    """Figures of every reader by set, by kind of page, and of all sets with whole gold texts together."""
    by_set: dict[str, dict[str, Tally]] = defaultdict(lambda: {reader: Tally() for reader in readers})
    everything: dict[str, Tally] = {reader: Tally() for reader in readers}
    kinds: dict[str, dict[str, Tally]] = defaultdict(lambda: {reader: Tally() for reader in readers})
    for name, folder in folders.items():
        pages = [page for page in SETS[name](folder) if not page.tuned][:at_most]
        for page in pages:
            here = page.text is not None and _stands_in(page)
            for reader in readers:
                started = process_time()
                found = READERS[reader][0](page.data)
                spent = process_time() - started
                by_set[name][reader].add(page, found, spent, here)
                if page.text is not None:
                    everything[reader].add(page, found, spent, here)
                if page.kind:
                    kinds[page.kind][reader].add(page, found, spent, here)
    result = {part: _of_readers(tallies) for part, tallies in by_set.items()}
    return {"sets": result, "kinds": {kind: _of_readers(tallies) for kind, tallies in sorted(kinds.items())}} | {
        "overall": _of_readers(everything)
    }


def _of_readers(tallies: dict[str, Tally]) -> dict[str, Any]:
    return {reader: tally.figures() for reader, tally in tallies.items()}


def _stands_in(page: GoldPage) -> bool:
    """Does the page's own markup hold at least half of its gold text, and is that a body at all?"""
    assert page.text is not None
    blocks = walk_page(decode_page(page.data), 2000, 20_000, invisible=True).blocks
    all_text = "\n".join(block.text for block in blocks if isinstance(block, Text))
    return len(page.text.split()) >= LEAST_WORDS and score_words(all_text, page.text).recall >= THERE


def summary(found: dict[str, Any], readers: list[str]) -> dict[str, Any]:
    """What is aimed at: our F1 over that of the better peer, the share of images, time, and bodies lost."""
    peers = [reader for reader in ("trafilatura", "readability") if reader in readers]
    overall = found["overall"]
    result: dict[str, Any] = {"skipped": []}
    if not peers:
        result["skipped"] += ["f1_over_better_peer", "trafilatura_ms_over_ours"]
    elif overall["ours"]["pages"]:
        better = max(overall[peer]["f1"] for peer in peers)
        result |= {"ours_f1": overall["ours"]["f1"], "better_peer_f1": better}
        result["f1_over_better_peer"] = overall["ours"]["f1"] / better
        by_set = found["sets"].items()
        result["f1_over_better_peer_by_set"] = {
            name: tallies["ours"]["f1"] / max(tallies[peer]["f1"] for peer in peers) for name, tallies in by_set
        }
        if "trafilatura" in peers:
            result["ours_ms"] = overall["ours"]["cpu_ms_per_page"]
            result["trafilatura_ms"] = overall["trafilatura"]["cpu_ms_per_page"]
            result["trafilatura_ms_over_ours"] = result["trafilatura_ms"] / result["ours_ms"]
    result["lost"] = len(overall["ours"].get("lost", ()))
    if "images_kept" in overall["ours"]:
        result["images"] = overall["ours"]["images"]
        result["images_read_of_gold"] = round(overall["ours"]["images"] * overall["ours"]["images_kept"])
        result["images_kept"] = overall["ours"]["images_kept"]
    else:
        result["skipped"].append("images_kept")
    return result


def show(found: dict[str, Any]) -> None:
    print(
        f"{'set':20} {'reader':24} {'pages':>5} {'prec.':>6} {'recall':>6} {'F1':>6} {'images':>6} {'lost':>4}     ms"
    )
    for name, tallies in [*found["sets"].items(), *found["kinds"].items(), ("overall", found["overall"])]:
        for reader, one in tallies.items():
            if "f1" in one:
                images = f"{one['images_kept']:.3f}" if "images_kept" in one else ""
                print(
                    f"{name:20} {reader:24} {one['pages']:5} {one['precision']:6.3f} {one['recall']:6.3f} "
                    f"{one['f1']:6.3f} {images:>6} {len(one.get('lost', ())):4} {one['cpu_ms_per_page']:6.1f}"
                )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, layout in SETS.items():
        arguments.add_argument(f"--{name}", type=Path, metavar="FOLDER", help=(layout.__doc__ or "").partition("\n")[0])
    arguments.add_argument("--at-most", type=int, help="pages of a set")
    arguments.add_argument("--all-readers", action="store_true", help="also trafilatura with images, and ours by tags")
    arguments.add_argument("--json", action="store_true")
    chosen = vars(arguments.parse_args())
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    folders = {name: folder for name in SETS if (folder := chosen[name.replace("-", "_")]) is not None}
    wanted = list(READERS) if chosen["all_readers"] else list(READERS)[:3]
    readers = [reader for reader in wanted if (needs := READERS[reader][1]) is None or find_spec(needs) is not None]
    if not folders:
        keys = ["f1_over_better_peer", "trafilatura_ms_over_ours", "images_kept"]
        print(json.dumps({"skipped": keys, "why": "no folder of pages is given; see --help"}))
        return
    found = compare(folders, readers, chosen["at_most"])
    if chosen["json"]:
        print(json.dumps(found | summary(found, readers)))
        return
    show(found)
    print(json.dumps(summary(found, readers), indent=2))


if __name__ == "__main__":
    main()
