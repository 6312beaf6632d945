"""Sources of image-text pairs: which files are listed, which are not, and what makes a file another."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import SourceError
from curation.pair_sources import PairSource, list_pairs
from schemas.pairs import PAIR_LISTING


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def listed(path: Path | str, limit: int | None = None, **known: Any) -> dict[str, dict[str, Any]]:
    rows = list_pairs(PairSource(path=str(path), **known), limit).to_pylist()
    assert len({row["row_id"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


def formats(path: Path | str) -> dict[str, str]:
    return {name: row["format"] for name, row in listed(path).items()}


def test_every_known_format_below_a_folder_is_listed_and_nothing_is_opened(tmp_path: Path) -> None:
    touch(tmp_path, "a.tar", "b/b.parquet", "c/data-00000-of-00001.arrow", "c/state.json", "d/x.jsonl", "e/Y.CSV")
    touch(tmp_path, "e/z.tsv", ".hidden.tar", ".cache/x.tar", "c/cache-0a1b.arrow", "notes.md")
    assert formats(tmp_path) == {
        "a.tar": "tar",
        "b/b.parquet": "parquet",
        "c/data-00000-of-00001.arrow": "arrow",
        "d/x.jsonl": "jsonl",
        "e/Y.CSV": "csv",
        "e/z.tsv": "csv",
    }


def test_what_img2dataset_writes_beside_its_tars_and_folders_is_no_source(tmp_path: Path) -> None:
    touch(tmp_path, "00000.tar", "00000.parquet", "00000_stats.json", "other.parquet")
    touch(tmp_path, "00001/000010000.jpg", "00001/000010000.txt", "00001/000010000.json", "00001.parquet")
    assert formats(tmp_path) == {"00000.tar": "tar", "00001": "files", "other.parquet": "parquet"}


def test_loose_images_belong_to_the_table_above_them_where_there_is_one(tmp_path: Path) -> None:
    touch(tmp_path, "metadata.jsonl", "train/a.jpg", "train/a.txt", "train/deep/b.png", "train/deep/b.json")
    assert formats(tmp_path) == {"metadata.jsonl": "jsonl"}
    (tmp_path / "metadata.jsonl").unlink()
    assert formats(tmp_path) == {"train": "files", "train/deep": "files"}
    assert formats(tmp_path / "train") == {"train": "files", "deep": "files"}


def test_a_glob_takes_files_and_folders(tmp_path: Path) -> None:
    touch(tmp_path, "x/0.tar", "x/1.tar", "y/0.tar", "z/0.parquet")
    assert formats(tmp_path / "*/0.tar") == {"x/0.tar": "tar", "y/0.tar": "tar"}
    assert formats(tmp_path / "[xz]") == {"x/0.tar": "tar", "x/1.tar": "tar", "z/0.parquet": "parquet"}
    assert formats(tmp_path / "x/0.tar") == {"0.tar": "tar"}
    touch(tmp_path, "od[d]/0.tar")
    assert formats(tmp_path / "od[d]") == {"0.tar": "tar"}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "source.path is empty"),
        ("nowhere", "not found"),
        ("nowhere/*.tar", "no pairs in"),
        ("images", "no pairs in"),
        ("images/a.jpg", "known are .tar .parquet .arrow .jsonl"),
        ("zipped", "unpack it"),
        ("zipped/x.tar.gz", "unpack it"),
    ],
)
def test_a_source_without_pairs_says_which_key_and_what_is_known(tmp_path: Path, path: str, said: str) -> None:
    touch(tmp_path, "images/a.jpg", "zipped/x.tar.gz", "zipped/y.zip")
    with pytest.raises(SourceError, match=r"^source\.path") as error:
        list_pairs(PairSource(path=path and str(tmp_path / path)))
    assert said in str(error.value)


def test_a_packed_file_among_others_is_a_row_of_its_own(tmp_path: Path) -> None:
    rows = listed(touch(tmp_path, "a.tar", "b.tar.gz"))
    assert rows["a.tar"]["error"] is None
    assert "unpack it" in rows["b.tar.gz"]["error"]


def test_terms_of_the_source_go_to_every_row(tmp_path: Path) -> None:
    table = list_pairs(PairSource(path=str(touch(tmp_path, "a.tar")), language="de", licence="CC0-1.0", consent="yes"))
    assert table.schema.equals(PAIR_LISTING)
    row = table.to_pylist()[0]
    assert [row[name] for name in ("language", "licence", "consent")] == ["de", "CC0-1.0", "yes"]


def test_a_limit_takes_the_same_files_whatever_else_there_is(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i:05}.tar" for i in range(50)))
    ten, twenty = (set(listed(tmp_path, limit)) for limit in (10, 20))
    assert len(ten) == 10
    assert ten < twenty
    assert ten != {f"{i:05}.tar" for i in range(10)}


def test_a_changed_image_changes_the_row_of_its_table_and_no_other(tmp_path: Path) -> None:
    touch(tmp_path, "a/metadata.jsonl", "a/sub/x.jpg", "b/metadata.csv", "b/y.jpg", "c/z.jpg", "c/z.txt", "d.tar")
    touch(tmp_path, "e/plain.parquet")
    before = listed(tmp_path)
    assert before["d.tar"]["beside"] is None
    assert before["e/plain.parquet"]["beside"] is None
    (tmp_path / "a/sub/x.jpg").write_bytes(b"changed")
    after = listed(tmp_path)
    assert [name for name in after if after[name] != before[name]] == ["a/metadata.jsonl"]
    (tmp_path / "c/z.txt").write_bytes(b"changed")
    last = listed(tmp_path)
    assert [name for name in last if last[name] != after[name]] == ["c"]


def test_images_of_another_folder_are_watched_there(tmp_path: Path) -> None:
    touch(tmp_path, "tables/x.csv", "images/y.jpg")
    known = {"image_folder": str(tmp_path / "images")}
    before = listed(tmp_path / "tables", **known)
    (tmp_path / "images/y.jpg").write_bytes(b"changed")
    assert listed(tmp_path / "tables", **known) != before
    with pytest.raises(SourceError, match=r"source\.image_folder"):
        listed(tmp_path / "tables", image_folder=str(tmp_path / "nowhere"))


def test_a_name_that_is_no_text_is_one_row_with_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "good.tar")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xffd.tar")).write_bytes(b"")
    rows = listed(tmp_path)
    assert [name for name, row in rows.items() if row["error"]] == ["b\\udcffd.tar"]


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.tar")
    (tmp_path / "a/again").symlink_to(tmp_path)
    assert list(listed(tmp_path)) == ["a/x.tar"]


def test_a_file_that_cannot_be_read_is_listed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "there.parquet")
    (tmp_path / "lines.jsonl").write_text(json.dumps({"x": 1}))
    rows = listed(tmp_path)
    assert rows["gone.parquet"]["size_bytes"] is None
    assert rows["there.parquet"]["size_bytes"] > 0
