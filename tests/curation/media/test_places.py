"""Places: the bytes that lie at each of them, in any order; and what is said where they do not."""

import io
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import MediaError
from curation.hashing import bytes_digest
from curation.media import places
from curation.media.places import read_place


def place(path: Path, format_: str = "file", offset: int | None = None, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "format": format_, "offset": offset, "size": None, "column": None} | more


def cells(count: int) -> list[bytes]:
    return [f"image {i} ".encode() * (i % 7 + 1) for i in range(count)]


def write(path: Path, column: pa.Array, rows: int = 10) -> tuple[Path, str]:
    """A file of many row groups or batches, and its format."""
    table = pa.table({"other": pa.array(range(len(column))), "image": column})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows)
        return path, "parquet"
    make = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, make(sink, table.schema) as out:
        out.write_table(table, max_chunksize=rows)
    return path, "arrow"


@pytest.mark.parametrize("name", ["x.parquet", "stream.arrow", "file.arrow"])
@pytest.mark.parametrize("group_bytes", [1 << 27, 100])
@pytest.mark.parametrize("struct", [False, True])
def test_cells_are_found_in_any_order(
    tmp_path: Path, name: str, group_bytes: int, struct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "GROUP_BYTES", group_bytes)
    expected = cells(95)
    values = [{"bytes": one, "path": None} for one in expected] if struct else expected
    path, format_ = write(tmp_path / name, pa.array(values))
    column = "image.bytes" if struct else "image"
    order = [*range(95), *random.Random(0).sample(range(95), 95)]
    assert [read_place(place(path, format_, i, column=column)) for i in order] == [expected[i] for i in order]


def test_a_large_row_group_is_not_held_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "GROUP_BYTES", 1 << 20)
    noise = [random.Random(i).randbytes(1 << 16) for i in range(256)]
    path = tmp_path / "x.parquet"
    # Pages are read whole, and by default one has 1,024 rows.
    pq.write_table(pa.table({"image": noise}), path, row_group_size=256, write_batch_size=8, use_dictionary=False)
    before = pa.total_allocated_bytes()
    for i in range(200):
        assert read_place(place(path, "parquet", i, column="image")) == noise[i]
    assert pa.total_allocated_bytes() - before < 8 << 20


def test_a_stretch_of_a_tar_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(3):
            info = tarfile.TarInfo(f"{i}.png")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"pic-%d" % i))
    with tarfile.open(path) as tar:
        offset = tar.getmember("1.png").offset_data
    assert read_place(place(path, "tar", offset, size=5)) == b"pic-1"
    with pytest.raises(MediaError, match="ends before"):
        read_place(place(path, "tar", path.stat().st_size - 2, size=5))
    with pytest.raises(MediaError, match="more than 4"):
        read_place(place(path, "tar", offset, size=5), max_bytes=4)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"image")
    assert read_place(place(path)) == b"image"
    with pytest.raises(MediaError, match="more than 3"):
        read_place(place(path), max_bytes=3)


@pytest.mark.parametrize("name", ["x.parquet", "stream.arrow"])
def test_a_changed_file_is_read_again_and_its_old_content_is_missed(tmp_path: Path, name: str) -> None:
    path, format_ = write(tmp_path / name, pa.array([b"old"]))
    here = place(path, format_, 0, column="image")
    content = bytes_digest(b"old")
    assert read_place(here, content=content) == b"old"
    path.unlink()
    write(path, pa.array([b"newer"]))
    assert read_place(here) == b"newer"
    with pytest.raises(MediaError, match="changed since it was scanned"):
        read_place(here, content=content)


@pytest.mark.parametrize("name", ["x.parquet", "stream.arrow"])
def test_what_is_not_there_is_said_with_the_files_name(tmp_path: Path, name: str) -> None:
    path, format_ = write(tmp_path / name, pa.array([b"a", None, b"toolong"]))
    for wrong in (
        place(path, format_, 3, column="image"),
        place(path, format_, -1, column="image"),
        place(path, format_, 0, column="nothing"),
        place(path, format_, 0, column="image.bytes"),
        place(path, format_, 1, column="image"),
        place(tmp_path / "gone", format_, 0, column="image"),
        place(tmp_path, format_, 0, column="image"),
    ):
        with pytest.raises(MediaError, match=str(tmp_path)):
            read_place(wrong)
    with pytest.raises(MediaError, match="more than 3"):
        read_place(place(path, format_, 2, column="image"), max_bytes=3)


@pytest.mark.parametrize("format_", ["file", "tar", "parquet", "arrow"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, format_: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="not a plain file"):
        read_place(place(tmp_path / "pipe", format_, 0, size=1, column="image"))


def test_batches_before_the_damage_of_a_stream_are_read(tmp_path: Path) -> None:
    path, _ = write(tmp_path / "stream.arrow", pa.array(cells(40)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert read_place(place(path, "arrow", 9, column="image")) == cells(40)[9]
    with pytest.raises(MediaError, match="there is no row 39"):
        read_place(place(path, "arrow", 39, column="image"))


def test_a_row_group_that_failed_does_not_spoil_the_next(tmp_path: Path) -> None:
    noise = [random.Random(i).randbytes(500) for i in range(30)]
    path = tmp_path / "x.parquet"
    table = pa.table({"image": noise})
    pq.write_table(table, path, row_group_size=10, use_dictionary=False, compression="zstd")
    at = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[at : at + 100] = b"\xff" * 100
    path.write_bytes(data)
    for i in (0, 12, 12, 25, 3, 12, 9):
        if 10 <= i < 20:
            with pytest.raises(MediaError, match=r"x\.parquet: cannot be read"):
                read_place(place(path, "parquet", i, column="image"))
        else:
            assert read_place(place(path, "parquet", i, column="image")) == noise[i]
