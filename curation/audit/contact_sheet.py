"""A contact sheet: some pictures of every verdict and reason on one page, to look over what a run kept and dropped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import duckdb
from PIL import Image, ImageDraw, ImageFont

from curation.errors import MediaError, SourceError
from curation.hashing import draw
from curation.media.images import decode_image
from curation.media.places import read_place
from curation.store.versions import Version

TILE = 132
TEXT_LINES = 3
LINE = 13
HEADING = 22
MARGIN = 8
LETTERS = 22
"""Of a line below a picture, in the font that comes with Pillow."""
MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class Group:
    """Pictures of one verdict and reason.

    Attributes:
        count: how many there are; `rows` are some of them, drawn by their ids.
    """

    verdict: str
    reason: str
    count: int
    rows: Sequence[dict[str, Any]]

    @property
    def heading(self) -> str:
        return f"{self.verdict}{': ' + self.reason if self.reason else ''} ({self.count})"


def groups(views: duckdb.DuckDBPyConnection, version: Version, per_reason: int) -> list[Group]:
    """Every verdict and reason that rows with a picture met, kept ones first, then by number.

    Raises:
        SourceError: the version has no pictures.
    """
    nodes = [node.name for node in version.nodes if node.counts and _has_place(views, node.name)]
    if not nodes:
        raise SourceError(f"version {version.name} has no pictures to show")
    # Whoever was kept by the last node that saw pictures was kept; a verdict before it is the only one of its row.
    pictures = " union all by name ".join(
        f'select row_id, uri, place, image_hash, {_text_of(views, node)} as text, {number} as number from "{node}" '
        "where place is not null"
        for number, node in enumerate(nodes)
    )
    question = f"""
        with pictures as ({pictures}),
        last as (select * from pictures qualify row_number() over (partition by row_id order by number desc) = 1),
        decided as (
            select row_id, verdict, reason, value, "limit", error from ledger where verdict <> 'kept'
            union all select row_id, 'kept', '', null, null, null from "{nodes[-1]}" where verdict = 'kept'
        )
        select d.verdict, coalesce(d.reason, '') as reason, d.value, d."limit", d.error, p.* exclude (number)
        from decided d join last p using (row_id) order by row_id
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in views.sql(question).to_arrow_table().to_pylist():
        found.setdefault((row["verdict"], row["reason"]), []).append(row)
    order = sorted(found, key=lambda key: (key[0] != "kept", -len(found[key]), key))
    return [
        Group(*key, len(found[key]), sorted(found[key], key=lambda row: draw(0, row["row_id"], "sheet"))[:per_reason])
        for key in order
    ]


def contact_sheet(shown: Sequence[Group], columns: int) -> bytes:
    """The groups as a PNG, a row or more of pictures for each, with texts and what decided below them."""
    font = ImageFont.load_default(11)
    head = ImageFont.load_default(15)
    step, height = TILE + MARGIN, TILE + TEXT_LINES * LINE + MARGIN
    rows = [-(-len(group.rows) // columns) for group in shown]
    size = (columns * step + MARGIN, sum(HEADING + count * height for count in rows) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    for group, count in zip(shown, rows, strict=True):
        pen.text((MARGIN, top), _plain(group.heading), fill="black", font=head)
        top += HEADING
        for place, row in enumerate(group.rows):
            x, y = MARGIN + place % columns * step, top + place // columns * height
            sheet.paste(_tile(row, font), (x, y))
            for number, line in enumerate(_lines(row)):
                pen.text((x, y + TILE + number * LINE), line, fill="#333333", font=font)
        top += count * height
    sink = BytesIO()
    sheet.save(sink, "png")
    return sink.getvalue()


def _tile(row: dict[str, Any], font: Any) -> Image.Image:
    """A picture, small; grey with the reason where it cannot be shown."""
    tile = Image.new("RGB", (TILE, TILE), "#dddddd")
    try:
        data = read_place(row["place"], content=row["image_hash"])
        picture = Image.fromarray(decode_image(data, max_pixels=MAX_PIXELS, draft_side=TILE))
    except MediaError as error:
        words = iter(_wrapped(_plain(str(error).rpartition(": ")[2]), 20))
        for number, line in zip(range(8), words, strict=False):
            ImageDraw.Draw(tile).text((4, 4 + number * LINE), line, fill="#882222", font=font)
        return tile
    picture.thumbnail((TILE, TILE))
    tile.paste(picture, ((TILE - picture.width) // 2, (TILE - picture.height) // 2))
    return tile


def _lines(row: dict[str, Any]) -> list[str]:
    """What decided, then the text, in as many lines as there is room for."""
    said = []
    if row["value"] is not None:
        limit = "" if row["limit"] is None else f", limit {row['limit']:.3g}"
        said.append(f"{row['value']:.3g}{limit}"[:LETTERS])
    said += _wrapped(_plain(row["text"] or ""), LETTERS)
    return said[:TEXT_LINES]


def _wrapped(text: str, letters: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) >= letters:
            yield line
            line = ""
        line = f"{line} {word}".strip()[:letters]
    if line:
        yield line


def _plain(text: str) -> str:
    """The beginning of a text, in letters that can be drawn."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:400])


def _has_place(views: duckdb.DuckDBPyConnection, node: str) -> bool:
    return {"place", "image_hash", "verdict"} <= _columns(views, node)


def _text_of(views: duckdb.DuckDBPyConnection, node: str) -> str:
    names = [name for name in ("text", "caption") if name in _columns(views, node)]
    return f"coalesce({', '.join(names)})" if names else "null"


def _columns(views: duckdb.DuckDBPyConnection, node: str) -> set[str]:
    question = "select column_name from duckdb_columns() where table_name = $1"
    return {row[0] for row in views.execute(question, [node]).fetchall()}
