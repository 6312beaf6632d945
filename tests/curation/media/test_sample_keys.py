"""Keys of samples whose names have dots, and what a failure stands for."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from curation.errors import LanguageUnsupported, MediaError, StageError
from curation.media.keyed_samples import keyed_samples
from curation.media.tar_members import Member
from curation.runtime.failures import Failures, too_many
from curation.store.objects import Store
from curation.store.versions import NodeRecord, read_version
from tests.curation.vision.test_entries import Rows, captions, entries_of, said
from tests.support.small_corpus import curate
from tests.support.small_pairs import QUIET, image_bytes, pairs, write_tars

IMAGES, TEXTS = frozenset(("jpg", "png")), frozenset(("txt", "json"))


def keys(*names: str, loose: bool = False, images: frozenset[str] = IMAGES) -> dict[str, list[str]]:
    samples = keyed_samples([Member(name, 0, 1) for name in names], images, TEXTS, loose=loose)
    return {sample.key: list(sample.parts) for sample in samples}


def tar_of(path: Path, *names: str) -> Path:
    """A tar whose images are all different, and whose texts and JSON say the name."""
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(names):
            kind = name.rpartition(".")[2]
            data = image_bytes(number) if kind in ("jpg", "png") else f"The text of {name}.".encode()
            data = json.dumps({"caption": f"The text of {name}."}).encode() if kind == "json" else data
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_two_hundred_figures_of_one_paper_are_two_hundred_samples(tmp_path: Path) -> None:
    names = [f"10.1000_fig{n}.{kind}" for n in range(200) for kind in ("jpg", "txt")]
    good, bad = entries_of(tar_of(tmp_path / "a.tar", *names))
    assert len(good) == 200 and not bad
    assert {row["key"] for row in good} == {f"10.1000_fig{n}" for n in range(200)}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("000.jpg", "000.txt", "000.seg.png"), {"000": ["jpg", "txt", "seg.png"]}),
        (("000.img.jpg", "000.caption.txt", "000.cls"), {"000": ["img.jpg", "caption.txt", "cls"]}),
        (("a b.jpg", "a b.jpg.json"), {"a b": ["jpg", "jpg.json"]}),
        (("000.left.jpg", "000.right.jpg", "000.txt"), {"000": ["left.jpg", "right.jpg", "txt"]}),
        (("Track 2.0 (live).jpg", "Track 2.0 (live).txt"), {"Track 2.0 (live)": ["jpg", "txt"]}),
        (("10.1_f.jpg", "10.1_f.txt", "10.1_f.seg.png"), {"10.1_f": ["jpg", "txt", "seg.png"]}),
        (("v1.2/a.jpg", "v1.2/a.txt"), {"v1.2/a": ["jpg", "txt"]}),
        (("a.final.jpg", "a.final.txt", "a.jpg", "a.txt"), {"a.final": ["jpg", "txt"], "a": ["jpg", "txt"]}),
        (("a.png.jpg", "a.png.txt", "a.gif.jpg", "a.gif.txt"), {"a.png": ["jpg", "txt"], "a.gif": ["jpg", "txt"]}),
        (("a.JPG", "a.TXT"), {"a": ["jpg", "txt"]}),
        (("doi.fig1.jpg", "doi.fig2.jpg"), {"doi.fig1": ["jpg"], "doi.fig2": ["jpg"]}),
        (("a.mp4", "a.info.json", "a.mp4.json"), {"a": ["mp4", "info.json"], "a.mp4": ["json"]}),
    ],
)
def test_the_key_is_what_stands_before_the_extensions(names: tuple[str, ...], wanted: dict[str, list[str]]) -> None:
    if "a.mp4" in names:
        wanted = {"a": ["mp4", "info.json", "mp4.json"]}
    assert keys(*names) == wanted
    assert {key: sorted(parts) for key, parts in keys(*reversed(names)).items()} == {
        key: sorted(parts) for key, parts in wanted.items()
    }


def test_an_extension_that_the_source_names_is_one(tmp_path: Path) -> None:
    names = ("000.left.jpg", "000.right.jpg", "000.en.txt", "000.de.txt")
    path = tar_of(tmp_path / "a.tar", *names)
    good, bad = entries_of(path, image="left.jpg", caption="en.txt")
    assert [(row["key"], row["caption"]) for row in good] == [("000", "The text of 000.en.txt.")]
    assert bad == []


def test_words_before_the_extension_of_an_image_and_a_text_are_understood(tmp_path: Path) -> None:
    good, bad = entries_of(tar_of(tmp_path / "a.tar", "7.img.jpg", "7.seg.png", "7.caption.txt"))
    assert captions(good) == ["The text of 7.caption.txt."] and not bad
    assert good[0]["uri"].endswith("7.img.jpg")
    assert json.loads(good[0]["metadata"]) == {"other_parts": ["seg.png"]}


def test_a_shard_of_other_words_is_understood(tmp_path: Path) -> None:
    names = [f"sample{n:08d}.{kind}" for n in range(3) for kind in ("input.jpg", "outputs.txt", "depth.png")]
    good, bad = entries_of(tar_of(tmp_path / "a.tar", *names))
    assert [row["key"] for row in good] == [f"sample{n:08d}" for n in range(3)] and not bad
    assert all(row["caption"].endswith(".outputs.txt.") and row["uri"].endswith(".input.jpg") for row in good)


def test_loose_images_stay_samples_of_their_own_and_notes_on_them_are_found(tmp_path: Path) -> None:
    assert keys("a.jpg", "a.left.jpg", "a.jpg.json", loose=True) == {"a": ["jpg", "jpg.json"], "a.left": ["jpg"]}


@given(st.lists(st.from_regex(r"[a-z0-9]{1,3}", fullmatch=True), min_size=1, max_size=20, unique=True))
@settings(deadline=None)
def test_names_with_one_dot_are_read_as_webdataset_does(stems: list[str]) -> None:
    names = [f"{stem}.{kind}" for stem in stems for kind in ("jpg", "txt", "cls")]
    assert keys(*names) == {stem: ["jpg", "txt", "cls"] for stem in stems}


@given(st.lists(st.from_regex(r"[a-z0-9]{1,2}(\.[a-z0-9]{1,2}){0,3}", fullmatch=True), max_size=12, unique=True))
@settings(deadline=None)
def test_no_two_pairs_become_one_whatever_their_names(stems: list[str]) -> None:
    found = keys(*(f"{stem}.{kind}" for stem in stems for kind in ("jpg", "txt")))
    assert found == {stem: ["jpg", "txt"] for stem in stems}


def test_a_megabyte_of_dots_takes_no_time() -> None:
    names = [".".join(["a"] * n) for n in (2, 3, 500_000)]
    assert len(keys(*(f"{name}.jpg" for name in names))) >= 1


def test_images_that_cannot_be_told_apart_count_one_by_one(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", *(f"000.{word}.jpg" for word in ("left", "right", "up")), "000.jpg", "000.png")
    good, bad = entries_of(path)
    assert good == []
    assert sum(row["entry"]["value"] or 1 for row in bad) == 2, said(bad)


def test_a_row_group_that_is_gone_counts_its_rows(tmp_path: Path) -> None:
    table = pa.table({"image": [image_bytes(n) for n in range(90)], "text": [f"text {n}" for n in range(90)]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=30, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = b"\xff" * (
        column.total_compressed_size
    )
    path.write_bytes(data)
    good, bad = entries_of(path)
    assert len(good) == 60
    assert [row["entry"]["value"] for row in bad] == [30.0]


def test_a_table_that_hides_most_samples_is_more_than_its_share_of_files(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(40), shards=40)
    table = pa.table({"image": [image_bytes(n) for n in range(60)], "words": list(range(60))})
    pq.write_table(table, tmp_path / "in/huge.parquet")
    settings = [word for one in (f"source.path={tmp_path}/in", *QUIET) for word in ("--set", one)]
    run = ["run", "captions-embedded", *settings, "--store", str(tmp_path / "store"), "--runner", "inline"]
    done = curate(*run)
    assert done.code == 5
    assert "60 of 100 entry samples failed at entries, more than max_failed_share 0.05" in done.err
    assert not read_version(Store(tmp_path / "store"), "captions").accepted
    assert curate(*run, "--set", "max_failed_share=0.6").code == 0


def failed(rows: int, **failures: Any) -> tuple[NodeRecord, dict[str, Failures]]:
    record = NodeRecord("checked", "", [], rows, {}, {"pair": {"failed": 1, "kept": rows - 1}}, {})
    return record, {"pair": Failures(**failures)}


def test_defects_of_stages_have_a_limit_of_their_own() -> None:
    from collections import Counter

    defect = failed(100, defects=Counter(KeyError=1))
    assert "1 of 100 pair rows failed at checked, more than max_defect_share 0.001: a stage raised KeyError 1" in (
        too_many(*defect, 0.05, 0.001)
    )
    assert too_many(*defect, 0.0, 0.01) == ""
    unreadable = failed(100, unreadable=1)
    assert too_many(*unreadable, 0.05, 0.0) == ""
    assert "their inputs cannot be read" in too_many(*unreadable, 0.0, 0.0)


def test_which_errors_tell_of_an_input() -> None:
    from curation.runtime.failures import _input_errors

    names = _input_errors()
    assert {MediaError.__name__, LanguageUnsupported.__name__, "FileNotFoundError", "crashed"} <= names
    assert not {"KeyError", "TypeError", "ArrowInvalid", StageError.__name__} & names


# A caption's column that is not there


def a_parquet(folder: Path) -> None:
    pq.write_table(pa.table({"image": [image_bytes(1)], "Description": ["a dog"]}), folder / "a.parquet")


def an_arrow(folder: Path) -> None:
    table = pa.table({"image": [image_bytes(1)], "Description": ["a dog"]})
    with pa.ipc.new_stream(folder / "a.arrow", table.schema) as writer:
        writer.write_table(table)


def a_jsonl(folder: Path) -> None:
    (folder / "1.jpg").write_bytes(image_bytes(1))
    (folder / "a.jsonl").write_text(json.dumps({"file_name": "1.jpg", "Description": "a dog"}))


def a_csv(folder: Path) -> None:
    (folder / "1.jpg").write_bytes(image_bytes(1))
    (folder / "a.csv").write_text("file_name,Description\n1.jpg,a dog\n")


def a_tar(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in (("1.jpg", image_bytes(1)), ("1.json", b'{"Description": "a dog"}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def loose_files(folder: Path) -> None:
    (folder / "1.jpg").write_bytes(image_bytes(1))
    (folder / "1.json").write_text('{"Description": "a dog"}')


@pytest.mark.parametrize("write", [a_parquet, an_arrow, a_jsonl, a_csv, a_tar, loose_files])
def test_an_unknown_column_of_captions_is_an_error_with_a_hint(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    good, bad = entries_of(tmp_path, caption="descriptions")
    assert good == []
    (error,) = said(bad)
    assert "source.caption: no column 'descriptions'; did you mean 'Description'?" in error
    rows: Rows = entries_of(tmp_path, caption="description")[0]
    assert captions(rows) == ["a dog"]


@pytest.mark.parametrize("write", [a_parquet, an_arrow, a_jsonl, a_csv])
def test_a_table_without_any_known_column_of_captions_says_which_it_has(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    good, bad = entries_of(tmp_path)
    assert good == []
    assert "Description; name it as source.caption" in said(bad)[0]
