"""Files that are small on disk and large once they are read, of every format; each is made in seconds and a few MB."""

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VALUE = "x" * 10_000


@dataclass(frozen=True)
class Bomb:
    """A bomb: the pipeline that reads it, its file's name, and what writes it."""

    pipeline: str
    file: str
    write: Callable[[Path], None]


def _copies(value: Any, count: int) -> pa.DictionaryArray:
    """One value so many times, of which the file has one."""
    return pa.DictionaryArray.from_arrays(_zeros(count), pa.array([value]))


def _zeros(count: int) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(bytes(4 * count))])


def _write(path: Path, columns: dict[str, Any], **how: Any) -> None:
    pq.write_table(
        pa.table(columns), path, store_schema=False, **{"compression": "zstd", "write_statistics": False} | how
    )


def dictionary(path: Path) -> None:
    """3 M rows of one caption and one image of 10 kB: 60 GB."""
    _write(path, {"caption": _copies(VALUE, 3_000_000), "image": _copies(VALUE.encode(), 3_000_000)})


def large_dictionary(path: Path) -> None:
    """100,000 rows of one caption of 50 MB: 5 TB."""
    _write(path, {"caption": _copies("x" * 50_000_000, 100_000), "image_path": _copies("good.png", 100_000)})


def one_value(path: Path) -> None:
    """One caption of 300 MB, which a page holds packed."""
    _write(path, {"caption": ["x" * 300_000_000], "image_path": ["good.png"]}, use_dictionary=False)


def prefixes(path: Path) -> None:
    """Captions that share all but their end with the one before (DELTA_BYTE_ARRAY): 2 GB."""
    captions = pa.array([VALUE[:9000] + str(i) for i in range(10_000)])
    schema = pa.schema([("caption", pa.string()), ("image_path", pa.string())])
    encoding = {"caption": "DELTA_BYTE_ARRAY", "image_path": "PLAIN"}
    with pq.ParquetWriter(path, schema, use_dictionary=False, column_encoding=encoding, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(pa.table([captions, pa.repeat("good.png", 10_000)], schema=schema))


def nulls(path: Path) -> None:
    """200 M rows of nothing."""
    table = pa.table({"caption": pa.nulls(10_000_000, pa.string()), "image_path": pa.nulls(10_000_000, pa.string())})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(20):
            writer.write_table(table, row_group_size=10_000_000)


def many_columns(path: Path) -> None:
    """10,000 columns in 200 groups of one row."""
    table = pa.table({"caption": ["a"], "image_path": ["good.png"]} | {f"c{i}": [i] for i in range(10_000)})
    with pq.ParquetWriter(path, table.schema, use_dictionary=False, write_statistics=False) as writer:
        for _ in range(20):
            writer.write_table(table)


def nested_captions(path: Path) -> None:
    """One row with a list of 3 M captions of 10 kB: 30 GB."""
    lists = pa.ListArray.from_arrays(pa.array([0, 3_000_000], pa.int32()), _copies(VALUE, 3_000_000))
    _write(path, {"caption": lists, "image_path": ["good.png"]})


def nested_deep(path: Path) -> None:
    """A list in a list, 60 deep, of 2 M copies."""
    values: pa.Array = _copies(VALUE, 200_000)
    for _ in range(60):
        values = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    with pa.OSFile(str(path), "wb") as sink:
        _ipc(sink, pa.record_batch({"caption": ["a"], "image_path": ["good.png"], "more": values}), 1)


def runs(path: Path) -> None:
    """A run of 2 G rows with one caption of 10 kB (run-end encoding): 20 TB."""
    count = 2**31 - 1

    def run(value: str) -> pa.Array:
        return pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), pa.array([value]))

    with pa.OSFile(str(path), "wb") as sink:
        _ipc(sink, pa.record_batch({"caption": run(VALUE), "image_path": run("good.png")}), 1)


def views(path: Path) -> None:
    """100,000 lists that all show the same 10,000 texts (list views): 64 GB."""
    count = 100_000
    sizes = pa.array([10_000] * count, pa.int32())
    lists = pa.ListViewArray.from_arrays(_zeros(count), sizes, pa.array(["x"] * 10_000))
    with pa.OSFile(str(path), "wb") as sink:
        _ipc(sink, pa.record_batch({"caption": ["a"] * count, "image_path": ["good.png"] * count, "more": lists}), 1)


