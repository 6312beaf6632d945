"""A set is read whole or not at all; its content is in the fingerprint; what is not there is said when planning."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from curation.decontamination.evaluation_sets import EvaluationSet, EvaluationSetError
from curation.decontamination.recipe import Decontamination
from curation.decontamination.stages import AudioOverlap, ImageOverlap, TextOverlap
from curation.errors import EngineMissing, RecipeError
from curation.vision.image_checks import ImageQuality

CAPTION = "a man rides a wave on top of a surfboard"


def texts(path: Path, column: str | None = None) -> list[tuple[str, str]]:
    return list(EvaluationSet("val", str(path), text=column).texts())


def test_the_same_texts_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"\ufeff{CAPTION}\nzwei\u2028drei\n", "utf-8")
    (tmp_path / "a.jsonl").write_text(json.dumps({"t": CAPTION}) + "\n\n" + json.dumps({"t": "zwei\u2028drei"}))
    (tmp_path / "a.csv").write_text(f'id,t\n1,{CAPTION}\n2,"zwei\u2028drei"\n', "utf-8")
    pq.write_table(pa.table({"t": [CAPTION, "zwei\u2028drei"]}), tmp_path / "a.parquet")
    for suffix in ("txt", "jsonl", "csv", "parquet"):
        found = texts(tmp_path / f"a.{suffix}", None if suffix == "txt" else "t")
        assert [text for _, text in found] == [CAPTION, "zwei\u2028drei"], suffix
        assert found[0][0] == f"a.{suffix}:1"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b'{"t": "x"}\n{"t": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b'{"t": "x"}\n["t"]\n', r"a\.jsonl:2: not a JSON object"),
        ("a.jsonl", b'{"t": "x"}\n{"u": "x"}\n', r"a\.jsonl:2: no column 't'"),
        ("a.jsonl", b'{"t": 5}\n', r"a\.jsonl:1: t is int, not a text"),
        ("a.jsonl", b'{"t": "\xff"}\n', r"cannot be read as UTF-8"),
        ("a.csv", b"u\nx\n", r"no column 't'"),
        ("a.csv", b"t,u\nx\n", r"a\.csv:1: not the columns of the header"),
        ("a.csv", b"t,u\nx,y,z\n", r"a\.csv:1: not the columns of the header"),
        ("a.parquet", b"PAR1", r"cannot be read as Parquet"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_nothing_is_left_out(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EvaluationSetError, match=f"^evaluation set val: .*{complaint}"):
        texts(tmp_path / name, "t")
    missing = TextOverlap((EvaluationSet("val", str(tmp_path / name), text="t"),)).missing()
    assert missing is not None and "evaluation set val" in missing


def test_a_set_that_is_not_there_is_said_when_planning(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    for stage, word in (
        (TextOverlap((EvaluationSet("val", gone + ".jsonl", text="t"),)), "gone.jsonl"),
        (ImageOverlap((EvaluationSet("val", gone),)), "gone is no folder"),
        (AudioOverlap((EvaluationSet("val", gone),)), "gone is no folder"),
    ):
        missing = stage.missing()
        assert missing is not None and word in missing
        assert stage.fingerprint()


def test_a_folder_without_an_item_is_missed(tmp_path: Path) -> None:
    assert (
        ImageOverlap((EvaluationSet("val", str(tmp_path)),)).missing() == f"evaluation set val: no image in {tmp_path}"
    )


def test_an_error_of_a_set_is_of_the_kind_that_ends_a_run() -> None:
    assert issubclass(EvaluationSetError, EngineMissing)


@pytest.mark.parametrize("path", ["../outside.png", "/etc/hostname", "link.png", "gone.png", ""])
def test_a_path_in_a_table_leads_to_a_file_below_its_folder_or_nowhere(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(b"x")
    os.symlink(tmp_path / "outside.png", folder / "link.png")
    (folder / "val.jsonl").write_text(json.dumps({"image": path}))
    with pytest.raises(EvaluationSetError, match=r"val\.jsonl:1: .*(not below|not found)"):
        list(EvaluationSet("val", str(folder / "val.jsonl"), image="image").media("image"))


def test_paths_begin_at_the_folder_that_the_recipe_gives(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"x")
    (tmp_path / "val.csv").write_text("image\na.png\n")
    one = EvaluationSet("val", str(tmp_path / "val.csv"), image="image", folder=str(tmp_path / "images"))
    assert [path for _, path in one.media("image")] == [tmp_path / "images" / "a.png"]


def test_the_fingerprint_follows_content_and_not_place(tmp_path: Path) -> None:
    prints = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.png").write_bytes(b"x")
        (tmp_path / place / "val.jsonl").write_text(json.dumps({"image": "a.png", "t": CAPTION}))
        prints.append(EvaluationSet("val", str(tmp_path / place / "val.jsonl"), image="image").fingerprint())
    assert prints[0] == prints[1]
    one = EvaluationSet("val", str(tmp_path / "one" / "val.jsonl"), image="image")
    (tmp_path / "one" / "a.png").write_bytes(b"y")
    assert one.fingerprint() != prints[0]
    of_texts = Decontamination((EvaluationSet("val", one.path, image="image", text="t"),)).text("caption")[0]
    before = of_texts.fingerprint()
    (tmp_path / "one" / "a.png").write_bytes(b"z")
    assert of_texts.fingerprint() == before, "a text is not compared with images"
    Path(one.path).write_text(json.dumps({"image": "a.png", "t": "another"}))
    assert of_texts.fingerprint() != before


def test_a_set_that_changed_is_read_again_once_it_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("another text of five words\n")
    stage = TextOverlap((EvaluationSet("val", str(path)),))
    rows = pa.table({"row_id": ["0"], "text": [CAPTION]})
    assert "decision" not in stage(rows).column_names
    path.write_text(f"{CAPTION}\n")
    stage.fingerprint()
    assert stage(rows)["decision"].to_pylist()[0]["reason"] == "in_val"


def test_a_recipe_is_checked_key_by_key() -> None:
    recipe = TypeAdapter(Decontamination)
    value = {"sets": [{"name": "coco-val", "path": "/e/coco.jsonl", "text": "caption", "image": "path"}]}
    assert recipe.validate_python(value).sets[0].image == "path"
    wrongs: tuple[dict[str, object], ...] = (
        {"set": []},
        {"sets": [{"name": "two words", "path": "a.txt"}]},
        {"sets": [{"name": "a", "path": "a.txt", "column": "x"}]},
        {"max_bit_error": 0.5},
    )
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            recipe.validate_python(wrong)
    for meant in (
        {"sets": [{"name": "a", "path": "a.jsonl"}]},
        {"sets": [{"name": "a", "path": "a.txt", "text": "t"}]},
        {"sets": [{"name": "a", "path": "a.txt"}, {"name": "a", "path": "b.txt"}]},
    ):
        with pytest.raises(RecipeError):
            recipe.validate_python(meant)


def test_a_set_is_used_for_what_it_holds_and_one_of_no_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    libri, coco = EvaluationSet("libri", str(tmp_path)), EvaluationSet("coco", "/e/coco.jsonl", text="t", image="i")
    both = Decontamination((libri, coco))
    assert [stage.sets for stage in both.text("caption") if isinstance(stage, TextOverlap)] == [
        (EvaluationSet("coco", "/e/coco.jsonl", text="t"),)
    ]
    assert len(both.image(ImageQuality())) == 1
    assert [stage.sets for stage in both.audio() if isinstance(stage, AudioOverlap)] == [(libri,)]
    both.require("text", "audio")
    with pytest.raises(RecipeError, match="libri has nothing to compare: text, image"):
        both.require("text", "image")
