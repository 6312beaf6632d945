"""Images that are worth a look are kept, each fault has its reason, and what cannot be decoded fails alone."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydantic import TypeAdapter, ValidationError

from curation.errors import RecipeError
from curation.media.images import FORMATS, decode_image
from curation.runtime.chain import run_chain
from curation.stage import undecided, with_column
from curation.store.measures import Measures
from curation.store.objects import Store
from curation.vision.image_checks import ALL_FORMATS, ImageQuality, ImageSize, UsableImage
from schemas.places import PLACE
from tests.support.image_rows import image_rows


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the images of a test lie."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def images(*drawn: bytes | None) -> pa.Table:
    return image_rows(Path.cwd(), drawn)


def outcomes(rows: pa.Table) -> list[str | None]:
    """The reason of each row's decision; None where it is kept."""
    if "decision" not in rows.column_names:
        return [None] * rows.num_rows
    return [decision and decision["reason"] for decision in rows["decision"].to_pylist()]


def measured(image: Image.Image, kind: str = "JPEG", **options: Any) -> dict[str, Any]:
    return ImageQuality().measure(encoded(image, kind, **options))


def checked(*drawn: Image.Image, kind: str = "JPEG", **limits: Any) -> list[str | None]:
    rows = ImageQuality()(images(*(encoded(image, kind) for image in drawn)))
    return outcomes(UsableImage(**limits)(rows))


