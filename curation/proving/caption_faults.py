"""What is wrong with a caption that nobody would train on, in words."""

import random
from typing import Literal, get_args

TextFault = Literal[
    "empty", "null", "too_short", "repeated", "mixed_language", "boilerplate", "truncated_caption", "megabyte"
]
TEXT_FAULTS: tuple[TextFault, ...] = get_args(TextFault)

CLAUSES = (
    "Auf diesem Bild sieht man mehrere Formen, die verschiedene Farben haben",
    "Dans cette image, on voit plusieurs formes qui sont de toutes les couleurs",
)
CHINESE = "这张图片里有一个很大的红色圆形旁边还有两个小的蓝色三角形和白色的背景"
RUSSIAN = (
    "на белом фоне нарисованы большие красные круги маленький синий квадрат и две очень яркие жёлтые звезды над ним"
)
"""What is put behind a caption: a clause, or as many characters or words as the caption has words."""

BOILERPLATE = (
    "IMG_20190412_113207.jpg",
    "https://shop.example.com/products/4711?size=large",
    "click here to enlarge the image",
    "<img src='shape.png' alt='shape'> image not available",
    "stock photo, royalty free vector illustration, free download",
    "featured image",
    "12 April 2019, 11:32",
)
SHORT = ("shape", "red", "a dot", "so.", "1 2")
MEGABYTE = 1 << 20


def faulty_caption(text: str, fault: TextFault, draw: random.Random) -> str | None:
    """The text with this fault."""
    match fault:
        case "empty":
            return draw.choice(("", " ", "\n\t", "\u00a0"))
        case "null":
            return None
        case "too_short":
            return draw.choice(SHORT)
        case "repeated":
            words = text.split()
            loop = words[: draw.randint(2, len(words))]
            return " ".join([text, *loop * (len(words) // len(loop) + draw.randint(3, 6))])
        case "mixed_language":
            count = len(text.split())
            chinese, russian = CHINESE[:count], " ".join(RUSSIAN.split()[:count])
            return draw.choice((*(f"{text}. {clause}" for clause in CLAUSES), f"{text} {chinese}", f"{text} {russian}"))
        case "boilerplate":
            return draw.choice(BOILERPLATE)
        case "truncated_caption":
            words = text.split()
            end = draw.choice((" and the", " with a picture of the", "...", "…"))
            return " ".join(words[: max(3, draw.randrange(len(words)))]) + end
        case "megabyte":
            return " ".join([text] * (MEGABYTE // (len(text) + 1) + 1))
