"""Shards: the same samples give the same bytes, every part is found by its offset, and damage has a name."""

import io
import re
import sqlite3
import struct
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings, strategies as st

from curation.errors import StageError, StoreError
from curation.hashing import bytes_digest
from curation.store.dataset_card import EngineUse, FunnelRow, SourceTerms, Subset, dataset_card
from curation.store.shard_index import energon_files, index_bytes, index_rows, index_table, subset_index
from curation.store.tar_shards import (
    MAX_PART_BYTES,
    WrittenShard,
    read_member,
    shard_name,
    shard_split,
    ustar_header,
    verify_shard,
    write_shard,
)
from schemas.shards import SHARD_INDEX

EXTENSIONS = ("txt", "flac", "json")
SAMPLES: list[tuple[str, dict[str, bytes]]] = [
    ("a-1", {"txt": "grüß dich".encode(), "flac": bytes(range(256)) * 3, "json": b'{"n": 1}'}),
    ("b_2", {"json": b"{}", "flac": b""}),
    ("0c", {"flac": b"x" * 512, "txt": b"one block"}),
]
SHARD = "train-000000.tar"


def written(samples: Iterable[tuple[str, Mapping[str, bytes]]] = SAMPLES) -> tuple[bytes, WrittenShard]:
    file = io.BytesIO()
    shard = write_shard(file, samples, EXTENSIONS)
    return file.getvalue(), shard


def table_of(shard: WrittenShard, name: str = SHARD) -> pa.Table:
    count = len(shard.rows)
    columns = pa.table({"row_id": [f"row-{row.key}" for row in shard.rows], "duration_s": [0.5] * count})
    return index_table(name, shard.rows, columns)


# The tar


def test_a_shards_bytes_are_golden() -> None:
    data, shard = written()
    assert shard.size == len(data) == 10_240
    assert shard.sha256 == "99f790f3e5df3851551d51a038bfaed851d5ddf874393eff0076c54de64cb50d"


def test_the_order_of_parts_and_of_extensions_changes_nothing() -> None:
    file = io.BytesIO()
    write_shard(file, [(key, dict(reversed(parts.items()))) for key, parts in SAMPLES], EXTENSIONS[::-1])
    assert file.getvalue() == written()[0]


def test_the_standard_reader_sees_plain_files_without_times_or_owners() -> None:
    with tarfile.open(fileobj=io.BytesIO(written()[0]), mode="r:") as tar:
        members = tar.getmembers()
        assert [m.name for m in members[:4]] == ["a-1.flac", "a-1.json", "a-1.txt", "b_2.flac"]
        assert len(members) == 9
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.isreg()) for m in members} == {
            (0, 0, 0, "", "", 0o644, True)
        }


def test_headers_are_those_of_the_standard_library() -> None:
    info = tarfile.TarInfo("some-key.flac")
    info.size = 123_456_789
    assert ustar_header("some-key.flac", 123_456_789) == info.tobuf(tarfile.USTAR_FORMAT)


def test_a_missing_part_is_empty_and_missing_json_is_null() -> None:
    data, shard = written()
    parts = {(row.key, p.extension): data[p.offset : p.offset + p.size] for row in shard.rows for p in row.parts}
    assert parts["b_2", "txt"] == b""
    assert parts["0c", "json"] == b"null"


