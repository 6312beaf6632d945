"""A corpus of interleaved documents whose truth is known: images of scenes, and the sentences that are true of them.

In each document images and sentences are shuffled, among them images that no text tells of and texts that tell of
no image. Some nodes, and some documents, have a planted fault. A seed gives the same bytes each time.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from curation.errors import SourceError
from curation.proving.document_files import (
    Node,
    PlantedImage,
    Written,
    write_mmc4,
    write_obelics,
    write_obelics_rows,
    write_page,
)
from curation.proving.document_truth import (
    DOCUMENT_FAULTS,
    IMAGE_NODE_FAULTS,
    TEXT_NODE_FAULTS,
    DocumentFault,
    DocumentsTruth,
    DocumentTruth,
    ImageNodeFault,
    NodeTruth,
    TextNodeFault,
    read_document_truth,
    write_document_truth,
)
from curation.proving.scene_files import ImageFault, encoded, scene_pixels, spoiled
from curation.proving.scenes import ALL, Scene, draw_scene, write_caption

SOURCE = "documents"
"""The folder of the source, below the corpus."""

MMC4, OBELICS, OBELICS_ROWS = "mmc4.jsonl", "obelics.jsonl", "obelics.parquet"

FILLERS = (
    "These drawings were made for a lesson in the first year of school.",
    "Our teacher keeps the best of them in a folder near the window.",
    "It took the whole morning until everybody had finished the task.",
    "Parents may come and look at them on the last day of the month.",
    "Nobody was told what to draw, and everyone chose for themselves.",
    "Some of the paper came from the old printing shop around the corner.",
    "We hope to show more of this work in the town hall next spring.",
    "The exhibition was visited by more people than we had expected.",
    "Paint dries slowly in winter, so we left everything on the floor.",
    "A short report about the project was printed in the local newspaper.",
)
"""Texts that tell of no image, in words that the tiny SigLIP never saw."""

NOISY = (
    "read it here today: https://cdn.example.org/{0}",
    "the key of it is {0}{0} and no more",
    "click <b id='{0}'>&nbsp;</b> to see it all",
)
"""With room for something that looks like data."""
PERSONAL = (
    "Please write to maria.lindner{0}@example.org or call +44 20 7946 0{1} before the end of the week.",
    "The card number 4111 1111 1111 1111 was used by peter{0}.miller@example.com in the office.",
    "Ask for Anna at (212) 555-0{1}, or send her a message to anna.b{0}@example.net instead.",
)
SPOILED: dict[ImageNodeFault, tuple[ImageFault, ...]] = {
    "corrupt": ("truncated_file", "not_an_image"),
    "low_resolution": ("tiny",),
    "blank": ("blank",),
    "blurred": ("blurred",),
    "extreme_aspect": ("extreme_aspect",),
}
BOILERPLATE = (
    "Click here to enlarge the image",
    "Subscribe to our newsletter, follow us on facebook",
    "All rights reserved, terms of use, privacy policy",
)


@dataclass(frozen=True)
class DocumentCorpusSettings:
    """What a corpus holds. Shares are of its documents; at least `least` of every kind of fault are planted."""

    document_fault_share: float = 0.02
    image_fault_share: float = 0.05
    text_fault_share: float = 0.05
    """Of each kind of fault, documents that have one such node."""
    least: int = 3
    images: tuple[int, int] = (2, 4)
    """Images with a text, from and to."""
    alone_share: float = 0.4
    """Documents with an image that no text tells of."""
    filler_share: float = 0.5
    """Documents with a text that tells of no image, besides those whose fault needs one."""
    min_characters: int = 260
    max_characters: int = 390
    """Of a document's texts. From 400 on repetition is judged by shares of n-grams; scenes are told in few words."""
    too_many_images: int = 40
    sides: tuple[int, int] = (224, 352)
    """Pixels, from and to."""
    keep_fraction: float = 0.26
    """What density pruning is set to keep."""
    obelics_share: float = 0.2
    parquet_share: float = 0.2
    page_share: float = 0.25


DEFAULTS = DocumentCorpusSettings()


@dataclass(frozen=True)
class Planned:
    """A document to be made. `number` seeds it, save for a duplicate, which is its original once more."""

    number: int
    fault: DocumentFault | None = None
    original: int | None = None
    image_fault: ImageNodeFault | None = None
    text_fault: TextNodeFault | None = None