def scene(width: int = 480, height: int = 360, seed: int = 0) -> Image.Image:
    """Coloured shapes on a dark ground, drawn large and averaged down, as a lens would."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", (1920, 1440), tuple(chance.integers(0, 90, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, size = chance.integers((0, 0, 200), (1500, 1000, 600)).tolist()
        shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
        shape((x, y, x + size, y + size), fill=tuple(chance.integers(90, 256, 3).tolist()))
    return image.resize((width, height), Image.Resampling.BOX)


def placeholder(ground: int = 238, ink: int = 170, size: int = 24) -> Image.Image:
    image = Image.new("RGB", (600, 400), (ground,) * 3)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((200, 190), "Image not available", fill=(ink,) * 3, font=font)
    return image


def chart() -> Image.Image:
    image = Image.new("RGB", (600, 400), "white")
    draw = ImageDraw.Draw(image)
    for bar in range(8):
        draw.rectangle((50 + 60 * bar, 350 - 30 * bar, 90 + 60 * bar, 350), fill=(31, 119, 180))
        draw.text((60 + 60 * bar, 360), str(bar), fill="black")
    return image


def test_sizes_are_decided_from_the_header_alone() -> None:
    files = [
        encoded(scene(300, 240)),
        encoded(scene(300, 199)),
        encoded(scene(640, 213)),
        encoded(scene(600, 200)),
        encoded(Image.new("RGB", (10_000, 1))),
        encoded(Image.new("RGB", (1, 1))),
        encoded(Image.new("L", (9_000, 8_000)), "PNG"),
    ]
    rows = ImageSize()(images(*(data[:-1] if data[:2] == b"\xff\xd8" else data for data in files)))
    small, thin = "image_too_small", "aspect_ratio"
    assert outcomes(rows) == [None, small, thin, None, small, small, "too_many_pixels"]
    decisions = rows["decision"].to_pylist()
    assert (decisions[1]["value"], decisions[1]["threshold"]) == (199, 200)
    assert (decisions[2]["value"], decisions[2]["threshold"]) == (pytest.approx(640 / 213), 3.0)
    assert (decisions[6]["value"], decisions[6]["threshold"]) == (72_000_000, 64_000_000)
    assert rows["width"].to_pylist()[:2] == [300, 300]
    assert rows["short_side"].to_pylist()[:2] == [240, 199]


def test_sizes_are_those_of_the_image_as_it_is_shown() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    row = ImageSize()(images(encoded(scene(400, 300), exif=exif.tobytes()))).to_pylist()[0]
    assert (row["width"], row["height"]) == (300, 400)


def test_limits_of_size_can_be_left_out_or_added() -> None:
    frames = [scene(300, 250, seed) for seed in range(3)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    long = encoded(Image.new("RGB", (3000, 250)))
    assert outcomes(ImageSize(max_aspect_ratio=None)(images(moving, long))) == [None, None]
    assert outcomes(ImageSize(max_frames=1)(images(moving, long))) == ["too_many_frames", "aspect_ratio"]
    assert outcomes(ImageSize(formats=("jpeg",))(images(moving, long))) == ["MediaError", "aspect_ratio"]


def test_what_cannot_be_decoded_fails_alone_and_by_name() -> None:
    good = encoded(scene())
    rows = images(good, good[:-50], b"", b"no image", None, good)
    headers = ImageSize()(rows)
    assert outcomes(headers) == [None, None, "MediaError", "MediaError", "MediaError", None]
    pixels = ImageQuality()(undecided(headers))
    assert outcomes(pixels) == [None, "MediaError", None]
    decision = pixels["decision"].to_pylist()[1]
    assert decision["verdict"] == "failed"
    assert decision["error"].startswith("image 1.jpg: jpeg that cannot be decoded: ")
    errors = [decision["error"] for decision in headers["decision"].to_pylist() if decision]
    assert errors[0] == "image 2.jpg: empty file"
    assert errors[2] == "image 4.jpg: no image"


def test_a_bomb_fails_before_it_is_decoded() -> None:
    rows = ImageQuality(max_pixels=10_000)(images(encoded(scene())))
    assert outcomes(rows) == ["MediaError"]
    assert "480 x 360 pixels, more than 10000" in rows["decision"].to_pylist()[0]["error"]


def test_an_image_that_changed_or_went_since_it_was_scanned_fails_by_name(folder: Path) -> None:
    rows = images(*(encoded(scene(seed=seed)) for seed in range(3)))
    changed, gone = (Path(place["path"]) for place in rows["place"].to_pylist()[1:])
    changed.write_bytes(encoded(scene(seed=9)))
    gone.unlink()
    for stage in (ImageSize(), ImageQuality()):
        out = stage(rows)
        assert outcomes(out) == [None, "MediaError", "MediaError"]
        errors = [decision and decision["error"] for decision in out["decision"].to_pylist()]
        assert errors[1].startswith("image 1.jpg: ") and "changed since it was scanned" in errors[1]
        assert errors[2].startswith("image 2.jpg: ") and "cannot be opened" in errors[2]


def test_an_image_that_rows_share_is_read_once_from_where_it_still_lies() -> None:
    shared, other, broken = encoded(scene()), encoded(scene(seed=1)), b"no image"
    rows = images(shared, other, shared, broken, shared, broken)
    nowhere = {"path": "gone", "format": "file"}
    places = rows["place"].to_pylist()
    alone = ImageQuality()(images(shared))["perceptual_hash"][0]
    for present in (0, 2, 4):
        held = [place if i == present or i in (1, 3, 5) else nowhere for i, place in enumerate(places)]
        out = ImageQuality()(with_column(rows, "place", held, PLACE))
        assert outcomes(out) == [None, None, None, "MediaError", None, "MediaError"]
        assert {out["perceptual_hash"][i] for i in (0, 2, 4)} == {alone}
        errors = [decision["error"].split(":")[0] for decision in out["decision"].to_pylist() if decision]
        assert errors == ["image 3.jpg", "image 5.jpg"]
    out = ImageQuality()(with_column(rows, "place", [nowhere] * 6, PLACE))
    assert outcomes(out) == ["MediaError"] * 6


def test_an_image_is_read_from_within_a_tar(folder: Path) -> None:
    data = [encoded(scene(seed=seed)) for seed in range(2)]
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, one in enumerate(data):
            member = tarfile.TarInfo(f"{number:09}.jpg")
            member.size = len(one)
            tar.addfile(member, io.BytesIO(one))
    with tarfile.open(folder / "00000.tar") as tar:
        stretches = [(member.offset_data, member.size) for member in tar]
    rows = images(*data)
    places = [
        {"path": str(folder / "00000.tar"), "format": "tar", "offset": offset, "size": size}
        for offset, size in stretches
    ]
    inside = with_column(rows, "place", places, PLACE)
    columns = ImageQuality.writes
    assert ImageQuality()(inside).select(columns).equals(ImageQuality()(rows).select(columns))


def test_an_image_that_was_measured_is_not_read_again(folder: Path) -> None:
    rows = images(encoded(scene()), encoded(scene(seed=1)), encoded(scene()))
    measures = Measures(Store(folder / "store"))
    before = run_chain("n", [ImageQuality()], rows, measures=measures)
    for place in rows["place"].to_pylist():
        Path(place["path"]).unlink(missing_ok=True)
    assert run_chain("n", [ImageQuality()], rows, measures=measures).rows.equals(before.rows)
    assert before.counts == {"pair": {"kept": 3}}


def test_blank_images_are_rejected() -> None:
    speck = Image.new("RGB", (500, 400), "white")
    speck.putpixel((250, 200), (0, 0, 0))
    blanks = [Image.new("RGB", (500, 400), colour) for colour in ("white", "black", "teal")]
    assert checked(*blanks, speck) == ["image_blank"] * 4
    assert measured(blanks[0])["contrast"] == measured(blanks[0])["entropy"] == 0


def test_shapes_of_one_brightness_are_not_blank() -> None:
    image = Image.new("RGB", (400, 300), (200, 0, 0))
    ImageDraw.Draw(image).ellipse((100, 50, 300, 250), fill=(0, 102, 0))
    luma = np.asarray(image) @ np.array([0.299, 0.587, 0.114])
    assert luma.std() < 1
    assert measured(image)["contrast"] > 50


def test_blurred_scenes_are_rejected_and_sharp_ones_kept() -> None:
    for seed in range(8):
        for width, height in ((341, 256), (480, 360), (960, 720)):
            sharp = scene(width, height, seed)
            blurred = sharp.filter(ImageFilter.GaussianBlur(4 * height / 256))
            assert checked(sharp, blurred) == [None, "image_blurred"]


def test_real_images_are_kept_and_their_blurred_copies_rejected(media: Path) -> None:
    for path in sorted((media / "images").iterdir()):
        # The clock was photographed with a shaken camera, and lies about the limit.
        if path.stem in ("truncated", "clock_motion"):
            continue
        sharp = Image.fromarray(decode_image(path.read_bytes(), max_pixels=10_000_000))
        blurred = sharp.filter(ImageFilter.GaussianBlur(4 * max(256, min(sharp.size)) / 256))
        assert checked(sharp, blurred) == [None, "image_blurred"], path.stem


def test_sharpness_is_within_a_factor_of_two_at_every_size() -> None:
    sizes = ((341, 256), (480, 360), (960, 720), (1100, 825), (1920, 1440))
    values = [measured(scene(*size), quality=95)["sharpness"] for size in sizes]
    assert max(values) < 2 * min(values)


def test_a_faint_notice_on_flat_ground_is_a_placeholder() -> None:
    notices = [placeholder(), placeholder(255, 150)]
    for kind in ("JPEG", "PNG"):
        assert checked(*notices, kind=kind) == ["placeholder"] * 2
        assert checked(chart(), *(scene(seed=seed) for seed in range(8)), kind=kind) == [None] * 9
    assert checked(*notices, max_placeholder_colours=None) == [None] * 2


def test_a_known_placeholder_is_found_in_other_sizes_and_qualities() -> None:
    known = chart()
    name = f"{measured(known, 'PNG')['perceptual_hash']:016x}"
    copies = [known.resize((300, 200), Image.Resampling.LANCZOS), known.resize((900, 600)), known]
    rows = ImageQuality()(images(*(encoded(copy, quality=60) for copy in copies), encoded(scene())))
    decided = UsableImage(known_placeholders=(name,))(rows)
    assert outcomes(decided) == ["known_placeholder"] * 3 + [None]
    decision = decided["decision"].to_pylist()[0]
    assert decision["value"] == decided["placeholder_distance"].to_pylist()[0] <= decision["threshold"] == 4
    assert decided["placeholder_distance"].to_pylist()[3] > 4
    assert UsableImage()(rows)["placeholder_distance"].null_count == 4


def test_noise_is_sharp_and_full_of_entropy() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    found = measured(noise, "PNG")
    assert found["entropy"] > 7
    assert found["sharpness"] > 1000
    assert found["flat_share"] < 0.01
    assert checked(noise) == [None]
    assert checked(chart(), min_entropy=4.0) == ["image_plain"]


def test_entropy_and_contrast_are_those_of_the_formulas() -> None:
    halves = np.zeros((256, 256, 3), np.uint8)
    halves[:, 128:] = 100
    found = measured(Image.fromarray(halves), "PNG")
    assert (found["entropy"], found["contrast"], found["colours"]) == (1.0, 50.0, 2)
    grey = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    found = measured(Image.fromarray(grey), "PNG")
    values = grey.astype(float)
    inner = np.zeros_like(values)
    inner[1:-1] += values[2:] + values[:-2] - 2 * values[1:-1]
    inner[:, 1:-1] += values[:, 2:] + values[:, :-2] - 2 * values[:, 1:-1]
    assert found["sharpness"] == pytest.approx(inner.var())
    assert found["contrast"] >= values.std() - 1e-9


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (10_000, 1), (1, 10_000), (31, 33), (2000, 40)])
def test_images_of_any_shape_are_measured(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG"):
        found = measured(Image.new("RGB", size, "red"), kind)
        assert (found["contrast"], found["sharpness"], found["flat_share"]) == (0, 0, 1)
        assert found["perceptual_hash"] == 0


def test_a_measure_does_not_depend_on_its_neighbours() -> None:
    files = [encoded(scene(seed=seed)) for seed in range(4)] + [b"broken", encoded(chart(), "PNG")]
    together = ImageQuality()(images(*files))
    columns = ImageQuality.writes
    alone = [ImageQuality()(images(data)).select(columns).to_pylist()[0] for data in reversed(files)]
    assert together.select(columns).to_pylist() == alone[::-1]


def test_invalid_recipes_are_refused() -> None:
    with pytest.raises(RecipeError, match="'xyz' is not 16 hexadecimal digits"):
        UsableImage(known_placeholders=("xyz",))
    with pytest.raises(RecipeError, match="side"):
        ImageQuality(side=16)
    with pytest.raises(ValidationError, match="formats"):
        TypeAdapter(ImageSize).validate_python({"formats": ["svg"]})
    assert TypeAdapter(ImageSize).validate_python({"formats": ["jpeg"]}) == ImageSize(formats=("jpeg",))
    assert set(ALL_FORMATS) == set(FORMATS)


def test_only_what_changes_a_result_is_in_a_fingerprint() -> None:
    assert ImageQuality().fingerprint() == ImageQuality().fingerprint()
    assert ImageQuality(side=128).fingerprint() != ImageQuality().fingerprint()
    assert ImageQuality.reads == ImageSize.reads == ("image_hash",)
