"""Rendered scenes with captions that are true: a few plain shapes on a plain ground, drawn from a seed.

A scene says what is to be seen, a caption says it in words of a small grammar, `render` draws it. Some pairs of colour
and shape are held out (`HELD_OUT`): no training scene has them, so that scenes made of them alone tell whether colours
and shapes were learnt apart. A changed scene (`changed`) gives a hard negative: the caption of the one is false of the
other in one point.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Colour = tuple[int, int, int]
Combination = tuple[str, str]
"""A colour and a shape."""
Change = Literal["colour", "shape", "size", "count", "background", "exchange"]

COLOURS: dict[str, Colour] = {
    "red": (214, 40, 40),
    "green": (44, 160, 60),
    "blue": (40, 80, 210),
    "yellow": (245, 215, 40),
    "orange": (245, 135, 25),
    "purple": (130, 50, 170),
    "pink": (245, 150, 190),
    "brown": (120, 75, 40),
}
BACKGROUNDS: dict[str, Colour] = {
    "white": (245, 245, 245),
    "black": (18, 18, 18),
    "grey": (128, 128, 128),
    "cyan": (150, 225, 230),
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "crescent")
RADII = {"small": (0.10, 0.125), "large": (0.18, 0.22)}
"""Radius of the circle around a shape, as a share of the image's side, from and to."""

HELD_OUT: tuple[Combination, ...] = tuple((c, SHAPES[(3 * i + 2) % len(SHAPES)]) for i, c in enumerate(COLOURS))
"""Never trained on: each colour and each shape once."""
ALL: tuple[Combination, ...] = tuple(product(COLOURS, SHAPES))
TRAINED: tuple[Combination, ...] = tuple(pair for pair in ALL if pair not in HELD_OUT)

NUMBERS = ("a", "two", "three")
MAX_OBJECTS = len(NUMBERS)
SAME_MEANING = {
    "large": ("large", "large", "big"),
    "small": ("small", "small", "little"),
    "circle": ("circle", "circle", "disc"),
}
PLURALS = {"cross": "crosses"}
OPENINGS = ("", "", "a picture of ", "an image of ", "a drawing of ", "this shows ")
GROUNDS = (" on a {} background", " on a {} background", " on {}", " in front of a {} background", " over {}")


@dataclass(frozen=True)
class Thing:
    """One, two or three alike objects."""

    colour: str
    shape: str
    size: str
    count: int = 1


@dataclass(frozen=True)
class Scene:
    """At most three objects, no two things of one colour and shape, on a plain ground."""

    things: tuple[Thing, ...]
    background: str


@dataclass(frozen=True)
class Caption:
    """A sentence that names every object of its scene, and what else it says."""

    text: str
    scene: Scene
    says_sizes: bool = True
    says_background: bool = True

    def holds(self, scene: Scene) -> bool:
        """Whether the sentence is true of a scene, and leaves out none of its objects."""
        return self.claim() == replace(self, scene=scene).claim()

    def claim(self) -> tuple[frozenset[Thing], str]:
        """What is said, in a form that can be compared: unsaid sizes and grounds are empty."""
        things = self.scene.things if self.says_sizes else tuple(replace(t, size="") for t in self.scene.things)
        return frozenset(things), self.scene.background if self.says_background else ""


def draw_scene(
    draw: random.Random,
    combinations: Sequence[Combination] = TRAINED,
    thing_weights: tuple[float, float, float] = (9, 8, 3),
) -> Scene:
    """A scene of one, two or three things, as often as the weights say, of these colours and shapes."""
    kinds = draw.choices((1, 2, 3), weights=thing_weights)[0]
    chosen = draw.sample(list(combinations), kinds)
    counts = [1] * kinds
    spare = draw.choices(range(MAX_OBJECTS - kinds + 1), weights=(7, 2, 2)[: MAX_OBJECTS - kinds + 1])[0]
    counts[draw.randrange(kinds)] += spare
    sizes = [draw.choice(tuple(RADII)) for _ in chosen]
    things = [Thing(*pair, size, count) for pair, size, count in zip(chosen, sizes, counts, strict=True)]
    return Scene(tuple(things), draw.choice(tuple(BACKGROUNDS)))