def make_document_corpus(
    folder: Path | str, *, seed: int = 0, documents: int = 200, settings: DocumentCorpusSettings = DEFAULTS
) -> DocumentsTruth:
    """Write the source and the truth to a folder.

    Raises:
        SourceError: the folder holds files already.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SourceError(f"{folder} is not empty; a corpus requires a folder of its own")
    plan = planned(seed, documents, settings)
    maker = _Maker(seed, settings, {one.number: one for one in plan})
    truths: list[DocumentTruth] = []
    for file, several in placed(plan, seed, settings).items():
        path = folder / SOURCE / file
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [maker.make(one, text_last=path.name == MMC4) for one in several]
        first = 1 if path.suffix == ".jsonl" else 0
        if path.suffix == ".html":
            write_page(path, made[0][0])
        else:
            _writer(path)(path, [written for written, _ in made])
        for number, (one, (_, nodes)) in enumerate(zip(several, made, strict=True), first):
            content = f"{one.number if one.original is None else one.original:06}"
            said = nodes if one.fault is None else ()
            truths.append(DocumentTruth(file=file, number=number, fault=one.fault, content=content, nodes=said))
    about = {"seed": seed, "documents": documents, "settings": asdict(settings)}
    truth = DocumentsTruth(documents=tuple(truths), about={**about, "keep_fraction": settings.keep_fraction})
    write_document_truth(truth, folder)
    return truth


def recipe_settings(folder: Path) -> list[str]:
    """What to set in a recipe for a corpus in this folder."""
    settings = [f"source.path={folder / SOURCE}"]
    if (share := read_document_truth(folder).about.get("keep_fraction")) is not None:
        settings.append(f"density.keep_fraction={share}")
    return settings


def planned(seed: int, documents: int, settings: DocumentCorpusSettings) -> list[Planned]:
    """What is to be made. Faults of nodes go to good documents, one of each sort to a document at most."""
    chance = random.Random(f"{seed}\x1fplan")
    faults = [
        fault for fault in DOCUMENT_FAULTS for _ in range(_count(settings.document_fault_share, documents, settings))
    ]
    image_faults: list[ImageNodeFault | None] = [
        fault for fault in IMAGE_NODE_FAULTS for _ in range(_count(settings.image_fault_share, documents, settings))
    ]
    text_faults: list[TextNodeFault | None] = [
        fault for fault in TEXT_NODE_FAULTS for _ in range(_count(settings.text_fault_share, documents, settings))
    ]
    good = max(documents - len(faults), len(image_faults), len(text_faults))
    for several in (image_faults, text_faults):
        several += [None] * (good - len(several))
        chance.shuffle(several)
    plan = [
        Planned(number, image_fault=image_fault, text_fault=text_fault)
        for number, (image_fault, text_fault) in enumerate(zip(image_faults, text_faults, strict=True))
    ]
    # Copies and cut lines need a list, so their originals must be able to stand in one.
    originals = iter(chance.sample(range(good), good))
    for number, fault in enumerate(faults, good):
        plan.append(Planned(number, fault, next(originals) if fault == "duplicate" else None))
    return plan


def placed(plan: Sequence[Planned], seed: int, settings: DocumentCorpusSettings) -> dict[str, list[Planned]]:
    """Files and what is in them, in order. A duplicate stands in the file of its original, a cut line in a list."""
    order = random.Random(f"{seed}\x1forder").sample(list(plan), len(plan))
    free = [one for one in order if one.fault not in ("duplicate", "unreadable")]
    copied = {one.original for one in plan if one.fault == "duplicate"}
    listed: list[Planned] = [one for one in free if one.number in copied] + [
        one for one in order if one.fault == "unreadable"
    ]
    # MMC4 has no place for an image without a text behind it.
    others = sorted((one for one in free if one.number not in copied), key=lambda one: one.fault != "no_text")
    files: dict[str, list[Planned]] = {}
    counts = [round(part * len(plan)) for part in (settings.obelics_share, settings.parquet_share)]
    files[OBELICS] = others[: counts[0]]
    files[OBELICS_ROWS] = others[counts[0] : sum(counts)]
    pages = round(settings.page_share * len(plan))
    for one in others[sum(counts) : sum(counts) + pages]:
        files[f"pages/{one.number:06}.html"] = [one]
    rest = [*listed, *others[sum(counts) + pages :], *(one for one in order if one.fault == "duplicate")]
    files[MMC4] = random.Random(f"{seed}\x1flist").sample(rest, len(rest))
    return {file: several for file, several in files.items() if several}


def _count(part: float, documents: int, settings: DocumentCorpusSettings) -> int:
    return max(settings.least, round(part * documents))


def _writer(path: Path) -> Callable[[Path, Sequence[Written]], None]:
    if path.suffix == ".parquet":
        return write_obelics_rows
    return write_mmc4 if path.name == MMC4 else write_obelics


@dataclass(frozen=True)
class _Item:
    """A node to be, and what binds an image to its text: the same number."""

    node: Node
    fault: ImageNodeFault | TextNodeFault | None = None
    pair: int | None = None


@dataclass(frozen=True)
class _Maker:
    """Makes planned documents; each from its own seed, so that none depends on the others."""

    seed: int
    settings: DocumentCorpusSettings
    plan: dict[int, Planned]

    def make(self, one: Planned, *, text_last: bool) -> tuple[Written, tuple[NodeTruth, ...]]:
        """A document and the truth of its nodes.

        Args:
            text_last: it goes to a list in which an image stands before a text.
        """
        if one.original is not None:
            return self.make(self.plan[one.original], text_last=text_last)
        chance = random.Random(f"{self.seed}\x1fdocument\x1f{one.number}")
        items = self.faulty(one, chance) if one.fault else self.good(one, chance)
        items = chance.sample(items, len(items))
        texts = [place for place, item in enumerate(items) if isinstance(item.node, str)]
        if text_last and texts:
            items.append(items.pop(texts[-1]))
        at = {item.pair: place for place, item in enumerate(items) if isinstance(item.node, str)}
        nodes = tuple(
            NodeTruth(kind="text", fault=item.fault)
            if isinstance(item.node, str)
            else NodeTruth(kind="image", fault=item.fault, partner=None if item.pair is None else at[item.pair])
            for item in items
        )
        url = f"https://pages.example.org/{one.number:06}"
        return Written(url, tuple(item.node for item in items), broken=one.fault == "unreadable"), nodes

    def good(self, one: Planned, chance: random.Random) -> list[_Item]:
        """Images with their sentences, and what stands beside them."""
        most = self.settings.max_characters
        wanted = chance.randint(*self.settings.images)
        alone = chance.random() < self.settings.alone_share
        fillers = chance.sample(FILLERS, len(FILLERS))
        texts = [fillers.pop()] if chance.random() < self.settings.filler_share else []
        items = []
        if one.text_fault is not None:
            items.append(_Item(faulty_text(one.text_fault, chance), one.text_fault))
        scenes = self.scenes(wanted + 2, chance)
        used = sum(len(item.node) for item in items if isinstance(item.node, str)) + sum(map(len, texts))
        for number in range(wanted):
            sentence = write_caption(scenes[number], chance).text.capitalize() + "."
            if number >= self.settings.images[0] and used + len(sentence) > most:
                break
            used += len(sentence)
            image = self.image(scenes[number], f"{one.number:06}-{number}", chance)
            items += [_Item(sentence, pair=number), _Item(image, pair=number)]
        while used < self.settings.min_characters:
            texts.append(fillers.pop())
            used += len(texts[-1])
        items += [_Item(text) for text in texts]
        if alone:
            items.append(_Item(self.image(scenes[-1], f"{one.number:06}-alone", chance)))
        if one.image_fault is not None:
            image = self.image(scenes[-2], f"{one.number:06}-fault", chance, one.image_fault)
            items.append(_Item(image, one.image_fault))
        return items

    def faulty(self, one: Planned, chance: random.Random) -> list[_Item]:
        """The nodes of a document that is to be left out as a whole."""
        several = self.settings.too_many_images if one.fault == "too_complex" else 2
        scenes = self.scenes(2, chance)
        images: list[Node] = [
            self.image(scenes[k % 2], f"{one.number:06}-{k}", chance)
            for k in range(several if one.fault != "no_image" else 0)
        ]
        texts: list[Node] = [f"{write_caption(scene, chance).text.capitalize()}." for scene in scenes]
        match one.fault:
            case "noisy":
                texts += [faulty_text("noisy_text", chance) for _ in range(6)]
            case "sensitive":
                texts += [faulty_text("personal_data", chance) for _ in range(8)]
            case "no_text":
                texts = []
        return [_Item(node) for node in (*images, *texts)]

    def scenes(self, count: int, chance: random.Random) -> list[Scene]:
        """Scenes of which no two have a thing of one colour and shape, or the same colours, in common."""
        found: list[Scene] = []
        while len(found) < count:
            scene = draw_scene(chance, ALL, (3, 1, 0))
            if not any(_alike(scene, other) for other in found):
                found.append(scene)
        return found

    def image(
        self, scene: Scene, name: str, chance: random.Random, fault: ImageNodeFault | None = None
    ) -> PlantedImage:
        """A file of a scene, or of what a fault left of it."""
        pixels = scene_pixels(scene, chance, self.settings.sides)
        if fault is None:
            return PlantedImage(f"{name}.jpg", encoded(pixels, "jpeg"))
        if fault == "missing_file":
            return PlantedImage(f"{name}.jpg", None)
        data, extension = spoiled(pixels, chance.choice(SPOILED[fault]), chance)
        return PlantedImage(f"{name}.{extension}", data)


def faulty_text(fault: TextNodeFault, chance: random.Random) -> str:
    """A text that nobody would train on."""
    match fault:
        case "noisy_text":
            return chance.choice(NOISY).format(f"{chance.getrandbits(64):016x}")
        case "personal_data":
            return chance.choice(PERSONAL).format(chance.randrange(100), chance.randrange(100, 1000))
        case "boilerplate_text":
            return chance.choice(BOILERPLATE)


def _alike(scene: Scene, other: Scene) -> bool:
    mine, theirs = ({(thing.colour, thing.shape) for thing in one.things} for one in (scene, other))
    colours, others = ({thing.colour for thing in one.things} for one in (scene, other))
    return bool(mine & theirs) or colours == others
