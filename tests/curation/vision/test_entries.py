"""Entries: the pairs that stand in tars, tables and folders, with every fault of these told and nothing else lost."""

import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from curation.hashing import bytes_digest
from curation.media.places import read_place
from curation.pair_sources import PairSource, list_pairs
from curation.rows import source_id
from curation.runtime.chain import check_chain, run_chain
from curation.stage import undecided
from curation.vision.entries import OneRowPerPair, ReadEntries, ScanImage, read_entries
from schemas.pairs import ENTRY, PAIR, PAIR_LISTING

Rows = list[dict[str, Any]]
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def image(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 7)).save(out, "PNG")
    return out.getvalue()


def entries_of(path: Path, limit: int | None = None, **known: Any) -> tuple[Rows, Rows]:
    """What can be used, and what is decided on."""
    source = PairSource(path=str(path), **known)
    listing = list_pairs(source)
    outcome = run_chain("entries", [read_entries(source, limit)], listing)
    rows = outcome.rows.sort_by([("root", "ascending"), ("ordinal", "ascending"), ("row_id", "ascending")]).to_pylist()
    errors = {entry["row_id"]: entry for entry in outcome.ledger.to_pylist()}
    good = [row for row in rows if row["verdict"] == "kept"]
    bad = [row | {"entry": errors[row["row_id"]]} for row in rows if row["verdict"] != "kept"]
    for row in good:
        assert read_place(row["place"])
        assert row["kind"] == "entry"
        assert row["size_bytes"] > 0
    return good, bad


def said(rows: Rows) -> list[str]:
    return [row["entry"]["error"] or row["entry"]["reason"] for row in rows]


def captions(rows: Rows) -> list[str | None]:
    return [row["caption"] for row in rows]


def write_tar(path: Path, *members: tuple[str, bytes], **kinds: Any) -> Path:
    with tarfile.open(path, "w", **kinds) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(number: int, key: str | None = None) -> list[tuple[str, bytes]]:
    key = key or f"{number:09}"
    return [(f"{key}.png", image(number)), (f"{key}.txt", f"caption {number}".encode())]


# Tars


def test_a_tar_of_webdataset_gives_its_pairs_and_their_bytes(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "00000.tar")) as tar:
        for i in range(5):
            about = {
                "caption": f"caption {i}",
                "url": f"http://x/{i}",
                "license": "CC-BY-4.0",
                "width": 8,
                "key": str(i),
            }
            tar.write({"__key__": f"{i:09}", "png": image(i), "txt": f"caption {i}", "json": about})
    good, bad = entries_of(tmp_path, licence="unknown", language="en")
    assert not bad
    assert captions(good) == [f"caption {i}" for i in range(5)]
    assert [read_place(row["place"]) for row in good] == [image(i) for i in range(5)]
    first = good[0]
    assert (first["name"], first["key"]) == ("00000.tar/000000000", "000000000")
    assert first["uri"] == str(tmp_path / "00000.tar/000000000.png")
    assert (first["url"], first["licence"], first["language"]) == ("http://x/0", "CC-BY-4.0", "en")
    assert first["metadata"] == '{"key":"0","width":8}'


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_folders_are_read_in_every_dialect(tmp_path: Path, format_: int) -> None:
    folder = "/".join(["f" * 40] * 4) if format_ == tarfile.USTAR_FORMAT else "ü" * 150
    keys = [f"{folder}/{i}" for i in range(3)]
    members = [member for i, key in enumerate(keys) for member in sample(i, key)]
    write_tar(tmp_path / "x.tar", *members, format=format_)
    good, bad = entries_of(tmp_path)
    assert not bad
    assert [row["key"] for row in good] == keys
    assert [read_place(row["place"]) for row in good] == [image(i) for i in range(3)]