def packed(path: Path) -> None:
    """40 batches of 200 MB that ZSTD packs to nothing: 8 GB."""
    batch = pa.record_batch({"caption": ["x" * 2_000_000] * 100, "image_path": ["good.png"] * 100})
    with pa.OSFile(str(path), "wb") as sink:
        _ipc(sink, batch, 40, pa.ipc.IpcWriteOptions(compression="zstd"))


def _ipc(sink: Any, batch: pa.RecordBatch, times: int, options: Any = None) -> None:
    with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        for _ in range(times):
            writer.write_batch(batch)


def deep_json(path: Path) -> None:
    """100,000 levels."""
    path.write_bytes(b'{"image_path": "good.png", "caption": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n")


def wide_json(path: Path) -> None:
    """A line of 15 MB with 5 M empty objects."""
    path.write_bytes(b'{"image_path": "good.png", "caption": "a", "more": [' + b"{}," * 5_000_000 + b"0]}\n")


def long_line(path: Path) -> None:
    """A line of 1 GB, which takes no room on disk."""
    with path.open("wb") as file:
        file.write(b'{"image_path": "good.png", "caption": "')
        file.truncate(1_000_000_000)


def long_field(path: Path) -> None:
    """A quoted field of CSV of 1 GB, which takes no room on disk."""
    with path.open("wb") as file:
        file.write(b'image_path,caption\na.jpg,"')
        file.truncate(1_000_000_000)


def quotes(path: Path) -> None:
    """A field of CSV with 30 M quotes."""
    path.write_bytes(b'image_path,caption\na.jpg,"' + b'""' * 30_000_000 + b'"\n')


def packed_lines(path: Path) -> None:
    """20 GB of empty lines that ZSTD packs to 2 MB."""
    _packed(path, b"", b"\n" * (1 << 20), 20_000)


def packed_table(path: Path) -> None:
    """A CSV file of 20 GB that ZSTD packs to 2 MB."""
    _packed(path, b"image_path,caption\n", b"good.png,a\n" * 100_000, 20_000)


def coco_texts(path: Path) -> None:
    """100 M captions of images that are not there, as COCO has them: 4 GB, which ZSTD packs."""
    start = b'{"images": [{"id": 1, "file_name": "good.png"}], "annotations": [{"image_id": 1, "caption": "a"}'
    _packed(path, start, b"".join(b',{"image_id":%d,"caption":""}' % n for n in range(100_000)), 1_000, b"]}")


def json_wide(path: Path) -> None:
    """A list whose one object has 5 M empty objects."""
    path.write_bytes(b'[{"image": "good.png", "caption": "a", "more": [' + b"{}," * 5_000_000 + b"0]}]")


def json_records(path: Path) -> None:
    """A list of 5 M empty objects behind one that has a pair."""
    path.write_bytes(b'[{"image": "good.png", "caption": "a"}' + b",{}" * 5_000_000 + b"]")


def _packed(path: Path, start: bytes, piece: bytes, times: int, end: bytes = b"") -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(start)
        for _ in range(times):
            stream.write(piece)
        stream.write(end)


def tar_members(path: Path) -> None:
    """100,000 members of nothing, of one sample: a part for each."""
    with path.open("wb") as file:
        for number in range(100_000):
            file.write(tarfile.TarInfo(f"a.part{number}").tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(1024))


def tar_samples(path: Path) -> None:
    """100,000 members of nothing, a sample each."""
    with path.open("wb") as file:
        for number in range(100_000):
            file.write(tarfile.TarInfo(f"{number}.txt").tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(1024))


def tar_holes(path: Path) -> None:
    """2,000 texts of 16 MB, which take no room on disk: 32 GB."""
    with path.open("wb") as file:
        for number in range(2_000):
            for name, size in ((f"{number}.jpg", 512), (f"{number}.txt", 16_000_000)):
                info = tarfile.TarInfo(name)
                info.size = size
                file.write(info.tobuf(tarfile.USTAR_FORMAT))
                file.seek(-(-size // 512) * 512, 1)
        file.write(b"\0" * 1024)


def tar_names(path: Path) -> None:
    """1,000 names of a megabyte (GNU), which take no room on disk."""
    with path.open("wb") as file:
        for number in range(1_000):
            info = tarfile.TarInfo("././@LongLink")
            info.size, info.type = 1 << 20, b"L"
            file.write(info.tobuf(tarfile.USTAR_FORMAT))
            file.write(b"x" * 1000 + str(number).encode())
            file.truncate(file.seek((1 << 20) - 1000 - len(str(number)), 1))
            file.write(tarfile.TarInfo("good.png").tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(1024))


def tar_claim(path: Path) -> None:
    """A member of 8 TB that is not there."""
    info = tarfile.TarInfo("good.png")
    info.size = 8_000_000_000_000
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def _png(*chunks: tuple[bytes, bytes], side: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packed = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in packed
    )


def _deflated(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])


def _sample(path: Path, image: bytes) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("a.png", image), ("a.txt", b"An old dog stands beside the road at mile 4711.")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def png_pixels(path: Path) -> None:
    """A PNG of 100,000 x 100,000 pixels."""
    _sample(path, _png((b"IDAT", _deflated(1 << 28)), side=100_000))


def png_text(path: Path) -> None:
    """A PNG whose compressed text has 256 MB (zTXt)."""
    _sample(path, _png((b"zTXt", b"a\0\0" + _deflated(1 << 28)), (b"IDAT", zlib.compress(bytes(16)))))


def png_profile(path: Path) -> None:
    """A PNG whose colour profile has 256 MB (iCCP)."""
    _sample(path, _png((b"iCCP", b"a\0\0" + _deflated(1 << 28)), (b"IDAT", zlib.compress(bytes(16)))))


def html_nested(path: Path) -> None:
    """A page of a million open tags."""
    path.write_bytes(b"<div>" * 1_000_000)


def html_attributes(path: Path) -> None:
    """A tag with two million attributes."""
    path.write_bytes(b"<p " + b" ".join(b"a%d=1" % i for i in range(2_000_000)) + b">x</p>")


def html_text(path: Path) -> None:
    """A page of 500 MB of text, which takes no room on disk."""
    with path.open("wb") as file:
        file.write(b"<p>")
        file.truncate(500_000_000)


def html_words(path: Path) -> None:
    """A page of 20 M words in one paragraph, as large as pages may be."""
    path.write_bytes(b"<p>" + b"a  " * 20_000_000)


def html_lines(path: Path) -> None:
    """A page of 20 M lines."""
    path.write_bytes(b"<pre>" + b"ab\n" * 20_000_000)


def html_paragraphs(path: Path) -> None:
    """A page of 15 M paragraphs between two tags."""
    path.write_bytes(b"<pre>" + b"ab\n\n" * 15_000_000)


def html_unspaced(path: Path) -> None:
    """A page of one line, 20 M characters of two scripts in turn."""
    path.write_bytes(b"<p>" + "\u5b57\u0436".encode() * 12_000_000)


def html_title(path: Path) -> None:
    """A title of 30 M words."""
    path.write_bytes(b"<title>" + b"a " * 30_000_000 + b"</title><p>text")


def html_broken(path: Path) -> None:
    """30 M letters with accents, and one byte that is not UTF-8."""
    path.write_bytes(b"<p>\xff" + "\u00e9".encode() * 30_000_000)


def document_lines(path: Path) -> None:
    """20 GB of empty lines that ZSTD packs to 2 MB."""
    packed_lines(path)


def document_dictionary(path: Path) -> None:
    """A million documents of one text of 10 kB: 10 GB."""
    lists = pa.ListArray.from_arrays(pa.array(range(1_000_001), pa.int32()), _copies(VALUE, 1_000_000))
    _write(path, {"texts": lists, "images": pa.ListArray.from_arrays(lists.offsets, pa.nulls(1_000_000, pa.string()))})


def document_nested(path: Path) -> None:
    """One document of 10 M texts of 10 kB: 100 GB."""
    lists = pa.ListArray.from_arrays(pa.array([0, 10_000_000], pa.int32()), _copies(VALUE, 10_000_000))
    _write(path, {"texts": lists, "images": pa.ListArray.from_arrays(lists.offsets, pa.nulls(10_000_000, pa.string()))})


def document_runs(path: Path) -> None:
    """A run of 2 G documents (run-end encoding)."""
    count = 2**31 - 1
    value = pa.array([["x" * 10_000]])
    texts = pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), value)
    images = pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), pa.array([[None]], pa.list_(pa.string())))
    with pa.OSFile(str(path), "wb") as sink:
        _ipc(sink, pa.record_batch({"texts": texts, "images": images}), 1)