def changed(
    scene: Scene, change: Change, draw: random.Random, combinations: Sequence[Combination] = TRAINED
) -> Scene | None:
    """The scene with one point altered, its colours and shapes still among `combinations`; None where that cannot be.

    `exchange` gives two things each other's colours: the same words, bound another way.
    """
    if change == "background":
        grounds = [name for name in BACKGROUNDS if name != scene.background]
        return replace(scene, background=draw.choice(grounds))
    others = [
        replace(scene, things=things)
        for things in _altered(scene.things, change)
        if all((t.colour, t.shape) in combinations for t in things)
        and len({(t.colour, t.shape) for t in things}) == len(things)
        and sum(t.count for t in things) <= MAX_OBJECTS
    ]
    return draw.choice(others) if others else None


def _altered(things: tuple[Thing, ...], change: Change) -> list[tuple[Thing, ...]]:
    """Every way to alter one thing, or to exchange the colours of two of unlike colour and shape."""
    if change == "exchange":
        return [
            tuple(replace(t, colour=things[{a: b, b: a}.get(k, k)].colour) for k, t in enumerate(things))
            for a in range(len(things))
            for b in range(a)
            if things[a].colour != things[b].colour and things[a].shape != things[b].shape
        ]
    return [
        (*things[:k], other, *things[k + 1 :])
        for k, thing in enumerate(things)
        for other in _other_things(thing, change)
        if other != thing
    ]


def _other_things(thing: Thing, change: Change) -> list[Thing]:
    match change:
        case "colour":
            return [replace(thing, colour=colour) for colour in COLOURS]
        case "shape":
            return [replace(thing, shape=shape) for shape in SHAPES]
        case "size":
            return [replace(thing, size=size) for size in RADII]
        case "count":
            return [replace(thing, count=count + 1) for count in range(MAX_OBJECTS)]
    raise ValueError(f"{change} changes no single thing")


def write_caption(
    scene: Scene, draw: random.Random, *, says_sizes: bool = True, says_background: bool = True
) -> Caption:
    """One of the many sentences that describe a scene. The same draws word a changed scene alike."""
    order = draw.sample(range(len(scene.things)), len(scene.things))
    phrases = [_phrase(scene.things[k], draw, says_sizes) for k in order]
    last = draw.choice((" and ", " and ", " with ")) if len(phrases) == 2 else " and "
    listed = last.join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
    opening, ground = draw.choice(OPENINGS), draw.choice(GROUNDS)
    told = ground.format(scene.background) if says_background else ""
    return Caption(f"{opening}{listed}{told}", scene, says_sizes, says_background)


def _phrase(thing: Thing, draw: random.Random, says_size: bool) -> str:
    size = draw.choice(SAME_MEANING[thing.size])
    shape = draw.choice(SAME_MEANING.get(thing.shape, (thing.shape,)))
    if thing.count > 1:
        shape = PLURALS.get(shape, f"{shape}s")
    words = [size, thing.colour, shape] if says_size else [thing.colour, shape]
    number = NUMBERS[thing.count - 1]
    if number == "a" and words[0][0] in "aeiou":
        number = "an"
    return " ".join([number, *words])


def grammar_words() -> tuple[str, ...]:
    """Every word that a caption may have, sorted."""
    texts = [*NUMBERS, "an", "and", "with", *COLOURS, *BACKGROUNDS, *OPENINGS, *GROUNDS]
    shapes = [word for shape in SHAPES for word in SAME_MEANING.get(shape, (shape,))]
    texts += [*shapes, *(PLURALS.get(shape, f"{shape}s") for shape in shapes)]
    texts += [word for size in RADII for word in SAME_MEANING[size]]
    return tuple(sorted({word for text in texts for word in text.format("").split()}))


@dataclass(frozen=True)
class Contrast:
    """An image, a caption that is true of it, and one that is false."""

    image: NDArray[np.uint8]
    true: Caption
    false: Caption


def contrasts(
    seed: str,
    count: int,
    change: Change | None = None,
    combinations: Sequence[Combination] = HELD_OUT,
    pixels: int = 64,
) -> Iterator[Contrast]:
    """Images with a true and a false caption: that of any other scene, or of the same scene with one point changed.

    Images are of `combinations`; a changed scene may be of any. A scene in which that point cannot be changed is
    passed over. Item k of a seed is the same whatever `count` is.
    """
    found, k = 0, 0
    while found < count:
        draw = random.Random(f"{seed}\x1f{k}")
        k += 1
        scene = draw_scene(draw, combinations)
        wording = draw.random()
        true = write_caption(scene, random.Random(wording))
        other = changed(scene, change, draw, ALL) if change else draw_scene(draw, combinations)
        if other is not None and not true.holds(other):
            yield Contrast(render(scene, draw, pixels), true, write_caption(other, random.Random(wording)))
            found += 1


