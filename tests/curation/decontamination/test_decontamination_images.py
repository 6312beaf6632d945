"""An image of an evaluation set is found scaled and compressed again; others, and blank ones, are not taken for it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageDraw

from curation.decontamination.evaluation_sets import EvaluationSet, EvaluationSetError
from curation.decontamination.image_overlap import ImageIndex
from curation.decontamination.recipe import Decontamination
from curation.decontamination.stages import ImageOverlap
from curation.hashing import bytes_digest
from curation.vision.image_checks import ImageQuality

QUALITY = ImageQuality()
COUNT = 60


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scene(seed: int) -> Image.Image:
    """Coloured shapes on a dark ground, drawn large and averaged down, as a lens would."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", (960, 720), tuple(chance.integers(0, 90, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, size = chance.integers((0, 0, 100), (750, 500, 300)).tolist()
        shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
        shape((x, y, x + size, y + size), fill=tuple(chance.integers(90, 256, 3).tolist()))
    return image.resize((480, 360), Image.Resampling.BOX)


SCENES = [scene(seed) for seed in range(COUNT)]


def rows(*images: bytes) -> pa.Table:
    measured = [QUALITY.measure(data) for data in images]
    content = [bytes_digest(data) for data in images]
    names = [str(i) for i in range(len(images))]
    columns = {"row_id": names, "image_hash": content}
    columns["perceptual_hash"] = pa.array([one["perceptual_hash"] for one in measured], pa.uint64())
    columns["colour_signature"] = pa.array([one["colour_signature"] for one in measured], pa.binary(48))
    return pa.table(columns)


def reasons(table: pa.Table) -> list[str | None]:
    if "decision" not in table.column_names:
        return [None] * table.num_rows
    return [decision and decision["reason"] for decision in table["decision"].to_pylist()]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> EvaluationSet:
    """A set of every scene as PNG, and a blank image."""
    folder = tmp_path_factory.mktemp("val") / "scenes"
    folder.mkdir()
    for number, image in enumerate(SCENES):
        image.save(folder / f"{number:03}.png")
    Image.new("RGB", (300, 300), "white").save(folder / "blank.png")
    return EvaluationSet("scenes", str(folder))


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda p: encoded(p, quality=30), 0.98),
        (lambda p: encoded(p, "WEBP", quality=50), 0.98),
        (lambda p: encoded(p.resize((240, 180), Image.Resampling.LANCZOS)), 0.98),
        (lambda p: encoded(p.resize((816, 612), Image.Resampling.BICUBIC)), 0.98),
        (lambda p: encoded(p.resize((128, 96)), quality=50), 0.98),
        (lambda p: encoded(p.convert("L")), 0.98),
        (lambda p: encoded(Image.blend(p, Image.new("RGB", p.size, (200, 60, 0)), 0.2)), 0.95),
        (lambda p: encoded(p.crop((5, 4, 475, 356))), 0.8),
    ],
    ids=["jpeg 30", "webp 50", "half", "larger", "thumbnail", "grey", "tinted", "crop of 2 %"],
)
def test_an_image_made_of_an_items_is_found(scenes: EvaluationSet, change: Any, least: float) -> None:
    found = ImageOverlap((scenes,))(rows(*map(change, SCENES)))
    names = found["image_overlap_with"].to_pylist()
    recall = np.mean([name == f"scenes: {number:03}.png" for number, name in enumerate(names)])
    assert recall >= least
    assert reasons(found).count("in_scenes") == COUNT - names.count(None)


def test_no_unrelated_or_blank_image_is_rejected(scenes: EvaluationSet) -> None:
    others = [encoded(scene(1000 + seed)) for seed in range(200)]
    blank = [encoded(Image.new("RGB", (200, 200), colour)) for colour in ("white", "black", "navy")]
    assert set(reasons(ImageOverlap((scenes,))(rows(*others, *blank)))) == {None}