def test_every_part_is_read_back_by_offset() -> None:
    data, shard = written()
    for row, (key, parts) in zip(shard.rows, SAMPLES, strict=True):
        assert row.key == key
        for part in row.parts:
            found = read_member(io.BytesIO(data), part.offset, part.size)
            assert bytes_digest(found) == part.xxh3
            assert found == parts.get(part.extension, found)
    with pytest.raises(StoreError, match="ends 1 bytes short"):
        read_member(io.BytesIO(data), len(data) - 1, 2)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9][a-z0-9_-]{0,40}", fullmatch=True),
        st.dictionaries(st.sampled_from(EXTENSIONS), st.binary(max_size=1500)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_what_the_standard_reader_reads(samples: dict[str, dict[str, bytes]]) -> None:
    data, shard = written(samples.items())
    assert len(data) == shard.size
    assert verify_shard(io.BytesIO(data), shard.rows, shard.sha256, SHARD) == []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            key, extension = member.name.split(".")
            stream = tar.extractfile(member)
            assert stream is not None
            assert stream.read() == samples[key].get(extension, b"null" if extension == "json" else b"")


def test_a_shard_is_written_one_sample_at_a_time() -> None:
    file = io.BytesIO()
    lengths = []

    def samples() -> Iterable[tuple[str, Mapping[str, bytes]]]:
        for key, parts in SAMPLES:
            lengths.append(file.tell())
            yield key, parts

    shard = write_shard(file, samples(), EXTENSIONS)
    assert lengths == [row.offset for row in shard.rows]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([("a.b", {})], "key 'a.b'"),
        ([("A", {})], "key 'A'"),
        ([("../a", {})], "key"),
        ([("", {})], "key ''"),
        ([("__a__", {})], "key"),
        ([("a\n", {})], "key"),
        ([("a", {}), ("a", {})], "key a comes twice"),
        ([("a", {"wav": b""})], r"parts \['wav'\]"),
        ([("a" * 96, {})], "longer than the 100 bytes"),
        ([], "without samples"),
    ],
)
def test_what_loaders_would_misread_is_refused(samples: list[tuple[str, dict[str, bytes]]], message: str) -> None:
    with pytest.raises(StageError, match=message):
        written(samples)


@pytest.mark.parametrize("extension", ["FLAC", "", ".flac", "a/b", "fl ac", "flac\n"])
def test_an_extension_that_loaders_would_misread_is_refused(extension: str) -> None:
    with pytest.raises(StageError, match="extension"):
        write_shard(io.BytesIO(), [("a", {})], [extension])


def test_a_part_beyond_eight_gibibytes_is_refused_by_name() -> None:
    assert len(ustar_header("a.flac", MAX_PART_BYTES)) == 512
    with pytest.raises(StoreError, match=r"a\.flac: 8589934592 bytes"):
        ustar_header("a.flac", MAX_PART_BYTES + 1)


def test_a_shards_name_says_its_split() -> None:
    assert shard_split(shard_name("train", 7)) == "train"
    assert shard_name("train", 7) == "train-000007.tar"
    for split in ("Train", "a-b", "../x"):
        with pytest.raises(StageError):
            shard_name(split, 0)


# Damage


def test_every_single_flipped_byte_is_named_with_its_sample() -> None:
    data, shard = written()
    damaged = bytearray(data)
    for position in range(len(data)):
        damaged[position] ^= 0x40
        damages = verify_shard(io.BytesIO(damaged), shard.rows, shard.sha256, SHARD)
        damaged[position] ^= 0x40
        owners: list[str | None] = [row.key for row in shard.rows if row.offset <= position < row.offset + row.size]
        assert [d.key for d in damages] == (owners or [None]), f"byte {position}"


def test_a_flipped_byte_is_named_with_its_part() -> None:
    data, shard = written()
    part = shard.rows[1].parts[1]
    places = {part.offset: "its data", part.offset - 300: "tar header", part.offset + part.size: "padding"}
    for position, what in places.items():
        damaged = bytearray(data)
        damaged[position] ^= 1
        [damage] = verify_shard(io.BytesIO(damaged), shard.rows, shard.sha256, SHARD)
        assert (damage.shard, damage.key, damage.extension) == (SHARD, "b_2", "json")
        assert what in str(damage)
        assert str(damage).startswith(f"{SHARD}: sample b_2.json: ")


def test_a_cut_shard_is_named_with_its_first_lost_sample() -> None:
    data, shard = written()
    for length in range(0, len(data), 97):
        [damage] = verify_shard(io.BytesIO(data[:length]), shard.rows, shard.sha256, SHARD)
        lost = [row.key for row in shard.rows if row.offset + row.size > length]
        assert damage.key == (lost[0] if lost else None)
        assert "cut off" in damage.what
        assert not lost or f"{len(lost)} of 3 are lost" in damage.what


