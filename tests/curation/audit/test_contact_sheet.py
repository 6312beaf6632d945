"""The contact sheet: every reason has its images, and whatever cannot be shown says why."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFont

from curation.audit import contact_sheet as sheet_module
from curation.audit.contact_sheet import Group, contact_sheet, groups
from curation.audit.views import open_views
from curation.errors import SourceError
from curation.store.objects import Store
from curation.store.versions import read_version
from tests.support.small_corpus import Answer, curate
from tests.support.small_pairs import QUIET, Pair, caption, image_bytes, pairs, spoilt, write_folder

TEXTS = {20: "一只大狗站在花园里，旁边有很多孩子在玩耍。", 21: "x" * 500, 22: "كلب كبير يقف في الحديقة مع الأطفال"}


def flat() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (240, 200), "white").save(sink, "JPEG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source with good, blank, broken, wide and oddly captioned images, and the store of a run over it."""
    folder = tmp_path_factory.mktemp("sheet")
    some = pairs(12)
    some += [Pair("blank", flat(), caption(12)), spoilt(Pair("broken", image_bytes(13), caption(13)))]
    some += [Pair("wide", image_bytes(14, 2400, 200), caption(14)), Pair("empty", image_bytes(15), None)]
    some += [Pair(f"text{n}", image_bytes(n), text) for n, text in TEXTS.items()]
    write_folder(folder / "in", some)
    settings = [word for one in (f"source.path={folder / 'in'}", *QUIET) for word in ("--set", one)]
    kept_all = ("--set", "max_failed_share=1.0", "--set", "text.length.max_characters=100")
    done = curate(
        *("run", "captions-embedded", *settings, *kept_all, "--store", str(folder / "store"), "--runner", "inline")
    )
    assert done.code == 0, done.err
    return folder / "in", folder / "store"


def found(store: Path, per_reason: int = 8) -> list[Group]:
    version = read_version(Store(store), "captions")
    return groups(open_views(Store(store), version), version, per_reason)


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def command(store: Path, out: Path) -> Answer:
    return curate("sheet", "--store", str(store), "--out", str(out))


def test_every_verdict_and_reason_has_its_images_kept_ones_first(made: tuple[Path, Path]) -> None:
    shown = found(made[1])
    assert shown[0].heading == "kept (14)" and len(shown[0].rows) == 8
    told = {(group.verdict, group.reason): group.count for group in shown[1:]}
    assert told == {
        ("rejected", "aspect_ratio"): 1,
        ("rejected", "caption_empty"): 1,
        ("rejected", "caption_too_long"): 1,
        ("rejected", "image_blank"): 1,
        ("failed", "MediaError"): 1,
    }
    for group in shown:
        assert len({row["row_id"] for row in group.rows}) == len(group.rows) == min(8, group.count)


def test_who_is_shown_is_drawn_from_ids_and_more_of_them_adds(made: tuple[Path, Path]) -> None:
    few, many = ([row["row_id"] for row in found(made[1], count)[0].rows] for count in (3, 9))
    assert many[:3] == few and found(made[1]) == found(made[1])


def test_the_command_writes_the_same_image_twice(made: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        done = command(made[1], tmp_path / name)
        assert done.code == 0 and "13 images of captions/1, 6 reasons" in done.out, done.err
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert len(np.unique(pixels((tmp_path / "a.png").read_bytes()).reshape(-1, 3), axis=0)) > 100


def test_images_that_are_gone_or_changed_are_grey_and_say_so(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", pairs(3))
    settings = [word for one in (f"source.path={tmp_path / 'in'}", *QUIET) for word in ("--set", one)]
    store = tmp_path / "store"
    assert curate("run", "captions-embedded", *settings, "--store", str(store), "--runner", "inline").code == 0
    whole = pixels(contact_sheet(found(store), 8))
    for file in (tmp_path / "in" / "images").iterdir():
        file.unlink()
    gone = pixels(contact_sheet(found(store), 8))
    assert gone.shape == whole.shape and (gone == 0xDD).all(axis=2).mean() > 0.2
    (tmp_path / "in" / "images" / "000000000.jpg").symlink_to("/dev/zero")
    assert command(store, tmp_path / "sheet.png").code == 0


def test_a_version_without_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "zeros.tar").write_bytes(bytes(10_240))
    settings = [word for one in (f"source.path={tmp_path / 'in'}", *QUIET) for word in ("--set", one)]
    run = curate("run", "captions-embedded", *settings, "--store", str(tmp_path / "store"), "--runner", "inline")
    assert run.code == 5
    done = command(tmp_path / "store", tmp_path / "sheet.png")
    assert done.code == 2 and "has no images to show" in done.err
    assert not (tmp_path / "sheet.png").exists()
    with pytest.raises(SourceError):
        found(tmp_path / "store")


@pytest.fixture
def latin_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageFont.FreeTypeFont]:
    """A machine without fonts."""
    monkeypatch.setattr(sheet_module, "FONTS", ())
    yield sheet_module._font(11)


def lines(text: str, font: ImageFont.FreeTypeFont, **known: Any) -> list[str]:
    return sheet_module._lines({"value": None, "threshold": None, "text": text} | known, font)


@pytest.mark.parametrize("text", [TEXTS[20], TEXTS[22], "👍" * 9 + "狗" * 9])
def test_letters_that_no_font_has_are_counted_instead_of_drawn_as_boxes(
    latin_only: ImageFont.FreeTypeFont, text: str
) -> None:
    count = sum(letter.isalnum() for letter in text)
    assert " ".join(lines(text, latin_only)) == f"[{count} letters that no font here has]"
    assert lines("Ein grüner Bär, naïve façade", latin_only)[0].startswith("Ein grüner")
    assert lines("A cat named 猫", latin_only) == ["A cat named 猫"]


def test_no_line_is_wider_than_its_image_and_no_number_is_cut(latin_only: ImageFont.FreeTypeFont) -> None:
    for text in ("W" * 500, "word " * 100, "", "\0\x1b[31m\n\t", "a\u202eb" * 50, json.dumps({"x": 1})):
        wrapped = lines(text, latin_only, value=2.684e8, threshold=6.4e7)
        assert len(wrapped) <= sheet_module.TEXT_LINES
        assert all(latin_only.getlength(line) <= sheet_module.TILE for line in wrapped)
        assert " ".join(wrapped).startswith("2.68e+08, threshold 6.4e+07")