def render(scene: Scene, draw: random.Random, pixels: int = 64) -> NDArray[np.uint8]:
    """An image of a scene, RGB [pixels, pixels, 3]: places, angles and shades by chance, no two objects touching."""
    from PIL import Image, ImageDraw

    side = 2 * pixels  # drawn at twice the size, for smooth edges
    ground = _shade(BACKGROUNDS[scene.background], 10, draw)
    image = Image.new("RGB", (side, side), ground)
    canvas = ImageDraw.Draw(image)
    objects = [thing for thing in scene.things for _ in range(thing.count)]
    for thing, (x, y, radius) in zip(objects, _places([thing.size for thing in objects], draw), strict=True):
        angle = math.radians(draw.uniform(-12, 12))
        shade = _shade(COLOURS[thing.colour], 16, draw)
        _draw_shape(canvas, thing.shape, (x * side, y * side), radius * side, angle, shade, ground)
    return np.asarray(image.reduce(2))


def _places(sizes: Sequence[str], draw: random.Random) -> list[tuple[float, float, float]]:
    """Centre and radius of each object as shares of the side; radii shrink in the rare case that nothing fits."""
    scale = 1.0
    while True:
        places: list[tuple[float, float, float]] = []
        radii = [scale * draw.uniform(*RADII[size]) for size in sizes]
        for radius in radii:
            for _ in range(30):
                x, y = draw.uniform(radius, 1 - radius), draw.uniform(radius, 1 - radius)
                if all(math.hypot(x - u, y - v) > radius + r + 0.01 for u, v, r in places):
                    places.append((x, y, radius))
                    break
        if len(places) == len(sizes):
            return places
        scale *= 0.98


def _shade(colour: Colour, spread: int, draw: random.Random) -> Colour:
    r, g, b = (min(255, max(0, value + draw.randint(-spread, spread))) for value in colour)
    return r, g, b


def _draw_shape(
    canvas: "ImageDraw",
    shape: str,
    centre: tuple[float, float],
    radius: float,
    angle: float,
    colour: Colour,
    ground: Colour,
) -> None:
    """One shape inside the circle of this centre and radius, in pixels; holes show the ground."""

    def disc(part: float, aside: float, fill: Colour) -> None:
        x, y = centre[0] + aside * radius * math.cos(angle), centre[1] + aside * radius * math.sin(angle)
        canvas.ellipse((x - part * radius, y - part * radius, x + part * radius, y + part * radius), fill=fill)

    if shape in ("circle", "ring", "crescent"):
        disc(1.0, 0.0, colour)
        if shape != "circle":
            disc(*((0.58, 0.0) if shape == "ring" else (0.82, 0.5)), ground)
        return
    points = [
        (
            centre[0] + part * radius * math.cos(turn + angle),
            centre[1] + part * radius * math.sin(turn + angle),
        )
        for part, turn in _outline(shape)
    ]
    canvas.polygon(points, fill=colour)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape of radius 1, each as its distance from the centre and its angle in radians."""
    up = -math.pi / 2
    match shape:
        case "square":
            return [(1.0, math.pi / 4 + k * math.pi / 2) for k in range(4)]
        case "triangle":
            return [(1.0, up + k * math.tau / 3) for k in range(3)]
        case "diamond":
            return [((1.0, 0.6)[k % 2], up + k * math.pi / 2) for k in range(4)]
        case "star":
            return [((1.0, 0.42)[k % 2], up + k * math.pi / 5) for k in range(10)]
        case "cross":
            arm, inner = math.atan2(0.3, 0.95), 0.3 * math.sqrt(2)
            corner = [(1.0, -arm), (1.0, arm), (inner, math.pi / 4)]
            return [(part, turn + k * math.pi / 2) for k in range(4) for part, turn in corner]
    raise ValueError(f"{shape} is not a shape; shapes are {', '.join(SHAPES)}")
