"""What is written in images is read, line by line, offline, the same every time."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydantic import TypeAdapter, ValidationError

from curation.engines.text_reading import AnyTextReader, ImageUnreadable, Pixels, RapidOcr, TextLine

pytest.importorskip("rapidocr")

LINES = ["An old fisherman mends his net", "OPEN 24 HOURS", "Coffee with cream: 3.50 EUR"]
CHINESE = "一位老渔夫在港口修补渔网"


def written(*lines: str, width: int = 900, height: int = 420, size: int = 40) -> Pixels:
    """Black lines on a pale ground, from (60, 60), twice their size apart."""
    image = Image.new("RGB", (width, height), (246, 242, 230))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for number, line in enumerate(lines):
        draw.text((60, 60 + 2 * size * number), line, fill=(20, 20, 30), font=font)
    return np.asarray(image)


def chinese(text: str = CHINESE) -> Pixels:
    """Written with the font in OpenCV's wheel; Pillow's has no Chinese."""
    import cv2

    if not hasattr(cv2, "FontFace"):
        pytest.skip("this OpenCV brings no font with Chinese letters (5.0 does)")
    image = np.full((300, 900, 3), 255, np.uint8)
    cv2.putText(image, text, (60, 120), (0, 0, 0), cv2.FontFace("uni"), 44)
    return image


def texts(image: Pixels, engine: RapidOcr | None = None) -> list[str]:
    return [line.text for line in (engine or RapidOcr()).read([image])[0]]


def test_lines_are_read_in_their_order_with_their_boxes() -> None:
    (lines,) = RapidOcr().read([written(*LINES)])
    assert [line.text for line in lines] == LINES
    for number, line in enumerate(lines):
        left, top = np.min(line.box, axis=0)
        right, bottom = np.max(line.box, axis=0)
        assert 40 <= left <= 65 and right > 350
        assert top - 20 < 60 + 80 * number + 20 < bottom + 20
        assert 0.9 < line.confidence <= 1
        assert line.area == pytest.approx((right - left) * (bottom - top), rel=0.15)


def test_chinese_is_read() -> None:
    assert texts(chinese()) == [CHINESE]


def test_red_and_blue_are_not_exchanged() -> None:
    """RapidOCR takes arrays as OpenCV has them: blue first."""
    seen: list[Any] = []

    class Spy:
        txts = None

        def __call__(self, image: Pixels) -> "Spy":
            seen.append(image[0, 0].tolist())
            return self

    RapidOcr()._lines(Spy(), np.full((8, 8, 3), (250, 100, 20), np.uint8))
    assert seen == [[20, 100, 250]]


def test_lines_on_their_head_are_turned_and_so_may_images_be() -> None:
    upside_down = np.ascontiguousarray(written(LINES[0])[::-1, ::-1])
    assert texts(upside_down) == [LINES[0]]
    assert texts(upside_down, RapidOcr(turn_lines=False)) != [LINES[0]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 1200), (1200, 3), (40, 1200), (300, 400)])
def test_an_image_without_text_has_no_lines_whatever_its_shape(shape: tuple[int, int]) -> None:
    assert RapidOcr().read([np.full((*shape, 3), 200, np.uint8)]) == [[]]


def test_a_shape_that_is_read_as_a_sign_is_no_line() -> None:
    image = Image.new("RGB", (800, 600), (236, 214, 170))
    ImageDraw.Draw(image).polygon([(420, 580), (600, 280), (780, 580)], fill=(40, 70, 160))
    assert texts(np.asarray(image)) == []


def test_an_images_lines_do_not_depend_on_its_neighbours_or_on_earlier_calls() -> None:
    images = [written(LINES[1]), np.full((50, 50, 3), 9, np.uint8), written(*LINES), written(LINES[2], size=24)]
    together = RapidOcr().read(images)
    assert RapidOcr().read(images[::-1]) == together[::-1]
    assert [RapidOcr().read([image])[0] for image in images] == together
    assert RapidOcr().read([]) == []


def test_two_engines_of_one_process_keep_their_own_limits() -> None:
    strict, lax = RapidOcr(min_confidence=1.0), RapidOcr()
    image = written(LINES[2])
    assert (texts(image, strict), texts(image, lax), texts(image, strict)) == ([], [LINES[2]], [])


def test_it_reads_without_a_network_says_nothing_and_writes_nothing() -> None:
    code = """
import builtins, io, socket, sys
def refused(*args, **kwargs): raise AssertionError(f"a connection was asked for: {args}")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
plain_open = builtins.open
def watched(file, mode="r", *args, **kwargs):
    assert not set(mode) & set("wax+"), f"{file} is written"
    return plain_open(file, mode, *args, **kwargs)
sys.dont_write_bytecode = True
builtins.open = watched
import numpy as np
from PIL import Image
from curation.engines.text_reading import RapidOcr
image = np.asarray(Image.open(io.BytesIO(sys.stdin.buffer.read())))
lines = RapidOcr().read([np.zeros((60, 60, 3), np.uint8), image])
assert lines[0] == [] and [line.text for line in lines[1]] == ["OPEN 24 HOURS"], lines
"""
    buffer = io.BytesIO()
    Image.fromarray(written("OPEN 24 HOURS")).save(buffer, "PNG")
    ran = subprocess.run([sys.executable, "-c", code], input=buffer.getvalue(), capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def test_what_is_no_image_is_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageUnreadable, match="not uint8"):
            RapidOcr().read([wrong])  # type: ignore[list-item]


def test_models_that_the_wheel_should_have_are_missed_when_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = RapidOcr()
    assert engine.missing() is None
    weights = engine._weights()
    assert all(path.is_file() for path in weights.values())
    before = engine.fingerprint()
    monkeypatch.setattr(RapidOcr, "_weights", lambda self: weights | {"Rec": Path("/nowhere/rec.onnx")})
    reason = engine.missing()
    assert reason and "/nowhere/rec.onnx" in reason and "pip install" in reason
    assert engine.fingerprint() != before
    assert replace(engine, detection_side=640).fingerprint() != engine.fingerprint()


def test_a_recipe_gives_shares_and_sides_that_can_be_meant() -> None:
    engines: TypeAdapter[Any] = TypeAdapter(AnyTextReader)
    assert engines.validate_python({"engine": "rapidocr", "detection_side": 640}) == RapidOcr(detection_side=640)
    for wrong in ({"engine": "tesseract"}, {"min_confidence": 2}, {"detection_side": 0}, {"lang": "en"}):
        with pytest.raises(ValidationError):
            engines.validate_python(wrong)


def test_the_area_of_a_box_is_that_of_its_corners() -> None:
    assert TextLine("a", ((0, 0), (4, 0), (4, 3), (0, 3)), 1).area == 12
    assert TextLine("a", ((1, 0), (2, 1), (1, 2), (0, 1)), 1).area == 2