def document_json(path: Path) -> None:
    """A line of 60 MB with 20 M empty lists."""
    path.write_bytes(b'{"texts": ["a"], "images": [null], "more": [' + b"[]," * 20_000_000 + b"0]}\n")


def document_deep(path: Path) -> None:
    """100,000 levels."""
    deep = b'{"a":' * 100_000 + b"0" + b"}" * 100_000
    path.write_bytes(b'{"texts": ["a"], "images": [null], "more": ' + deep + b"}\n")


def wav_claim(path: Path) -> None:
    """A WAV of 65,535 channels at 4 GHz whose header claims 4 GB."""
    form = struct.pack("<HHIIHH", 1, 65_535, 2**32 - 1, 2**32 - 1, 65_534, 16)
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + form + b"data\xff\xff\xff\xff" + bytes(1000))


def flac_claim(path: Path) -> None:
    """A FLAC whose header claims 2^36 samples, and which has none."""
    form = 0xFFFFF << 44 | 7 << 41 | 31 << 36 | (1 << 36) - 1
    info = struct.pack(">HH", 65_535, 65_535) + bytes(6) + form.to_bytes(8, "big")
    path.write_bytes(b"fLaC\x80\0\0\x22" + info + bytes(16) + b"\xff\xf8" + bytes(1000))


