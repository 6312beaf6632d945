"""Writing in images is measured, pages of text are rejected, and captions that only repeat it, where asked."""

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st
from PIL import Image, ImageDraw, ImageFont

from curation.engines.text_reading import Pixels, RapidOcr, TextLine
from curation.hashing import bytes_digest
from curation.vision.text_in_image import (
    NotOnlyText,
    TextInImage,
    edge_share,
    share_written,
    text_confidence,
    text_share,
)

PAGE = "Curated data makes better models because what a model sees is what it learns and nothing else"


def scene(*lines: str, size: int = 40, shape: tuple[int, int] = (800, 600)) -> bytes:
    """A blue tent on sand, with lines of text."""
    image = Image.new("RGB", shape, (236, 214, 170))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    draw.polygon([(420, 580), (600, 280), (780, 580)], fill=(40, 70, 160))
    for number, line in enumerate(lines):
        draw.text((20, 20 + 1.5 * size * number), line, fill=(20, 20, 20), font=font)
    return encoded(image)


def page() -> bytes:
    image = Image.new("RGB", (800, 600), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(34)
    for number in range(14):
        draw.text((10, 6 + 42 * number), PAGE[number : number + 44], fill="black", font=font)
    return encoded(image)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def pairs(folder: Path, *images: bytes, captions: Sequence[str | None] = ()) -> pa.Table:
    rows = []
    for number, data in enumerate(images):
        path = folder / f"{number}.png"
        path.write_bytes(data)
        place = {"path": str(path), "format": "file", "offset": None, "size": None, "column": None}
        rows.append({"row_id": str(number), "uri": path.name, "image_hash": bytes_digest(data), "place": place})
        rows[-1]["caption"] = captions[number] if captions else "a blue tent"
    return pa.Table.from_pylist(rows)


def reasons(rows: pa.Table) -> list[str | None]:
    if "decision" not in rows.column_names:
        return [None] * rows.num_rows
    return [decision and decision["reason"] for decision in rows["decision"].to_pylist()]


@dataclass(frozen=True)
class Counting(RapidOcr):
    """Counts the images that it is shown, and reads one line in each."""

    shown: ClassVar[list[int]] = [0]

    def read(self, images: Sequence[Pixels]) -> list[list[TextLine]]:
        self.shown[0] += len(images)
        return [[TextLine("seen", ((0, 0), (10, 0), (10, 10), (0, 10)), 0.5)] for _ in images]


def test_writing_is_read_and_its_share_measured(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    rows = TextInImage()(pairs(tmp_path, scene("SUMMER SALE", "Fifty percent off"), scene(), page()))
    texts, lines, shares, confidences = (
        rows[f"text_in_image{name}"].to_pylist() for name in ("", "_lines", "_share", "_confidence")
    )
    assert texts[:2] == ["SUMMER SALE\nFifty percent off", ""]
    assert lines == [2, 0, 14]
    assert 0.03 < shares[0] < 0.15 and shares[1] == 0 and shares[2] > 0.55
    assert confidences[0] > 0.9 and confidences[1] is None
    assert reasons(NotOnlyText()(rows)) == [None, None, "image_is_text"]


def test_the_measure_does_not_depend_on_other_rows_or_on_where_the_file_lies(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    first, second = pairs(tmp_path, scene("EXIT"), scene("ENTRY 7")), tmp_path / "second"
    second.mkdir()
    one = TextInImage()(first).select(TextInImage.writes).to_pylist()
    two = TextInImage()(pairs(second, scene("ENTRY 7"), scene("EXIT"))).select(TextInImage.writes).to_pylist()
    assert one == two[::-1]


def test_smooth_images_are_not_shown_to_the_reader_and_all_others_are(tmp_path: Path) -> None:
    slope = np.repeat(np.linspace(90, 220, 700).astype(np.uint8)[:, None], 900, axis=1)
    sky = Image.fromarray(np.stack([slope, slope // 2 + 90, 255 - slope // 8], axis=2))
    speck = Image.new("RGB", (900, 700), "white")
    ImageDraw.Draw(speck).text((300, 300), "ok", fill=(150, 150, 150), font=ImageFont.load_default(14))
    red_on_green = Image.new("RGB", (900, 700), (0, 100, 0))
    ImageDraw.Draw(red_on_green).text((300, 300), "ok", fill=(196, 0, 0), font=ImageFont.load_default(14))
    table = pairs(
        tmp_path, *(encoded(image) for image in (Image.new("RGB", (900, 700), "white"), sky, speck, red_on_green))
    )
    Counting.shown[0] = 0
    rows = TextInImage(Counting())(table)
    assert rows["text_in_image"].to_pylist() == ["", "", "seen", "seen"]
    assert Counting.shown == [2]
    assert TextInImage(Counting(), min_edge_share=0)(table)["text_in_image"].to_pylist() == ["seen"] * 4


def test_three_captions_of_one_image_read_it_once(tmp_path: Path) -> None:
    Counting.shown[0] = 0
    rows = TextInImage(Counting())(pairs(tmp_path, *[scene("x")] * 3, captions=["a", "b", "c"]))
    assert Counting.shown == [1]
    assert rows["text_in_image"].to_pylist() == ["seen"] * 3


def test_an_image_that_cannot_be_used_fails_alone_and_is_named(tmp_path: Path) -> None:
    table = pairs(tmp_path, scene("x"), scene("y")[:2000], b"no image", scene("z"))
    (tmp_path / "3.png").write_bytes(scene("changed"))
    rows = TextInImage(Counting())(table)
    assert reasons(rows) == [None, "MediaError", "MediaError", "MediaError"]
    for number, error in enumerate(decision and decision["error"] for decision in rows["decision"].to_pylist()):
        assert number == 0 or f"{number}.png" in error
    assert rows["text_in_image"].to_pylist() == ["seen", None, None, None]


def test_text_is_kept_up_to_a_limit(tmp_path: Path) -> None:
    rows = TextInImage(Counting(), max_characters=2)(pairs(tmp_path, scene("x")))
    assert rows["text_in_image"].to_pylist() == ["se"]


@pytest.mark.parametrize(
    ("caption", "text", "share"),
    [
        ("Summer Sale: fifty percent off!", "SUMMER SALE\nFIFTY PERCENT OFF", 1.0),
        ("Summer Sale", "SUMMERSALE", 1.0),
        ("一位老渔夫，在港口修补渔网", "一位老渔夫\n在港口修补渔网", 1.0),
        ("OK", "not ok", 1.0),
        ("A woman walks past a shop window in the rain", "SUMMER SALE", 0.0),
        ("a shop", "", 0.0),
        ("", "SUMMER SALE", 0.0),
        ("?!", "SUMMER SALE", 0.0),
    ],
)
def test_how_much_of_a_caption_is_written_in_the_image(caption: str, text: str, share: float) -> None:
    assert share_written(caption, text, 4) == share


def test_a_letter_read_wrong_costs_as_many_runs_as_hold_it() -> None:
    assert share_written("abcdefghijklm", "abcdefxhijklm", 4) == pytest.approx(1 - 4 / 10)


@given(st.text(max_size=40), st.text(max_size=40), st.integers(1, 6))
def test_a_share_is_a_share_and_of_itself_all(caption: str, text: str, letters: int) -> None:
    assert 0 <= share_written(caption, text, letters) <= 1
    assert share_written(caption, text + caption, letters) in (0.0, 1.0)
    assert share_written(caption, text + caption, letters) == any(map(str.isalnum, normal(caption)))


def normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def measured(**columns: Any) -> pa.Table:
    count = len(columns["caption"])
    ids = [str(number) for number in range(count)]
    return pa.table({"row_id": ids, "uri": ids, **columns})


def test_captions_that_repeat_the_image_are_rejected_only_where_asked() -> None:
    rows = measured(
        caption=["SUMMER SALE fifty percent", "a shop window in summer", None, "Summer sale"],
        text_in_image=["Summer sale\nfifty percent", "Summer sale", "Summer sale", None],
        text_in_image_share=pa.array([0.1, 0.1, 0.1, None]),
    )
    assert reasons(NotOnlyText()(rows)) == [None] * 4
    asked = NotOnlyText(max_caption_share=0.7)(rows)
    assert reasons(asked) == ["caption_is_text_in_image", None, None, None]
    decision = asked["decision"].to_pylist()[0]
    assert (decision["value"], decision["threshold"]) == (1.0, 0.7)
    assert asked["caption_in_image"].to_pylist()[2:] == [0.0, 0.0]


def test_limits_of_none_are_not_applied() -> None:
    rows = measured(caption=["x"], text_in_image=["No entry"], text_in_image_share=[1.0])
    assert reasons(NotOnlyText(max_text_share=None)(rows)) == [None]
    assert reasons(NotOnlyText()(rows)) == ["image_is_text"]


def test_a_disc_that_was_read_as_a_letter_is_no_image_of_text() -> None:
    rows = measured(caption=["a red disc"] * 2, text_in_image=["O", "SALE!"], text_in_image_share=[0.9, 0.9])
    assert reasons(NotOnlyText()(rows)) == [None, None]
    assert reasons(NotOnlyText(min_letters=4)(rows)) == [None, "image_is_text"]


def test_shares_and_confidences_weigh_lines_by_their_size() -> None:
    box = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))
    lines = [TextLine("abc", box, 0.9), TextLine("d", box, 0.5)]
    assert text_share(lines, 1000) == 0.2
    assert text_share(lines, 100) == 1.0
    assert text_confidence(lines) == 0.8
    assert (text_share([], 100), text_confidence([])) == (0.0, None)


def test_edges_are_seen_in_any_channel() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    assert edge_share(image, 4) == 0
    image[:, 5:, 2] = 5
    assert edge_share(image, 4) == pytest.approx(0.1)
    assert edge_share(image, 5) == 0
