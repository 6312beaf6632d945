"""A contact sheet: some images of every verdict and reason on one page, to look over what a run kept and dropped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import duckdb
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from curation.audit.twins import DISTANCE, TWIN, twin_columns
from curation.audit.views import answer, columns_of
from curation.errors import EngineMissing, MediaError, SourceError
from curation.hashing import draw
from curation.media.images import decode_image
from curation.media.places import read_place
from curation.sql import identifier
from curation.store.versions import Version

TILE = 132
TEXT_LINES = 3
LINE = 13
HEADING = 22
MARGIN = 8
MAX_PIXELS = 64_000_000
FONTS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "SourceHanSansSC-Regular.otf", "DroidSansFallbackFull.ttf"),
    *("wqy-zenhei.ttc", "wqy-microhei.ttc", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc", "DejaVuSans.ttf"),
)
"""Of this machine, in this order: those that know most scripts. The one that comes with Pillow knows Latin letters."""
LAST_SEEN = "select * from images qualify row_number() over (partition by row_id order by number desc) = 1"
"""Every row that has an image, as the last node that saw it has it."""


@dataclass(frozen=True)
class Group:
    """Images of one verdict and reason.

    Attributes:
        count: how many there are; `rows` are some of them, drawn by their ids. A duplicate has the row that stays in
            its place as its `twin`.
    """

    verdict: str
    reason: str
    count: int
    rows: Sequence[dict[str, Any]]

    @property
    def heading(self) -> str:
        return f"{self.verdict}{': ' + self.reason if self.reason else ''} ({self.count})"


def groups(views: duckdb.DuckDBPyConnection, version: Version, per_reason: int) -> list[Group]:
    """Every verdict and reason that rows with an image met, kept ones first, then by number.

    Raises:
        SourceError: the version has no images.
    """
    nodes = [node.name for node in version.nodes if node.counts and _has_place(views, node.name)]
    if not nodes:
        raise SourceError(f"version {version.name} has no images to show")
    # Whoever was kept by the last node that saw images was kept; a verdict before it is the only one of its row.
    images = " union all by name ".join(
        f"select row_id, uri, place, image_hash, {_text_of(views, node)} as text, {_twin_of(views, node)}, "
        f"{number} as number from {identifier(node)} where place is not null"
        for number, node in enumerate(nodes)
    )
    question = f"""
        with images as ({images}),
        last as ({LAST_SEEN}),
        decided as (
            select row_id, verdict, reason, value, threshold, error from ledger where verdict <> 'kept'
            union all select row_id, 'kept', '', null, null, null from {identifier(nodes[-1])} where verdict = 'kept'
        )
        select d.verdict, coalesce(d.reason, '') as reason, d.value, d.threshold, d.error, p.* exclude (number)
        from decided d join last p using (row_id)
    """
    # Who is shown is drawn from ids alone: of a million rows, texts and places are not looked at.
    ids: dict[tuple[str, str], list[str]] = {}
    for row in answer(views, f"select row_id, verdict, reason from ({question})").to_pylist():
        ids.setdefault((row["verdict"], row["reason"]), []).append(row["row_id"])
    drawn = {key: sorted(found, key=lambda row_id: draw(0, row_id, "sheet"))[:per_reason] for key, found in ids.items()}
    wanted = pa.table({"row_id": pa.array([row_id for some in drawn.values() for row_id in some], pa.string())})
    views.register("shown_on_the_sheet", wanted)
    shown = answer(views, f"from ({question}) semi join shown_on_the_sheet using (row_id)").to_pylist()
    views.unregister("shown_on_the_sheet")
    twins = _rows(views, f"with images as ({images}) {LAST_SEEN}", [row["duplicate_of"] for row in shown])
    for row in shown:
        row["twin"] = twins.get(row["duplicate_of"])
    rows = {(row["row_id"], row["verdict"], row["reason"]): row for row in shown}
    order = sorted(ids, key=lambda key: (key[0] != "kept", -len(ids[key]), key))
    return [Group(*key, len(ids[key]), [rows[(row_id, *key)] for row_id in drawn[key]]) for key in order]


def contact_sheet(shown: Sequence[Group], columns: int) -> bytes:
    """The groups as a PNG, a row or more of images for each, with texts and what decided below them."""
    font, head = _font(11), _font(15)
    step, height = TILE + MARGIN, TILE + TEXT_LINES * LINE + MARGIN
    rows = [-(-len(_beside_twins(group.rows)) // columns) for group in shown]
    size = (columns * step + MARGIN, sum(HEADING + count * height for count in rows) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    for group, count in zip(shown, rows, strict=True):
        pen.text((MARGIN, top), _plain(group.heading), fill="black", font=head)
        top += HEADING
        for place, row in enumerate(_beside_twins(group.rows)):
            x, y = MARGIN + place % columns * step, top + place // columns * height
            sheet.paste(_tile(row, font), (x, y))
            for number, line in enumerate(_lines(row, font)):
                pen.text((x, y + TILE + number * LINE), line, fill="#333333", font=font)
        top += count * height
    sink = BytesIO()
    sheet.save(sink, "png")
    return sink.getvalue()


def _beside_twins(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each duplicate with the one that stays right after it."""
    return [tile for row in rows for tile in (row, row.get("twin")) if tile is not None]