def test_bytes_that_do_not_belong_are_named() -> None:
    data, shard = written()
    [longer] = verify_shard(io.BytesIO(data + b"!!"), shard.rows, shard.sha256, SHARD)
    assert "2 bytes too many" in longer.what
    [other] = verify_shard(io.BytesIO(data), shard.rows, "0" * 64, SHARD)
    assert "sha256" in other.what
    assert verify_shard(io.BytesIO(data), shard.rows[1:], shard.sha256, SHARD)


# The index


def test_the_index_keeps_its_schema_and_the_rows_own_columns() -> None:
    data, shard = written()
    table = table_of(shard)
    assert table.schema.names == [*SHARD_INDEX.names, "duration_s"]
    assert table.schema.field("offset").metadata[b"unit"] == b"bytes"
    again = pq.read_table(io.BytesIO(index_bytes(table)))
    assert again.equals(table)
    assert index_rows(again, SHARD) == list(shard.rows)
    assert verify_shard(io.BytesIO(data), index_rows(again, SHARD), shard.sha256, SHARD) == []


def test_an_index_has_the_same_bytes_however_it_came_together() -> None:
    tables = [table_of(written([(f"k{n}", {})])[1], shard_name("train", n)) for n in range(5)]
    forwards, backwards = subset_index(tables), subset_index(reversed(tables))
    assert index_bytes(forwards) == index_bytes(backwards)
    assert index_bytes(pa.concat_tables(tables)) == index_bytes(forwards)


def test_a_key_in_two_shards_of_a_subset_is_refused() -> None:
    shard = written()[1]
    with pytest.raises(StageError, match=r"3 sample keys come twice .* 0c"):
        subset_index([table_of(shard, shard_name("train", n)) for n in range(2)])


def test_columns_that_are_not_the_shards_are_refused() -> None:
    rows = written()[1].rows
    with pytest.raises(StageError, match="3 samples, 1 rows"):
        index_table(SHARD, rows, pa.table({"row_id": ["a"]}))
    with pytest.raises(StageError, match="'size'"):
        index_table(SHARD, rows, pa.table({"row_id": ["a"] * 3, "size": [1] * 3}))


def test_energons_offsets_are_those_of_the_tar() -> None:
    data, shard = written()
    files = energon_files(table_of(shard))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        members = tar.getmembers()
        starts = [m.offset for m in members if m.name.endswith(".flac")]
        assert struct.unpack("<4Q", files[f"{SHARD}.idx"]) == (*starts, tar.offset)
    assert yaml.safe_load(files[".nv-meta/.info.json"]) == {"shard_counts": {SHARD: 3}}
    assert yaml.safe_load(files[".nv-meta/dataset.yaml"])["__class__"] == "CrudeWebdataset"
    assert yaml.safe_load(files[".nv-meta/split.yaml"])["split_parts"] == {"train": [SHARD], "val": [], "test": []}


def test_energons_database_finds_every_part(tmp_path: Path) -> None:
    _, shard = written()
    table = table_of(shard)
    files = energon_files(table)
    assert files == energon_files(table)
    (tmp_path / "index.sqlite").write_bytes(files[".nv-meta/index.sqlite"])
    database = sqlite3.connect(tmp_path / "index.sqlite")
    found = database.execute(
        "SELECT sample_key, part_name, content_byte_offset, content_byte_size, byte_offset, byte_size"
        " FROM samples JOIN sample_parts USING (tar_file_id, sample_index) ORDER BY content_byte_offset"
    ).fetchall()
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    rows = shard.rows
    assert found == [(r.key, p.extension, p.offset, p.size, r.offset, r.size) for r in rows for p in r.parts]


def test_splits_of_an_index_come_from_the_shards_names() -> None:
    names = [shard_name("train", 0), shard_name("val", 0)]
    index = subset_index([table_of(written([(f"k{n}", {})])[1], name) for n, name in enumerate(names)])
    splits = yaml.safe_load(energon_files(index)[".nv-meta/split.yaml"])["split_parts"]
    assert splits == {"train": names[:1], "val": names[1:], "test": []}


# The card