def test_parts_of_a_sample_may_stand_anywhere_in_the_tar(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", *(sample(i)[part] for part in (0, 1) for i in range(4)))
    good, bad = entries_of(tmp_path)
    assert captions(good) == [f"caption {i}" for i in range(4)]
    assert not bad


def test_a_key_that_is_written_again_is_kept_apart(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", *sample(1, "a"), *sample(2, "b"), *sample(3, "a"))
    good, bad = entries_of(tmp_path)
    assert [(row["key"], row["caption"], read_place(row["place"])) for row in good] == [
        ("a", "caption 1", image(1)),
        ("b", "caption 2", image(2)),
        ("a", "caption 3", image(3)),
    ]
    assert not bad


def test_parts_that_cannot_be_told_apart_fail_together(tmp_path: Path) -> None:
    (one, text), (two, other) = sample(1, "a"), sample(2, "a")
    write_tar(tmp_path / "x.tar", one, two, text, other, *sample(3))
    good, bad = entries_of(tmp_path)
    assert captions(good) == ["caption 3"]
    assert "appears twice in it" in said(bad)[0]


def test_samples_with_missing_parts_are_told_one_by_one(tmp_path: Path) -> None:
    (png, txt), (_, lonely), (bare, _) = sample(1, "a"), sample(2, "b"), sample(3, "c")
    both = [*sample(4, "d"), ("d.jpg", b"another")]
    write_tar(tmp_path / "x.tar", png, txt, lonely, bare, *both, ("README", b"?"), ("._a.png", b"?"), ("__v__", b"1"))
    good, bad = entries_of(tmp_path)
    assert captions(good) == ["caption 1", None]
    assert [row["key"] for row in bad] == ["b", "d", "README"]
    b, d, readme = said(bad)
    assert "no image; there are: txt" in b
    assert "source.image" in d
    assert str(tmp_path / "x.tar") in readme
    good, bad = entries_of(tmp_path, image="jpg")
    assert [row["key"] for row in good] == ["d"]


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE), ("c.png", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
            text = tarfile.TarInfo(name.replace("png", "txt"))
            text.size = 1
            tar.addfile(text, io.BytesIO(b"x"))
    good, bad = entries_of(tmp_path)
    assert not good
    assert ["is a link" in said(bad)[0], "is a hard link" in said(bad)[1], "is a device" in said(bad)[2]] == [True] * 3


def test_a_damaged_header_costs_what_lies_behind_it_and_says_where(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", *(member for i in range(4) for member in sample(i)))
    with tarfile.open(path) as tar:
        at = tar.getmember("000000002.png").offset
    data = bytearray(path.read_bytes())
    data[at + 10] ^= 255
    path.write_bytes(data)
    good, bad = entries_of(tmp_path)
    assert captions(good) == ["caption 0", "caption 1"]
    assert len(bad) == 1
    assert f"{path}: byte {at}: no header" in said(bad)[0]


def test_a_tar_that_is_cut_keeps_what_is_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", *(member for i in range(4) for member in sample(i)))
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        text = tar.getmember("000000002.txt")
    for cut, reason in ((text.offset_data + 3, "is cut off"), (text.offset, "without the end mark")):
        path.write_bytes(whole[:cut])
        good, bad = entries_of(tmp_path)
        assert captions(good) == ["caption 0", "caption 1"]
        # The image whose text is lost is no image without a text.
        assert [row["key"] for row in bad][:1] == ["000000002"]
        assert "damaged behind it" in said(bad)[0]
        assert reason in said(bad)[1]


def test_tars_behind_one_another_are_read_on(tmp_path: Path) -> None:
    one, two = (write_tar(tmp_path / f"{i}.tar", *sample(i)).read_bytes() for i in (1, 2))
    (tmp_path / "2.tar").unlink()
    (tmp_path / "1.tar").write_bytes(one + two)
    assert captions(entries_of(tmp_path)[0]) == ["caption 1", "caption 2"]


def test_files_that_are_no_tar_or_have_nothing_in_them_are_decided_on(tmp_path: Path) -> None:
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "noise.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "short.tar").write_bytes(b"short")
    write_tar(tmp_path / "nothing.tar")
    write_tar(tmp_path / "good.tar", *sample(1))
    good, bad = entries_of(tmp_path)
    assert captions(good) == ["caption 1"]
    assert {Path(row["uri"]).name: row["entry"]["verdict"] for row in bad} == {
        "empty.tar": "failed",
        "noise.tar": "failed",
        "short.tar": "failed",
        "nothing.tar": "rejected",
    }
    assert all(row["kind"] == "listing" for row in bad)


def test_texts_that_are_none_fail_alone_and_large_ones_are_kept(tmp_path: Path) -> None:
    long = "word " * 250_000
    members = [
        *(("a.png", image(1)), ("a.txt", b"\xff\xfe")),
        *(("b.png", image(2)), ("b.json", b"{broken")),
        *(("c.png", image(3)), ("c.json", b"[1]")),
        *(("d.png", image(4)), ("d.json", b'{"caption": 5}')),
        *(("e.png", image(5)), ("e.txt", long.encode())),
        *(("f.png", image(6)), ("f.json", b'{"caption": "' + rb"\ud800" + b'"}')),
        *(("g.png", image(7)), ("g.txt", b"\xef\xbb\xbfwith a mark"), ("g.npz", b"?")),
        *(("h.png", image(8)), ("h.json", b'{"caption": "from json", "score": NaN, "big": 1e999}')),
    ]
    write_tar(tmp_path / "x.tar", *members)
    good, bad = entries_of(tmp_path)
    assert captions(good) == [long, "with a mark", "from json"]
    assert [row["key"] for row in bad] == ["a", "b", "c", "d", "f"]
    assert good[1]["metadata"] == '{"other_parts":["npz"]}'
    assert good[2]["metadata"] == '{"big":null,"score":null}'


def test_several_captions_of_one_image_are_several_entries(tmp_path: Path) -> None:
    about = json.dumps({"captions": ["one", "two", "three"], "other": "x"}).encode()
    write_tar(tmp_path / "x.tar", ("a.png", image(1)), ("a.json", about), *sample(2, "b"))
    good, bad = entries_of(tmp_path)
    assert sorted(map(str, captions(good))) == ["caption 2", "one", "three", "two"]
    assert not bad


def test_long_metadata_stays_out_and_is_named(tmp_path: Path) -> None:
    about = json.dumps({"caption": "x", "exif": "e" * 20_000, "width": 8}).encode()
    write_tar(tmp_path / "x.tar", ("a.png", image(1)), ("a.json", about))
    good, _ = entries_of(tmp_path)
    assert json.loads(good[0]["metadata"]) == {"left_out": ["exif"], "width": 8}


@FEW
@given(st.data())
def test_no_damage_of_a_tar_ends_a_run_or_makes_up_a_pair(tmp_path: Path, data: st.DataObject) -> None:
    path = write_tar(tmp_path / "x.tar", *(member for i in range(3) for member in sample(i)))
    content = bytearray(path.read_bytes()[: data.draw(st.integers(1, 6 * 1024 + 600))])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    source = PairSource(path=str(tmp_path))
    listing = list_pairs(source)
    outcome = run_chain("entries", [ReadEntries(), ScanImage()], listing)
    assert sum(outcome.counts.get("entry", {}).values()) + sum(outcome.counts["listing"].values()) >= 1
    for row in outcome.rows.to_pylist():
        if row["verdict"] == "kept" and row["caption"] in {f"caption {i}" for i in range(3)}:
            assert row["place"]["path"] == str(path)


# Tables


def as_bytes(images: list[bytes | None]) -> pa.Array:
    return pa.array(images, pa.binary())


def as_structs(images: list[bytes | None]) -> pa.Array:
    return pa.array([None if one is None else {"bytes": one, "path": f"{i}.png"} for i, one in enumerate(images)])


@pytest.mark.parametrize("column", [as_bytes, as_structs])
@pytest.mark.parametrize("holes", [False, True])
def test_images_in_parquet_are_found_by_their_rows(
    tmp_path: Path, column: Callable[[list[bytes | None]], pa.Array], holes: bool
) -> None:
    images: list[bytes | None] = [image(i) for i in range(50)]
    if holes:
        images[7] = None
    table = pa.table({"jpg": column(images), "caption": [f"caption {i}" for i in range(50)]})
    table = table.append_column("status", pa.array(["success"] * 7 + ["failed_to_download"] + ["success"] * 42))
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=8)
    good, bad = entries_of(tmp_path)
    expected = [i for i in range(50) if not (holes and i == 7)]
    assert captions(good) == [f"caption {i}" for i in expected]
    assert [read_place(row["place"]) for row in good] == [images[i] for i in expected]
    assert good[0]["uri"] == f"{tmp_path}/x.parquet:0"
    assert said(bad) == ([f"{tmp_path}/x.parquet:7: no image: failed_to_download"] if holes else [])


def test_parquet_may_name_images_by_path_and_say_other_things(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        (tmp_path / f"images/{i}.png").write_bytes(image(i))
    table = pa.table(
        {
            "image_path": [f"images/{i}.png" for i in range(3)],
            "captions": [["a", "b"], [], None],
            "license": ["MIT", None, "CC0-1.0"],
            "when": pa.array([0, 1, 2], pa.timestamp("s")),
            "vector": pa.array([[1.0], [2.0], [3.0]]),
            "thumb": pa.array([b"1", b"2", b"3"]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    good, bad = entries_of(tmp_path, licence="source")
    assert not bad
    assert captions(good[:2]) in (["a", "b"], ["b", "a"])
    assert captions(good[2:]) == [None, None]
    assert [row["licence"] for row in good] == ["MIT", "MIT", "source", "CC0-1.0"]
    assert good[0]["metadata"] == '{"when":"1970-01-01 00:00:00.000"}'
    assert good[0]["uri"] == str(tmp_path / "images/0.png")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_text_that_is_not_utf8_costs_its_row_alone_and_nanoseconds_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    texts = pa.array([b"zero", b"caf\xe9", b"two"]).view(pa.string())
    when = pa.array([1, 2, 1 << 60], pa.timestamp("ns"))
    table = pa.table({"image": as_bytes([image(i) for i in range(3)]), "text": texts, "when": when})
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    good, bad = entries_of(tmp_path)
    assert captions(good) == ["zero", "two"]
    assert json.loads(good[0]["metadata"]) == {"when": "1970-01-01 00:00:00.000000001"}
    assert said(bad)[0].startswith(f"{path}:1: cannot be read")


def test_columns_may_be_named(tmp_path: Path) -> None:
    table = pa.table({"alt": ["no"], "text": ["yes"], "image": as_bytes([image(1)]), "second": as_bytes([image(2)])})
    pq.write_table(table, tmp_path / "x.parquet")
    good, _ = entries_of(tmp_path, caption="text", image="second")
    assert (good[0]["caption"], read_place(good[0]["place"])) == ("yes", image(2))
    _, bad = entries_of(tmp_path, image="third")
    assert "source.image" in said(bad)[0]


@pytest.mark.parametrize("text", ["caption", "nothing"])
def test_a_table_without_images_or_texts_fails_itself(tmp_path: Path, text: str) -> None:
    pq.write_table(pa.table({text: ["x"], "n": [1]}), tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text(f"{text},n\nx,1\n")
    _, bad = entries_of(tmp_path)
    assert [row["kind"] for row in bad] == ["listing", "listing"]
    assert all("name it as source.image" in one for one in said(bad))


def test_a_set_of_datasets_on_disk_is_read_as_it_lies(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {"image": [{"bytes": image(i), "path": None} for i in range(30)], "text": [f"t{i}" for i in range(30)]}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made, "test": made.select(range(3))}).save_to_disk(tmp_path / "saved")
    made.to_parquet(tmp_path / "x.parquet")
    good, bad = entries_of(tmp_path)
    assert not bad
    assert sorted(map(str, captions(good))) == sorted([*rows["text"], *rows["text"], "t0", "t1", "t2"])
    for row in good:
        assert read_place(row["place"]) == image(int(row["caption"][1:]))
        assert row["metadata"] is None


def test_an_arrow_stream_that_is_cut_keeps_its_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    table = pa.table({"image": as_bytes([image(i) for i in range(40)]), "text": [str(i) for i in range(40)]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=10)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    good, bad = entries_of(tmp_path)
    assert captions(good) == [str(i) for i in range(20)]
    assert [read_place(row["place"]) for row in good] == [image(i) for i in range(20)]
    assert f"{path}: behind row 20" in said(bad)[0]


def test_a_row_group_of_rubbish_costs_its_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = [f"caption {i} " + "".join(map(chr, np.random.default_rng(i).integers(97, 123, 99))) for i in range(30)]
    table = pa.table({"text": texts, "image": as_bytes([image(i) for i in range(30)])})
    pq.write_table(table, path, row_group_size=10, use_dictionary=False, compression="zstd")
    at = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[at : at + 200] = b"\xff" * 200
    path.write_bytes(data)
    good, bad = entries_of(tmp_path)
    assert captions(good) == [*texts[:10], *texts[20:]]
    assert "rows 10 to 19 cannot be read" in said(bad)[0]


@FEW
@given(st.data())
def test_no_damage_of_arrow_or_parquet_ends_a_run(tmp_path: Path, data: st.DataObject) -> None:
    table = pa.table({"image": as_bytes([image(i) for i in range(9)]), "text": [str(i) for i in range(9)]})
    path = tmp_path / data.draw(st.sampled_from(["x.arrow", "x.parquet"]))
    for old in tmp_path.iterdir():
        old.unlink()
    if path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table, max_chunksize=3)
    else:
        pq.write_table(table, path, row_group_size=3)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    listing = list_pairs(PairSource(path=str(tmp_path)))
    outcome = run_chain("entries", [ReadEntries(), ScanImage()], listing)
    assert outcome.ledger.num_rows >= 1


# Lines of text


def with_images(folder: Path, count: int = 4) -> Path:
    for i in range(count):
        (folder / f"{i}.png").write_bytes(image(i))
    return folder


def test_broken_lines_of_json_fail_with_their_numbers(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"file_name": "0.png", "text": "zero", "extra": 1}',
        b"{broken",
        b"",
        b"[1, 2]",
        b'{"file_name": "1.png", "text": ["one", "uno"]}',
        b'{"file_name": "missing.png", "text": "x"}',
        b'{"text": "no image"}',
        b'{"file_name": 5, "text": "x"}',
        b'{"file_name": "2.png", "text": {"a": 1}}',
        b"[" * 100_000,
        b'{"image": "3.png", "caption": null}\r',
    ]
    (with_images(tmp_path) / "metadata.jsonl").write_bytes(b"\n".join(lines))
    good, bad = entries_of(tmp_path)
    assert sorted(map(str, captions(good))) == ["None", "one", "uno", "zero"]
    assert [row["ordinal"] for row in bad] == [2, 4, 6, 7, 8, 9, 10]
    assert all(f"metadata.jsonl:{row['ordinal']}" in row["entry"]["error"] for row in bad)
    assert (good[0]["name"], good[0]["metadata"]) == ("0.png", '{"extra":1}')


def test_csv_is_read_with_its_quotes_and_broken_lines_fail_with_their_numbers(tmp_path: Path) -> None:
    text = (
        "\ufefffile_name,text,note\r\n"
        '0.png,"zero, with ""quotes""\r\nand a line",a\r\n'
        "1.png,one\r\n"
        '1.png,5" nail,\r\n'
        "\r\n"
        '2.png,"never closed,x\r\n'
        "3.png,three,b\r\n"
        '2.png,"closed" badly,x\r\n'
        "2.png,two,c"
    )
    (with_images(tmp_path) / "x.csv").write_bytes(text.encode())
    good, bad = entries_of(tmp_path)
    assert captions(good) == ['zero, with "quotes"\r\nand a line', '5" nail', "three", "two"]
    assert [row["metadata"] for row in good] == ['{"note":"a"}', None, '{"note":"b"}', '{"note":"c"}']
    assert [row["ordinal"] for row in bad] == [4, 7, 9]
    assert "2 fields, where the header has 3" in said(bad)[0]


def test_tsv_and_latin_letters(tmp_path: Path) -> None:
    rows = [b"file\tcaption", b'0.png\tsays "hi", twice', b"1.png\tcaf\xe9", b"2.png\tfine"]
    (with_images(tmp_path) / "x.tsv").write_bytes(b"\n".join(rows))
    good, bad = entries_of(tmp_path)
    assert captions(good) == ['says "hi", twice', "fine"]
    assert "not UTF-8" in said(bad)[0]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_no_path_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(image(9))
    inside = tmp_path / "inside"
    inside.mkdir()
    with_images(inside, 1)
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "up").symlink_to(tmp_path)
    (inside / "good.png").symlink_to(inside / "0.png")
    (inside / "folder.png").mkdir()
    bad_paths = ["../secret.png", str(tmp_path / "secret.png"), "link.png", "up/secret.png", "/dev/zero", "folder.png"]
    bad_paths += ["https://example.org/x.png", "a\0b.png"]
    paths = ["0.png", str(inside / "0.png"), "good.png", "x/../0.png", *bad_paths]
    if name.endswith("csv"):
        (inside / name).write_text("image,text\n" + "".join(f"{path},t\n" for path in paths))
    else:
        (inside / name).write_text("".join(json.dumps({"image": path, "text": "t"}) + "\n" for path in paths))
    good, bad = entries_of(inside)
    assert len(good) == 4
    assert {row["place"]["path"] for row in good} == {str(inside / "0.png"), str(inside / "good.png")}
    assert len(bad) == len(bad_paths)
    assert sum("leads out of" in one for one in said(bad)) == 5
    # A folder of images that the recipe names is as good as the table's own.
    good, bad = entries_of(inside, image_folder=str(tmp_path))
    assert "secret.png" in {row["name"] for row in good}


def test_a_changed_image_is_another_entry(tmp_path: Path) -> None:
    (with_images(tmp_path, 1) / "x.jsonl").write_text('{"image": "0.png", "text": "t"}')
    before = entries_of(tmp_path)[0][0]
    (tmp_path / "0.png").write_bytes(image(77) + b"longer")
    after = entries_of(tmp_path)[0][0]
    assert before["digest"] != after["digest"]
    assert before["row_id"] == after["row_id"]


@FEW
@given(st.lists(st.sampled_from(["0.png,ok\n", "1.png,fine\r\n", '2.png,"a\nb"\n', '"', ",", "\n", "\r", "x", "é"])))
def test_every_line_of_a_csv_is_accounted_for(tmp_path: Path, pieces: list[str]) -> None:
    (with_images(tmp_path) / "x.csv").write_bytes(("image,text\n" + "".join(pieces)).encode())
    good, bad = entries_of(tmp_path)

    def lines(text: str) -> int:
        return sum(line.removesuffix("\r") != "" for line in text.split("\n"))

    # A text of several lines has a closing quote on its last, and a path before its first.
    inner = [row["caption"].split("\n")[1:] for row in good if row["caption"]]
    of_good = len(good) + sum(1 + lines("\n".join(one[:-1])) for one in inner if one)
    of_bad = sum(row["kind"] == "entry" for row in bad)
    assert of_good + of_bad <= lines("".join(pieces))
    # A record of several lines whose image is not there is one failure.
    if not any('"' in piece for piece in pieces) or not of_bad:
        assert of_good + of_bad == lines("".join(pieces))


@FEW
@given(st.lists(st.one_of(st.binary(max_size=30), st.just(b'{"image": "0.png", "text": "t"}'))))
def test_every_line_of_json_is_accounted_for(tmp_path: Path, pieces: list[bytes]) -> None:
    (with_images(tmp_path, 1) / "x.jsonl").write_bytes(b"\n".join(pieces))
    good, bad = entries_of(tmp_path)
    lines = [line for line in b"\n".join(pieces).removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(good) + len(bad) == max(1, len(lines))
    assert len(good) >= sum(piece.startswith(b'{"image"') for piece in pieces)


def test_loose_files_are_put_together_by_their_names(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"0000{i}.v1.png").write_bytes(image(i))
        (tmp_path / f"0000{i}.v1.txt").write_text(f"caption {i}")
    (tmp_path / "00002.v1.txt").unlink()
    (tmp_path / "00003.txt").write_text("without an image")
    (tmp_path / "00004.png").symlink_to("/etc/passwd")
    good, bad = entries_of(tmp_path)
    assert captions(good) == ["caption 0", "caption 1", None]
    assert [row["key"] for row in bad] == ["00003", "00004"]
    assert good[0]["uri"] == str(tmp_path / "00000.v1.png")


# The first look


@pytest.mark.parametrize("kind", ["tar", "parquet", "jsonl", "csv"])
def test_a_limit_takes_a_share_of_each_file_and_a_larger_one_adds(tmp_path: Path, kind: str) -> None:
    numbers = range(40)
    if kind == "tar":
        write_tar(tmp_path / "x.tar", *(member for i in numbers for member in sample(i)))
    elif kind == "parquet":
        table = pa.table({"image": as_bytes([image(i) for i in numbers]), "text": [str(i) for i in numbers]})
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=7)
    else:
        with_images(tmp_path, 40)
        rows = {
            "jsonl": [json.dumps({"image": f"{i}.png", "text": str(i)}) for i in numbers],
            "csv": ["image,text", *(f"{i}.png,{i}" for i in numbers)],
        }
        (tmp_path / f"x.{kind}").write_text("\n".join(rows[kind]))
    few, more, all_ = (entries_of(tmp_path, limit)[0] for limit in (5, 15, 99))
    ids = [{row["row_id"] for row in rows} for rows in (few, more, all_)]
    assert list(map(len, ids)) == [5, 15, 40]
    assert ids[0] < ids[1] < ids[2]
    by_id = {row["row_id"]: row for row in all_}
    assert all(by_id[row["row_id"]] == row for row in more)


def test_captions_count_against_the_limit(tmp_path: Path) -> None:
    members = [(f"{i}.png", image(i)) for i in range(9)]
    members += [(f"{i}.json", json.dumps({"captions": ["a", "b", "c"]}).encode()) for i in range(9)]
    write_tar(tmp_path / "x.tar", *members)
    assert [len(entries_of(tmp_path, limit)[0]) for limit in (1, 4, 27, 100)] == [1, 4, 27, 27]


def write_tars_of(folder: Path, *counts: int) -> None:
    for number, count in enumerate(counts):
        write_tar(folder / f"{number:05}.tar", *(member for i in range(count) for member in sample(1000 * number + i)))


@pytest.mark.parametrize("counts", [(40,), (5, 30, 30), (1, 1, 1, 60), (7,) * 9, (3, 3), (20,) * 20])
@pytest.mark.parametrize("limit", [1, 2, 10, 23, 40, 63, 1000])
def test_a_first_look_takes_as_many_pairs_as_it_says_whatever_the_files_hold(
    tmp_path: Path, counts: tuple[int, ...], limit: int
) -> None:
    write_tars_of(tmp_path, *counts)
    good, bad = entries_of(tmp_path, limit)
    assert len(good) == min(limit, sum(counts))
    assert {(row["entry"]["verdict"], row["entry"]["reason"]) for row in bad} <= {("sampled_out", "not_drawn")}
    assert len({row["root"] for row in good}) + len(bad) == len(counts)
    if limit >= len(counts):
        assert len({row["root"] for row in good}) == len(counts)


def test_a_first_look_tells_damage_besides(tmp_path: Path) -> None:
    write_tars_of(tmp_path, 10, 10)
    (tmp_path / "x.tar").write_bytes(b"no tar at all" * 100)
    good, bad = entries_of(tmp_path, 7)
    assert len(good) == 7 and [row["uri"] for row in bad] == [str(tmp_path / "x.tar")]


# Scan and pairs


def pairs_of(path: Path, **known: Any) -> tuple[Rows, Rows]:
    source = PairSource(path=str(path), **known)
    listing = list_pairs(source)
    stages = [read_entries(source), ScanImage(), OneRowPerPair()]
    rows = run_chain("pairs", stages, listing, together="kind").rows.sort_by("name").to_pylist()
    return [row for row in rows if row["verdict"] == "kept"], [row for row in rows if row["verdict"] != "kept"]


def test_the_three_stages_fit_together() -> None:
    left = check_chain("pairs", PAIR_LISTING.names, [ReadEntries(), ScanImage(), OneRowPerPair()])
    assert set(left) == {name for name in PAIR.names if name != "parents"}
    assert set(check_chain("entries", PAIR_LISTING.names, [ReadEntries()])) == set(ENTRY.names) - {"parents"}


def test_one_image_with_three_captions_is_three_pairs_and_one_image(tmp_path: Path) -> None:
    about = json.dumps({"captions": ["one", "two", "three", "one"]}).encode()
    write_tar(tmp_path / "x.tar", ("a.png", image(1)), ("a.json", about))
    good, _ = pairs_of(tmp_path)
    assert sorted(row["caption"] for row in good) == ["one", "three", "two"]
    assert {row["image_hash"] for row in good} == {bytes_digest(image(1))}
    assert {row["image_bytes"] for row in good} == {len(image(1))}
    assert all(row["occurrences"] == ["x.tar/a"] for row in good)


def test_the_same_pair_under_several_names_is_one_with_all_terms(tmp_path: Path) -> None:
    for name, licence in (("b", "MIT"), ("a", None), ("c", "CC0-1.0"), ("d", "MIT")):
        about = json.dumps({"licence": licence, "consent": "given"}).encode()
        write_tar(tmp_path / f"{name}.tar", *sample(1, "k"), ("k.json", about), *sample(ord(name), "own"))
    good, bad = pairs_of(tmp_path)
    assert not bad
    assert len(good) == 5
    shared = next(row for row in good if row["caption"] == "caption 1")
    assert shared["occurrences"] == [f"{name}.tar/k" for name in "abcd"]
    assert (shared["name"], shared["licence"], shared["consent"]) == ("a.tar/k", "CC0-1.0; MIT", "given")
    assert (shared["root"], shared["ordinal"]) == (source_id(["file", "a.tar"]), 0)


def test_no_text_and_an_empty_text_are_not_the_same_pair(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", ("a.png", image(1)), ("b.png", image(1)), ("c.png", image(1)), ("c.txt", b""))
    good, _ = pairs_of(tmp_path)
    assert sorted((row["caption"], len(row["occurrences"])) for row in good if row["caption"] == "") == [("", 1)]
    assert [len(row["occurrences"]) for row in good if row["caption"] is None] == [2]


def test_pairs_do_not_depend_on_the_order_of_entries(tmp_path: Path) -> None:
    for name in "ab":
        write_tar(tmp_path / f"{name}.tar", *(member for i in range(9) for member in sample(i % 5, f"{i}")))
    listing = list_pairs(PairSource(path=str(tmp_path)))
    entries = undecided(ScanImage()(undecided(ReadEntries()(listing))))
    pairs = OneRowPerPair()(entries)
    assert pairs.schema.equals(PAIR)
    assert pairs.num_rows == 5
    order = np.random.default_rng(0).permutation(entries.num_rows)
    again = OneRowPerPair()(entries.take(pa.array(order)))
    assert again.sort_by("row_id").equals(pairs.sort_by("row_id"))
    expected = sum(row["occurrences"] != [] and len(row["parents"]) for row in pairs.to_pylist())
    assert expected == entries.num_rows


def test_captions_that_are_one_when_decoded_are_one_pair_and_the_sources_text_is_kept(tmp_path: Path) -> None:
    texts = ["Tom &amp; Jerry", "Tom & Jerry", "Tom &amp;amp; Jerry", "I &lt;3 you"]
    write_tar(tmp_path / "x.tar", ("a.png", image(1)), ("a.json", json.dumps({"captions": texts}).encode()))
    good, _ = pairs_of(tmp_path)
    found = {row["caption"]: row["source_caption"] for row in good}
    assert set(found) == {"Tom & Jerry", "I <3 you"}
    assert found["I <3 you"] == "I &lt;3 you" and found["Tom & Jerry"] in (None, texts[0], texts[2])


def test_an_image_that_is_gone_at_the_scan_fails_alone(tmp_path: Path) -> None:
    (with_images(tmp_path, 3) / "x.csv").write_text("image,text\n0.png,a\n1.png,b\n2.png,c\n")
    entries = undecided(ReadEntries()(list_pairs(PairSource(path=str(tmp_path)))))
    (tmp_path / "1.png").unlink()
    decisions = ScanImage()(entries)["decision"].to_pylist()
    assert [decision and decision["reason"] for decision in decisions] == [None, "MediaError", None]
    assert str(tmp_path / "1.png") in decisions[1]["error"]


def test_arrow_offsets_that_lie_are_found_before_they_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    table = pa.table({"image": as_bytes([b"a" * 1000, b"b" * 1000]), "text": ["x", "y"]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = path.read_bytes()
    offsets = struct.pack("<3i", 0, 1000, 2000)
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, struct.pack("<3i", 0, 1 << 30, 2000)))
    good, bad = entries_of(tmp_path)
    assert not good
    assert len(bad) == 1
