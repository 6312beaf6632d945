"""A corpus of image-text pairs whose truth is known, because both are made from one scene.

Most pairs are good, of a few common and many rare things; the rest have one planted fault each, or are copies of good
ones. They lie in tars, in a folder with a list and in a Parquet file. A seed gives the same bytes each time.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from curation.diversity.lexicon import from_words
from curation.errors import SourceError
from curation.proving.caption_faults import TextFault, faulty_caption
from curation.proving.caption_truth import (
    COPIES,
    ENTRY_FAULTS,
    HARD_NEGATIVES,
    IMAGE_FAULTS,
    TEXT_FAULTS,
    UNUSUAL,
    CaptionTruth,
    Fault,
    PairTruth,
    read_caption_truth,
    write_caption_truth,
)
from curation.proving.pair_files import Entry, write_list, write_parquet, write_tar
from curation.proving.scene_files import (
    Copy,
    ImageFault,
    Pixels,
    Unusual,
    copied,
    encoded,
    scene_pixels,
    spoiled,
    unusual,
)
from curation.proving.scenes import (
    ALL,
    COLOURS,
    HELD_OUT,
    PLURALS,
    SAME_MEANING,
    SHAPES,
    TRAINED,
    Caption,
    Change,
    Combination,
    Scene,
    changed,
    draw_scene,
    write_caption,
)

SOURCE = "pairs"
"""The folder of the source, below the corpus."""
EVALUATION = "evaluation"
"""The folder of the images of an evaluation set, some of which leaked into the source."""
LEXICON_FILE = "lexicon.parquet"
LIST_FILE = "listed/pairs.jsonl"
PARQUET_FILE = "pairs.parquet"

CHANGES: dict[str, Change] = {
    "hard_colour": "colour",
    "hard_shape": "shape",
    "hard_size": "size",
    "hard_exchange": "exchange",
}
FORMATS = (*(("jpeg", "jpg"),) * 8, ("png", "png"), ("webp", "webp"))
"""And extensions; one is drawn."""
LICENCES = ("CC-BY-4.0", "CC0-1.0", None)


@dataclass(frozen=True)
class CaptionCorpusSettings:
    """What a corpus holds, as shares of its pairs. At least `least` of every kind of fault are planted."""

    image_fault_share: float = 0.008
    text_fault_share: float = 0.008
    entry_fault_share: float = 0.004
    copy_share: float = 0.02
    """Of each kind of near duplicate."""
    exact_duplicate_share: float = 0.02
    mismatched_share: float = 0.06
    hard_negative_share: float = 0.02
    unusual_share: float = 0.005
    evaluation_share: float = 0.005
    same_image_share: float = 0.01
    """Images with three captions."""
    least: int = 3
    held_out_share: float = 0.2
    """Good pairs made of combinations never trained on; mismatched ones and hard negatives all are."""
    sides: tuple[int, int] = (256, 448)
    """Pixels, from and to."""
    skew: float = 1.0
    """Of Zipf's law: the r-th colour, and the r-th shape, comes with r to the power of minus this."""
    concept_limit_share: float = 0.006
    """t of the concept balance, as a share of the pairs."""
    pairs_per_tar: int = 500
    list_share: float = 0.2
    parquet_share: float = 0.2


DEFAULTS = CaptionCorpusSettings()


@dataclass(frozen=True)
class Planned:
    """A pair to be made. `number` seeds all that it does not take from its original."""

    number: int
    fault: Fault | None = None
    original: int | None = None
    unusual: Unusual | None = None
    held_out: bool = False
    file: str = ""
    key: str = ""

    @property
    def scene_number(self) -> int:
        """Seeds its image."""
        return self.number if self.original is None else self.original