HOSTILE = 'CC0 | x\n---\n# <img src=x onerror=alert(1)> `![a](b)` "}: {\u2028\u202e\x1b[31m \ud800 *"'


def card(licence: str | None = "CC-BY-4.0", recipe: str = "speech: {}") -> str:
    counts = [{"samples": 3, "hours": 1.5}, {"samples": 1, "hours": 0.25}, {"samples": 2, "hours": 0.5}]
    languages = dict(zip(["en", "no", None], counts, strict=True))
    asr = Subset(
        *("asr", "audio in, text out", ("flac", "json", "txt"), {"train": 2}, 12_000_000),
        {"samples": 6, "hours": 2.25},
        languages,
        "0123abcd",
    )
    return dataset_card(
        title="Spoken things",
        version="3",
        subsets=[asr],
        sources=[SourceTerms(licence, licence, {"recordings": 7, "hours": 2.25})],
        engines=[EngineUse("voice activity", "silero", "MIT", "MIT", "speech under music is missed")],
        funnel=[FunnelRow("check", 10, 0, 6, {"loop": 1, "no_speech": 2}, failed=1)],
        recipe=recipe,
    )


def front_matter(text: str) -> dict[str, object]:
    lines = text.splitlines()
    assert lines[0] == "---"
    matter = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    assert isinstance(matter, dict)
    return matter


def test_a_card_counts_hours_samples_and_rejections() -> None:
    text = card()
    assert "| asr | 6 | 2.25 | train 2 | 0.012 | flac, json, txt | audio in, text out |" in text
    assert "| asr | und | 2 | 0.50 |" in text
    assert "| check | 10 | 0 | 6 | 3 (loop 1, no\\_speech 2) | 0 | 1 |" in text
    assert "| voice activity | silero | MIT | MIT | speech under music is missed |" in text


def test_a_cards_front_matter_types_media_as_binary() -> None:
    matter = front_matter(card())
    assert matter["language"] == ["en", "no", "und"]
    assert matter["dataset_info"] == [
        {
            "config_name": "asr",
            "features": [
                {"name": "__key__", "dtype": "string"},
                {"name": "__url__", "dtype": "string"},
                {"name": "flac", "dtype": "binary"},
                {"name": "json", "dtype": "json"},
                {"name": "txt", "dtype": "string"},
            ],
        }
    ]


def test_a_cards_front_matter_says_what_the_files_hold() -> None:
    [config] = front_matter(card())["configs"]  # type: ignore[misc]
    assert config["description"] == "Spoken things, version 3: asr, content 0123abcd"


def test_a_strangers_licence_stays_text() -> None:
    text = card(HOSTILE)
    assert front_matter(text)["license_name"] == 'CC0 | x --- # <img src=x onerror=alert(1)> `![a](b)` "}: { [31m *"'
    [row] = [line for line in text.splitlines() if line.startswith("| CC0")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert not re.search(r"(?<!\\)[<>`*\[\]]", row)
    text.encode()


@given(st.one_of(st.text(max_size=60), st.text("-:|`'\"#{}[]&*!%@\n\r\t\x85\u2028 \\", max_size=30)))
@settings(max_examples=150, deadline=None)
def test_no_licence_breaks_the_card(licence: str) -> None:
    text = card(licence)
    matter = front_matter(text)
    assert [config["config_name"] for config in matter["configs"]] == ["asr"]  # type: ignore[attr-defined]
    terms = text.split("## Licences")[1].split("## Engines")[0].strip().splitlines()
    assert len(terms) == 5
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", terms[-1])) == 5


def test_a_recipe_cannot_leave_its_fence() -> None:
    recipe = "source: |\n  ````\n  # not a heading"
    assert f"`````yaml\n{recipe}\n`````\n" in card(recipe=recipe)


def test_a_subset_whose_name_is_no_plain_word_is_refused() -> None:
    subset = Subset("a/../b", "", ("txt",), {"train": 1}, 0, {"samples": 0}, {}, "c")
    with pytest.raises(StageError, match="subset name"):
        dataset_card(title="", version="1", subsets=[subset], sources=[], engines=[], funnel=[], recipe="")