def mug(colour: str) -> Image.Image:
    image = Image.new("RGB", (500, 500), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((330, 180, 450, 330), outline=colour, width=25)
    draw.rectangle((130, 130, 360, 400), fill=colour)
    draw.ellipse((130, 110, 360, 150), fill=(90, 90, 90))
    return image


def test_a_product_in_another_colour_is_not_the_items_and_its_grey_copy_is(tmp_path: Path) -> None:
    mug("#B22222").save(tmp_path / "mug.png")
    mugs = EvaluationSet("mugs", str(tmp_path))
    shown = rows(
        encoded(mug("#B22222"), quality=40),
        encoded(mug("#B22222").convert("L")),
        *(encoded(mug(colour)) for colour in ("#1E5AA8", "#2E7D32", "#6A1B9A")),
    )
    assert reasons(ImageOverlap((mugs,))(shown)) == ["in_mugs", "in_mugs", None, None, None]
    assert reasons(ImageOverlap((mugs,), max_colour_distance=None)(shown)) == ["in_mugs"] * 5


def test_a_blank_image_is_found_by_its_bytes(scenes: EvaluationSet) -> None:
    found = ImageOverlap((scenes,))(rows((Path(scenes.path) / "blank.png").read_bytes()))
    assert reasons(found) == ["in_scenes"]
    assert found["image_distance"].to_pylist() == [0]


def test_the_first_set_that_has_an_image_names_it_even_where_a_later_one_is_nearer(tmp_path: Path) -> None:
    for name, data in (("small", encoded(SCENES[0].resize((128, 96)), quality=30)), ("same", encoded(SCENES[0]))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.jpg").write_bytes(data)
    small, same = (EvaluationSet(name, str(tmp_path / name)) for name in ("small", "same"))
    assert reasons(ImageOverlap((small, same))(rows(encoded(SCENES[0])))) == ["in_small"]
    assert reasons(ImageOverlap((same, small))(rows(encoded(SCENES[0])))) == ["in_same"]


def test_images_in_a_parquet_file_are_read_as_hugging_face_writes_them(tmp_path: Path) -> None:
    images = [{"bytes": encoded(image), "path": "x.jpg"} for image in SCENES[:3]]
    pq.write_table(pa.table({"image": images}), tmp_path / "val.parquet")
    stage = ImageOverlap((EvaluationSet("val", str(tmp_path / "val.parquet"), image="image"),))
    assert stage.missing() is None
    assert reasons(stage(rows(encoded(SCENES[1], quality=60), encoded(SCENES[9])))) == ["in_val", None]


def test_an_item_that_is_no_image_ends_the_run_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encoded(SCENES[0], "PNG"))
    (tmp_path / "torn.png").write_bytes(encoded(SCENES[1], "PNG")[:2000])
    with pytest.raises(EvaluationSetError, match=r"evaluation set val: torn\.png: "):
        ImageOverlap((EvaluationSet("val", str(tmp_path)),))(rows(encoded(SCENES[0])))


@settings(max_examples=60)
@given(st.data(), st.integers(0, 9))
def test_the_index_agrees_with_comparing_all(data: st.DataObject, distance: int) -> None:
    some = st.lists(st.integers(0, 2**64 - 1), max_size=20)
    items, wanted = data.draw(some), data.draw(some)
    for item in items[:10]:
        flips = data.draw(st.lists(st.integers(0, 63), max_size=distance + 1))
        wanted.append(item ^ sum(1 << bit for bit in set(flips)))
    a, b = np.array(items, np.uint64), np.array(wanted, np.uint64)
    index = ImageIndex(["" for _ in items], a, np.zeros(len(items), np.int64), distance, 1)
    found = index.nearest([None] * len(b), b)
    for number, one in enumerate(wanted):
        telling = 0 < one < 2**64 - 1
        near = [((one ^ i).bit_count(), n) for n, i in enumerate(items) if telling and 0 < i < 2**64 - 1]
        best = min((pair for pair in near if pair[0] <= distance), default=(-1, -1))
        assert (found.distance[number], found.item[number]) == best


def test_the_recipe_gives_the_stage_the_measure_of_the_rows(scenes: EvaluationSet) -> None:
    quality = ImageQuality(side=128)
    (stage,) = Decontamination((scenes,)).image(quality)
    assert isinstance(stage, ImageOverlap) and stage.quality == quality