def make_caption_corpus(
    folder: Path | str, *, seed: int = 0, pairs: int = 1600, settings: CaptionCorpusSettings = DEFAULTS
) -> CaptionTruth:
    """Write the source, an evaluation set, a lexicon and the truth to a folder.

    Args:
        pairs: number of entries, about.

    Raises:
        SourceError: the folder holds files already.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SourceError(f"{folder} is not empty; a corpus requires a folder of its own")
    plan = placed(planned(seed, pairs, settings), seed, settings)
    maker = _Maker(seed, settings, {one.number: one for one in plan})
    truths: list[PairTruth] = []
    for file in dict.fromkeys(one.file for one in plan):
        path = folder / SOURCE / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write = {".tar": write_tar, ".jsonl": write_list, ".parquet": write_parquet}[path.suffix]
        write(path, maker.entries([one for one in plan if one.file == file], truths))
    (folder / EVALUATION).mkdir()
    for one in (one for one in plan if one.fault == "evaluation"):
        (folder / EVALUATION / f"{one.number:06}.png").write_bytes(encoded(maker.pixels(one), "png"))
    pq.write_table(caption_lexicon(), folder / LEXICON_FILE)
    limit = max(1.0, round(settings.concept_limit_share * pairs))
    about = {"seed": seed, "pairs": pairs, "settings": asdict(settings), "concept_limit": limit}
    truth = CaptionTruth(pairs=tuple(sorted(truths, key=lambda one: (one.file, one.key))), about=about)
    write_caption_truth(truth, folder)
    return truth


def recipe_settings(folder: Path) -> list[str]:
    """What to set in a recipe for a corpus in this folder; what it does not bring is left as it is."""
    settings = [f"source.path={folder / SOURCE}"]
    if (limit := read_caption_truth(folder).about.get("concept_limit")) is not None:
        settings.append(f"concepts.limits={{given: {{en: {limit}}}}}")
    if (folder / LEXICON_FILE).is_file():
        settings.append(f"concepts.lexicon={folder / LEXICON_FILE}")
    if (folder / EVALUATION).is_dir():
        settings.append(f"decontaminate={{sets: [{{name: evaluation, path: '{folder / EVALUATION}'}}]}}")
    return settings


def planned(seed: int, pairs: int, settings: CaptionCorpusSettings) -> list[Planned]:
    """What is to be made: first the faults that stand alone, then good pairs, then what copies them."""
    alone: list[tuple[float, Sequence[str]]] = [
        (settings.image_fault_share, IMAGE_FAULTS),
        (settings.text_fault_share, TEXT_FAULTS),
        (settings.entry_fault_share, ENTRY_FAULTS),
        (settings.mismatched_share, ("mismatched",)),
        (settings.hard_negative_share, HARD_NEGATIVES),
        (settings.evaluation_share, ("evaluation",)),
    ]
    faults = [fault for part, kinds in alone for fault in kinds for _ in range(_count(part, pairs, settings))]
    copies = [fault for fault in COPIES for _ in range(_count(settings.copy_share, pairs, settings))]
    copies += ["exact_duplicate"] * _count(settings.exact_duplicate_share, pairs, settings)
    shared = _count(settings.same_image_share, pairs, settings)
    odd = [kind for kind in UNUSUAL for _ in range(_count(settings.unusual_share, pairs, settings))]
    plan = [Planned(0, cast(Fault, fault)) for fault in faults]
    good = max(pairs - len(faults) - len(copies) - 2 * shared, len(odd) + shared + len(copies), 1)
    chance = random.Random(f"{seed}\x1fplan")
    plan += [Planned(0, unusual=cast(Unusual, kind)) for kind in odd]
    plan += [Planned(0, held_out=chance.random() < settings.held_out_share) for _ in range(good - len(odd))]
    plan = [replace(one, number=number) for number, one in enumerate(plan)]
    # Each good pair is the original of one copy at most, so that a copy found or missed is one decision.
    originals = iter(chance.sample([one.number for one in plan if not one.fault and not one.unusual], good - len(odd)))
    plan += [Planned(len(plan) + k, cast(Fault, fault), next(originals)) for k, fault in enumerate(copies)]
    for original in [next(originals) for _ in range(shared)]:
        plan += [Planned(len(plan) + k, None, original, held_out=plan[original].held_out) for k in range(2)]
    negative = ("mismatched", *HARD_NEGATIVES)
    return [replace(one, held_out=True) if one.fault in negative else one for one in plan]


def placed(plan: Sequence[Planned], seed: int, settings: CaptionCorpusSettings) -> list[Planned]:
    """The plan in the order in which it is written, with files and keys. Faults of tars go to tars."""
    order = random.Random(f"{seed}\x1forder").sample(list(plan), len(plan))
    tarred = [one for one in order if one.fault in ENTRY_FAULTS]
    others = [one for one in order if one.fault not in ENTRY_FAULTS]
    listed, stored = (round(part * len(order)) for part in (settings.list_share, settings.parquet_share))
    # Lines are counted from 1, rows from 0.
    found = [replace(one, file=LIST_FILE, key=str(k)) for k, one in enumerate(others[:listed], 1)]
    found += [replace(one, file=PARQUET_FILE, key=str(k)) for k, one in enumerate(others[listed : listed + stored])]
    rest = random.Random(f"{seed}\x1ftars").sample(others[listed + stored :] + tarred, len(order) - listed - stored)
    for k, one in enumerate(rest):
        tar, place = divmod(k, settings.pairs_per_tar)
        found.append(replace(one, file=f"{tar:05}.tar", key=f"{tar:05}{place:04}"))
    return found


def caption_lexicon() -> pa.Table:
    """The concepts of scenes: colours, shapes, and shapes of a colour, one or many."""
    words = [word for shape in SHAPES for word in SAME_MEANING.get(shape, (shape,))]
    shapes = list(dict.fromkeys([*words, *(PLURALS.get(word, f"{word}s") for word in words)]))
    phrases = [f"{colour} {shape}" for colour, shape in product(COLOURS, shapes)]
    return from_words([*COLOURS, *shapes, *phrases], "en", "scenes")


def _count(part: float, pairs: int, settings: CaptionCorpusSettings) -> int:
    return max(settings.least, round(part * pairs)) if part else 0


@dataclass
class _Maker:
    """Makes planned pairs; each from its own seed, so that none depends on the order."""

    seed: int
    settings: CaptionCorpusSettings
    plan: dict[int, Planned]
    weights: list[float] = field(init=False)

    def __post_init__(self) -> None:
        ranks = product(range(1, len(COLOURS) + 1), range(1, len(SHAPES) + 1))
        shares = dict(zip(ALL, ((a * b) ** -self.settings.skew for a, b in ranks), strict=True))
        self.weights = [shares[pair] for pair in TRAINED]

    def entries(self, plan: Sequence[Planned], truths: list[PairTruth]) -> Iterator[Entry]:
        """The entries of one file, in order; their truth is added to `truths` on the way."""
        for one in plan:
            chance = random.Random(f"{self.seed}\x1fentry\x1f{one.number}")
            image, extension = self.file(one)
            caption = self.caption(one)
            if one.fault == "missing_image":
                image_or_none: bytes | None = None
            else:
                image_or_none = image
            url = f"https://pictures.example.org/{one.number:08}.{extension}"
            entry = Entry(one.key, image_or_none, extension, caption, url, chance.choice(LICENCES))
            yield entry
            if one.fault == "duplicate_key":
                other = replace(one, number=one.number + 1_000_000, fault=None)
                yield replace(entry, image=self.file(other)[0], caption=self.caption(other))
            truths.append(
                PairTruth(
                    file=one.file,
                    key=one.key,
                    fault=one.fault,
                    image=f"{one.scene_number:06}",
                    unusual=one.unusual,
                    held_out=one.held_out,
                    caption=caption if one.fault != "megabyte" else None,
                )
            )

    def scene(self, one: Planned) -> tuple[Scene, random.Random]:
        """What its image shows, and the draws that the image goes on with."""
        original = self.plan.get(one.scene_number, one)
        draw = random.Random(f"{self.seed}\x1fscene\x1f{one.scene_number}")
        combinations = HELD_OUT if original.held_out else self._weighted(draw)
        if original.fault in CHANGES:
            return self._with_contrast(CHANGES[original.fault], draw)[0], draw
        return draw_scene(draw, combinations), draw

    def pixels(self, one: Planned) -> Pixels:
        """The image as it is before its file is made."""
        scene, draw = self.scene(one)
        return scene_pixels(scene, draw, self.settings.sides)

    def file(self, one: Planned) -> tuple[bytes, str]:
        """The bytes of its image, and the extension of their file's name."""
        pixels = self.pixels(one)
        chance = random.Random(f"{self.seed}\x1ffile\x1f{one.number}")
        if one.fault in IMAGE_FAULTS:
            return spoiled(pixels, cast(ImageFault, one.fault), chance)
        if one.unusual:
            return unusual(pixels, one.unusual, chance)
        if one.fault in COPIES:
            quality = {"jpeg_50": 50, "jpeg_30": 30}.get(cast(str, one.fault), 90)
            return encoded(copied(pixels, cast(Copy, one.fault), chance), "jpeg", quality), "jpg"
        if one.original is not None:
            chance = random.Random(f"{self.seed}\x1ffile\x1f{one.original}")
        format_, extension = chance.choice(FORMATS)
        return encoded(pixels, format_), extension

    def caption(self, one: Planned) -> str | None:
        """Its text: true, or false as its fault says."""
        scene, _ = self.scene(one)
        draw = random.Random(f"{self.seed}\x1fcaption\x1f{one.number}")
        if one.fault == "mismatched":
            return self._of_another(scene, draw).text
        if one.fault in CHANGES:
            contrast = random.Random(f"{self.seed}\x1fscene\x1f{one.number}")
            return write_caption(self._with_contrast(CHANGES[one.fault], contrast)[1], draw).text
        if one.fault == "exact_duplicate" and one.original is not None:
            return self.caption(self.plan[one.original])
        if one.fault in COPIES and one.original is not None and draw.random() < 0.5:
            return self.caption(self.plan[one.original])
        text = write_caption(scene, draw).text
        if one.fault is None and one.original is not None:
            text = self._reworded(one, text, draw)
        if one.fault in TEXT_FAULTS:
            return faulty_caption(text, cast(TextFault, one.fault), draw)
        return None if one.fault == "missing_caption" else text

    def _reworded(self, one: Planned, text: str, draw: random.Random) -> str:
        """A caption of the same image that no pair with it has."""
        scene, _ = self.scene(one)
        earlier = [
            self.caption(other)
            for number, other in self.plan.items()
            if number < one.number and not other.fault and other.scene_number == one.scene_number
        ]
        while text in earlier:
            text = write_caption(scene, draw).text
        return text

    def _of_another(self, scene: Scene, draw: random.Random) -> Caption:
        while True:
            other = draw_scene(draw, HELD_OUT)
            caption = write_caption(other, draw)
            if not caption.holds(scene):
                return caption

    def _with_contrast(self, change: Change, draw: random.Random) -> tuple[Scene, Scene]:
        """A scene that this can be changed in, and the changed one."""
        while True:
            scene = draw_scene(draw, HELD_OUT)
            other = changed(scene, change, draw, ALL)
            if other is not None and not Caption("", scene).holds(other):
                return scene, other

    def _weighted(self, draw: random.Random) -> list[Combination]:
        """Three combinations, the common ones more often."""
        found: list[Combination] = []
        while len(found) < 3:
            (pair,) = draw.choices(TRAINED, self.weights)
            found += [pair] if pair not in found else []
        return found