def deep_sidecar(path: Path) -> None:
    """Subtitles in JSON, 100,000 levels deep, beside a recording that is none."""
    path.write_bytes(b"RIFF")
    path.with_suffix(".json").write_bytes(b"[" * 100_000)


BOMBS = {
    function.__name__: Bomb(pipeline, f"{function.__name__}{suffix}", function)
    for pipeline, suffix, functions in (
        ("captions", ".parquet", (dictionary, large_dictionary, one_value, prefixes, nulls, many_columns)),
        ("captions", ".parquet", (nested_captions,)),
        ("captions", ".arrow", (nested_deep, runs, views, packed)),
        ("captions", ".jsonl", (deep_json, wide_json, long_line)),
        ("captions", ".csv", (long_field, quotes)),
        ("captions", ".jsonl.zst", (packed_lines,)),
        ("captions", ".csv.zst", (packed_table,)),
        ("captions", ".json.zst", (coco_texts,)),
        ("captions", ".json", (json_wide, json_records)),
        ("captions", ".tar", (tar_members, tar_samples, tar_holes, tar_names, tar_claim)),
        ("captions", ".tar", (png_pixels, png_text, png_profile)),
        ("documents", ".html", (html_nested, html_attributes, html_text, html_words, html_lines, html_paragraphs)),
        ("documents", ".html", (html_unspaced, html_title, html_broken)),
        ("documents", ".jsonl.zst", (document_lines,)),
        ("documents", ".parquet", (document_dictionary, document_nested)),
        ("documents", ".arrow", (document_runs,)),
        ("documents", ".jsonl", (document_json, document_deep)),
        ("speech", ".wav", (wav_claim, deep_sidecar)),
        ("speech", ".flac", (flac_claim,)),
    )
    for function in functions
}


def good_file(pipeline: str, folder: Path) -> Path:
    """A file beside the bombs that must come through the reading of a pipeline."""
    if pipeline == "captions":
        path = folder / "good.jsonl"
        (folder / "good.png").write_bytes(_png((b"IDAT", zlib.compress(bytes(16)))))
        path.write_text(json.dumps({"image_path": "good.png", "caption": "An old dog stands beside the road."}) + "\n")
        return path
    path = folder / "good.html"
    path.write_text("<p>The harbour was quiet in the morning, and nobody had seen the boat.</p>")
    return path