def _tile(row: dict[str, Any], font: ImageFont.FreeTypeFont) -> Image.Image:
    """An image, small; grey with the reason where it cannot be shown."""
    tile = Image.new("RGB", (TILE, TILE), "#dddddd")
    try:
        data = read_place(row["place"], content=row["image_hash"])
        image = Image.fromarray(decode_image(data, max_pixels=MAX_PIXELS, draft_side=TILE))
    except MediaError as error:
        words = _wrapped(_plain(str(error).rpartition(": ")[2]), font, TILE - 8)
        for number, line in zip(range(9), words, strict=False):
            ImageDraw.Draw(tile).text((4, 4 + number * LINE), line, fill="#882222", font=font)
        return tile
    image.thumbnail((TILE, TILE))
    tile.paste(image, ((TILE - image.width) // 2, (TILE - image.height) // 2))
    return tile


def _lines(row: dict[str, Any], font: ImageFont.FreeTypeFont) -> list[str]:
    """What decided, then the text, in as many lines as there is room for."""
    said: list[str] = []
    if row.get("stays"):
        said.append("the one that stays")
    elif row.get("duplicate_of"):
        # The number that was compared is the distance, where the stage says it.
        distance = row["value"] if row["duplicate_distance"] is None else row["duplicate_distance"]
        threshold = "" if row["threshold"] is None else f", threshold {row['threshold']:.3g}"
        twin = row.get("twin") or {}
        near = "" if distance is None else f"distance {distance:.3g}{threshold}"
        named = "" if twin else f"of {row['duplicate_of']}"
        said += _wrapped(_plain(" ".join(word for word in (near, named) if word)), font, TILE)
    elif row["value"] is not None:
        threshold = "" if row["threshold"] is None else f", threshold {row['threshold']:.3g}"
        said += _wrapped(f"{row['value']:.3g}{threshold}", font, TILE)
    said += _wrapped(_drawable(_plain(row["text"] or ""), font), font, TILE)
    return said[:TEXT_LINES]


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of this machine that knows most scripts; without one, that of Pillow."""
    for name in FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise EngineMissing("this Pillow has no FreeType, which draws letters: pip install --force-reinstall pillow")
    return font


def _drawable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text; where the font lacks most of its letters, how many these are, instead of as many boxes."""
    absent = _mask(font, "\uffff")
    letters = [letter for letter in text if letter.isalnum()]
    lacking = sum(_mask(font, letter) == absent for letter in letters if not letter.isascii())
    return f"[{lacking} letters that no font here has]" if 2 * lacking > len(letters) else text


def _mask(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
    """Lines no wider than `width` pixels, cut between words; within a word that has no room in a line."""
    line = ""
    for word in text.split():
        if font.getlength(f"{line} {word}".strip()) <= width:
            line = f"{line} {word}".strip()
            continue
        if line:
            yield line
            line = ""
        for letter in word:
            if line and font.getlength(line + letter) > width:
                yield line
                line = ""
            line += letter
    if line:
        yield line


def _plain(text: str) -> str:
    """The beginning of a text, in letters that can be drawn."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:400])


def _rows(views: duckdb.DuckDBPyConnection, question: str, ids: Sequence[str | None]) -> dict[str, dict[str, Any]]:
    """The rows with these ids that stay in the place of others."""
    asked = sorted({row_id for row_id in ids if row_id is not None})
    found = answer(views, f"from ({question}) where list_contains($1, row_id)", [asked]).to_pylist() if asked else []
    return {row["row_id"]: row | {"stays": True} for row in found}


def _twin_of(views: duckdb.DuckDBPyConnection, node: str) -> str:
    of, distance = twin_columns(columns_of(views, node))
    return f"{of} as {TWIN}, {distance} as {DISTANCE}"


def _has_place(views: duckdb.DuckDBPyConnection, node: str) -> bool:
    return {"row_id", "uri", "place", "image_hash", "verdict"} <= set(columns_of(views, node))


def _text_of(views: duckdb.DuckDBPyConnection, node: str) -> str:
    names = [name for name in ("text", "caption") if name in set(columns_of(views, node))]
    return f"coalesce({', '.join(names)})" if names else "null"
