"""Bad image-text pairs, end to end: each costs at most what is broken, and the ledger names file, stage and error."""

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.hashing import bytes_digest
from curation.runtime.inline import InlineRunner
from curation.store.objects import Store
from curation.store.versions import Version, read_version
from tests.support.small_corpus import Answer, audit, curate
from tests.support.small_pairs import QUIET, caption, image_bytes, pairs, write_folder, write_tars

ANY_FAILED = "max_failed_share=1.0"
MATCHED = "pair_check.min_cosine=-1"


def arguments(source: Path, store: Path, *sets: str) -> list[str]:
    settings = [word for one in (f"source.path={source}", *sets) for word in ("--set", one)]
    return ["run", "captions-embedded", *settings, "--store", str(store), "--runner", "inline"]


def run(source: Path, store: Path, *sets: str, more: tuple[str, ...] = ()) -> Answer:
    return curate(*arguments(source, store, *sets), *more)


def last(store: Path) -> Version:
    return read_version(Store(store), "captions")


def balanced(store: Path) -> None:
    """Per node, rows in + rows made = the sum of verdicts, one entry each; what is not kept says where and why."""
    sql = "select node, count(*) n, count(distinct row_id) ids, count(*) filter (made) made from ledger group by node"
    told = audit(store, sql)
    by_node = {row["node"]: row for row in told}
    before = None
    for node in last(store).nodes:
        if not node.counts:
            continue
        verdicts = {kind: sum(counts.values()) for kind, counts in node.counts.items()}
        made, total = sum(node.made.values()), sum(verdicts.values())
        assert node.rows_in + made == total, node.name
        entries = by_node[node.name]
        assert entries["n"] == entries["ids"] == total and entries["made"] == made, node.name
        if before is not None:
            last_kind = list(before.made)[-1:] or list(before.counts)[:1]
            assert node.rows_in == before.counts[last_kind[0]]["kept"], node.name
        before = node
    for row in audit(store, "select uri, stage, reason, error, verdict from ledger where verdict <> 'kept'"):
        assert row["uri"] and row["stage"] and row["reason"], row
        assert row["verdict"] != "failed" or row["error"], row
    assert curate("verify", "--store", str(store)).code == 0


def computes_nothing(answer: Answer) -> bool:
    units = [line for line in answer.out.splitlines() if "units computed" in line]
    return bool(units) and all(" 0 units computed" in line for line in units)


# Images


def patches(number: int, width: int = 240, height: int = 200) -> Image.Image:
    chance = np.random.default_rng(number)
    return Image.fromarray(chance.integers(0, 256, (10, 12, 3), np.uint8)).resize((width, height), 0)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, lines: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def black(width: int, height: int, bytes_per_pixel: int) -> bytes:
    """All lines of a black image, packed to a thousandth."""
    packer = zlib.compressobj(1)
    line = bytes(1 + width * bytes_per_pixel)
    return b"".join(packer.compress(line) for _ in range(height)) + packer.flush()


def swelling(name: bytes, head: bytes) -> bytes:
    """A good PNG with a chunk that unpacks to 64 MB before its pixels."""
    good = saved(patches(901), "PNG")
    return good[:33] + chunk(name, head + zlib.compress(bytes(1 << 26))) + good[33:]


def scanned(scans: int) -> bytes:
    whole = saved(patches(902), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + scan * scans + b"\xff\xd9"


def claiming(kind: str, at: int, claim: bytes) -> bytes:
    data = bytearray(saved(patches(903), kind, **({"lossless": True} if kind == "WEBP" else {})))
    data[at : at + len(claim)] = claim
    return bytes(data)


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def nothing_zipped() -> bytes:
    sink = io.BytesIO()
    zipfile.ZipFile(sink, "w").close()
    return sink.getvalue()


FAILED, REJECTED = "failed", "rejected"
BOMBS: dict[str, tuple[Callable[[], bytes], str, str, str]] = {
    # file: its bytes; stage, reason, and what the error says
    "claims.png": (lambda: png(50_000, 50_000, zlib.compress(bytes(9))), "ImageSize", "too_many_pixels", ""),
    "whole.png": (lambda: png(8100, 8100, black(8100, 8100, 3)), "ImageSize", "too_many_pixels", ""),
    "largest.png": (lambda: png(7900, 7900, black(7900, 7900, 8), 16, 6), "UsableImage", "image_blank", ""),
    "line.png": (lambda: png(1, 60_000_000, b"", 1, 0), "ImageSize", "image_too_small", ""),
    "claims.gif": (lambda: claiming("GIF", 6, b"\xff\xff\xff\xff"), "ImageSize", "too_many_pixels", ""),
    "claims.webp": (
        lambda: claiming("WEBP", 21, b"\xff\xff\xff\x0f"),
        *("ImageSize", "too_many_pixels", ""),
    ),
    "scans.jpg": (lambda: scanned(3000), "ImageSize", "MediaError", "scans, more than 500"),
    "ztxt.png": (lambda: swelling(b"zTXt", b"Comment\0\0"), "ImageSize", "MediaError", "too large"),
    "itxt.png": (lambda: swelling(b"iTXt", b"Comment\0\1\0\0\0"), "ImageSize", "MediaError", "too large"),
    "iccp.png": (lambda: swelling(b"iCCP", b"profile\0\0"), "ImageSize", "MediaError", "too large"),
}
BROKEN: dict[str, tuple[Callable[[], bytes], str, str, str]] = {
    "zip.jpg": (nothing_zipped, "ImageSize", "MediaError", "begins with b'PK"),
    "page.jpg": (lambda: b"<html><body>404</body></html>", "ImageSize", "MediaError", "begins with b'<html>"),
    "program.jpg": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "ImageSize", "MediaError", "none of jpeg"),
    "drawing.png": (lambda: b"<svg><image href='file:///etc/passwd'/></svg>", "ImageSize", "MediaError", "none of"),
    "empty.jpg": (lambda: b"", "ImageSize", "MediaError", "empty file"),
    "mark.jpg": (lambda: b"\xff\xd8\xff", "ImageSize", "MediaError", "jpeg"),
    "half.jpg": (lambda: image_bytes(904)[:3000], "ImageQuality", "MediaError", "truncated"),
    "half.png": (lambda: saved(patches(905), "PNG")[:-300], "ImageSize", "MediaError", "ends before"),
    "half.webp": (lambda: saved(patches(906), "WEBP")[:-300], "ImageSize", "MediaError", "ends too early"),
    "half.gif": (lambda: saved(patches(907), "GIF")[:-300], "ImageSize", "MediaError", "ends before"),
    "flipped.png": (lambda: flipped(saved(patches(908), "PNG")), "ImageQuality", "MediaError", "checksum"),
    "flat.png": (lambda: png(0, 5, b""), "ImageSize", "MediaError", "png"),
}
TURNED = Image.Exif()
TURNED[0x112] = 6
GOOD: dict[str, Callable[[], bytes]] = {
    "cmyk.jpg": lambda: saved(patches(1).convert("CMYK"), "JPEG"),
    "grey.jpg": lambda: saved(patches(2).convert("L"), "JPEG"),
    "sixteen.png": lambda: saved(Image.fromarray(np.asarray(patches(3).convert("L")).astype(np.uint16) << 8), "PNG"),
    "palette.png": lambda: saved(patches(4).convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
    "see-through.png": lambda: saved(patches(5).convert("P"), "PNG", transparency=3),
    "grey-alpha.png": lambda: saved(patches(6).convert("LA"), "PNG"),
    "alpha.png": lambda: saved(patches(7).convert("RGBA"), "PNG"),
    "two-colours.png": lambda: saved(patches(8).convert("1"), "PNG"),
    "moving.gif": lambda: saved(patches(9), "GIF", save_all=True, append_images=[patches(90), patches(91)]),
    "moving.webp": lambda: saved(patches(10), "WEBP", save_all=True, append_images=[patches(92)]),
    "moving.png": lambda: saved(patches(11), "PNG", save_all=True, append_images=[patches(93)]),
    "turned.jpg": lambda: saved(patches(12, 240, 300), "JPEG", exif=TURNED),
    "plain.bmp": lambda: saved(patches(13), "BMP"),
    "not-a.png": lambda: saved(patches(14), "JPEG"),
    "tail.jpg": lambda: saved(patches(15), "JPEG") + nothing_zipped(),
    "progressive.jpg": lambda: saved(patches(16), "JPEG", progressive=True),
}
MOST_MEGABYTES = 1000
"""For bombs as large as the recipe lets them be: 64 million pixels are 256 MB in memory, and are there twice."""


TELLS_ITS_PEAK = """
import atexit
from dags.cli import main
atexit.register(lambda: print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))))
main()
"""
"""A process that is asked from outside also counts what its parent held when it was forked."""


@pytest.fixture(scope="module")
def of_images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """A folder of images with a table, the store of a run over it, and the most megabytes that the run held."""
    folder = tmp_path_factory.mktemp("images")
    source, store = folder / "in", folder / "store"
    source.mkdir()
    made = {name: make for name, (make, *_) in (BOMBS | BROKEN).items()} | GOOD
    for name, make in made.items():
        (source / name).write_bytes(make())
    lines = [json.dumps({"file_name": name, "text": caption(n)}) for n, name in enumerate(made)]
    (source / "metadata.jsonl").write_text("\n".join(lines))
    words = [sys.executable, "-c", TELLS_ITS_PEAK, *arguments(source, store, *QUIET, ANY_FAILED)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return source, store, int(done.stdout.split()[-2]) // 1024


def test_every_bad_image_costs_itself_and_is_named(of_images: tuple[Path, Path, int]) -> None:
    source, store, _ = of_images
    told = audit(store, "select uri, node, stage, verdict, reason, error from ledger where verdict <> 'kept'")
    found = {Path(row["uri"]).name: row for row in told}
    assert sorted(found) == sorted([*BOMBS, *BROKEN]) and len(told) == len(found)
    for name, (_, stage, reason, says) in (BOMBS | BROKEN).items():
        row = found[name]
        assert (row["node"], row["stage"], row["reason"]) == ("checked", stage, reason), name
        assert row["verdict"] == (FAILED if reason == "MediaError" else REJECTED), name
        assert says in (row["error"] or ""), name
        assert row["error"] is None or (str(source / name) in row["error"] and "\n" not in row["error"]), name
    balanced(store)


def test_no_bomb_takes_more_memory_than_its_pixels(of_images: tuple[Path, Path, int]) -> None:
    assert of_images[2] < MOST_MEGABYTES


def test_odd_images_are_kept_byte_for_byte(of_images: tuple[Path, Path, int]) -> None:
    source, store, _ = of_images
    kept = audit(store, "select name, image_hash, width, height, frames from encoded where verdict = 'kept'")
    assert {row["name"] for row in kept} == set(GOOD)
    assert {row["name"]: row["image_hash"] for row in kept} == {
        name: bytes_digest((source / name).read_bytes()) for name in GOOD
    }
    sizes = {row["name"]: (row["width"], row["height"]) for row in kept}
    assert sizes.pop("turned.jpg") == (300, 240) and set(sizes.values()) == {(240, 200)}
    moving = {row["name"]: row["frames"] for row in kept if row["frames"] > 1}
    assert moving == {"moving.gif": 3, "moving.webp": 2, "moving.png": 2}


def test_a_limit_on_failures_is_told_by_the_exit_code_and_nothing_is_done_again(
    of_images: tuple[Path, Path, int],
) -> None:
    source, store, _ = of_images
    again = run(source, store, *QUIET, ANY_FAILED)
    assert again.code == 0 and computes_nothing(again) and "nothing changed since" in again.out
    strict = run(source, store, *QUIET, "max_failed_share=0.1")
    assert strict.code == 5 and computes_nothing(strict)
    failed = sum(reason == "MediaError" for _, _, reason, _ in (BOMBS | BROKEN).values())
    assert f"{failed} of {len(BOMBS | BROKEN | GOOD)} pair rows failed at checked" in strict.err


# Files that hold pairs


def add(tar: tarfile.TarFile, name: str, data: bytes, kind: bytes = tarfile.REGTYPE) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    member.size = len(data) if kind == tarfile.REGTYPE else 0
    tar.addfile(member, io.BytesIO(data))


def add_pair(tar: tarfile.TarFile, key: str, number: int, text: bytes | None = None, kind: bytes = b"0") -> None:
    add(tar, f"{key}.jpg", image_bytes(number), kind)
    add(tar, f"{key}.txt", caption(number).encode() if text is None else text)


def raw_member(name: str, size: int, kind: bytes, data: bytes) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.type = size, kind
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def extended(name: bytes, value: bytes) -> bytes:
    """A pax header with one record."""
    rest = b" " + name + b"=" + value + b"\n"
    length = next(n for n in range(1, 99_999) if n == len(rest) + len(str(n)))
    return raw_member("pax", length, b"x", str(length).encode() + rest)


def write_tars_of_all_kinds(folder: Path) -> None:
    with tarfile.open(folder / "good.tar", "w") as tar:
        for n in range(200, 205):
            add_pair(tar, f"good{n}", n)
    whole = (folder / "good.tar").read_bytes()
    with tarfile.open(folder / "good.tar") as tar:
        inside = tar.getmember("good203.jpg")
        (folder / "cut.tar").write_bytes(whole[: inside.offset_data + inside.size // 2])
    with tarfile.open(folder / "missing.tar", "w") as tar:
        add_pair(tar, "kept-missing", 210)
        add(tar, "no-text.jpg", image_bytes(211))
        add(tar, "no-image.txt", b"A text that has no image beside it.")
        add(tar, "two.jpg", image_bytes(212))
        add(tar, "two.png", saved(patches(213), "PNG"))
        add(tar, "two.txt", b"A text beside which there are two images.")
    with tarfile.open(folder / "twice.tar", "w") as tar:
        for n, key in ((214, "kept-again"), (215, "kept-other"), (216, "kept-again")):
            add_pair(tar, key, n)
        add(tar, "which.jpg", image_bytes(217))
        add(tar, "which.jpg", image_bytes(218))
        add(tar, "which.txt", b"Nobody knows which of the two this tells of.")
    with tarfile.open(folder / "names.tar", "w") as tar:
        for n, key in enumerate(
            ("/etc/kept-root", "../../kept-up", "long/" * 60 + "kept-long", "kept-new\nline", "kept-漢")
        ):
            add_pair(tar, key, 220 + n)
        for n, (key, kind) in enumerate((("link", b"2"), ("hard", b"1"), ("device", b"3"), ("pipe", b"6"))):
            add_pair(tar, key, 230 + n, kind=kind)
    with tarfile.open(folder / "latin.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        add_pair(tar, "kept-caf\xe9", 236)
    body = image_bytes(237)
    sparse = extended(b"GNU.sparse.major", b"1") + raw_member("sparse.jpg", len(body), b"0", body)
    (folder / "sparse.tar").write_bytes(sparse + bytes(1024))
    endless = raw_member("first.jpg", len(body), b"0", body) + extended(b"size", b"9" * 14)
    (folder / "endless.tar").write_bytes(endless + raw_member("second.jpg", len(body), b"0", body) + bytes(1024))
    (folder / "packed.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    (folder / "text.tar").write_bytes(b"A poem, and no tar at all.\n" * 90)
    (folder / "empty.tar").write_bytes(b"")
    (folder / "zeros.tar").write_bytes(bytes(10_240))
    (folder / "gone.tar").symlink_to(folder / "nowhere.tar")
    os.mkfifo(folder / "pipe.tar")
    (folder / "late.tar").write_bytes(
        write_tars(folder / "late", pairs(1, first=240)).joinpath("00000.tar").read_bytes()
    )
    os.utime(folder / "late.tar", ns=(10**19, 10**19))
    (folder / "late" / "00000.tar").unlink()
    (folder / os.fsdecode(b"caf\xe9.tar")).write_bytes(whole)


OF_TARS: dict[str, str] = {
    # what the uri ends with: what the error, or the reason, says
    "cut.tar": "good203.jpg of",
    "missing.tar/no-text.jpg": "caption_empty",
    "missing.tar/no-image.txt": "no image; there are: txt",
    "missing.tar/two.jpg": "more images than one",
    "twice.tar/which.jpg": "appears twice in it",
    "names.tar/link.jpg": "a link, which is not followed",
    "names.tar/hard.jpg": "a hard link",
    "names.tar/device.jpg": "a device",
    "names.tar/pipe.jpg": "a pipe",
    "sparse.tar/sparse.jpg": "is sparse",
    "endless.tar/first.jpg": "no caption: the file is damaged behind it",
    "endless.tar": "second.jpg of 99999999999999 bytes is cut off",
    "packed.tar": "not a tar: gzip; unpack it",
    "text.tar": "not a tar",
    "empty.tar": "an empty file",
    "zeros.tar": "no_pairs",
    "gone.tar": "No such file",
    "pipe.tar": "not a plain file",
    "caf\\udce9.tar": "its name is not UTF-8; rename it",
}


def told_of(store: Path, source: Path) -> dict[str, str]:
    """What was decided on, by its uri below the source."""
    rows = audit(store, "select uri, reason, error from ledger where verdict <> 'kept'")
    found = {row["uri"].removeprefix(f"{source}/"): row["error"] or row["reason"] for row in rows}
    assert len(found) == len(rows), "each of them once"
    assert not any("\n" in error for error in found.values())
    return found


def agrees(found: dict[str, str], expected: dict[str, str]) -> None:
    assert sorted(found) == sorted(expected)
    for name, says in expected.items():
        assert says in found[name], name


def names_kept(store: Path) -> set[str]:
    return {row["name"].rsplit("/", 1)[-1] for row in audit(store, "select name from packed")}


def test_tars_of_all_kinds_lose_only_what_is_broken(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    source.mkdir()
    write_tars_of_all_kinds(source)
    done = run(source, store, *QUIET, ANY_FAILED)
    assert done.code == 0, done.err
    agrees(told_of(store, source), OF_TARS)
    balanced(store)
    named = {
        f"kept-{name}" for name in ("missing", "again", "other", "root", "up", "long", "new\nline", "漢", "caf\\xe9")
    }
    # Pairs that stand in the cut tar too are there once, by its name, which comes first.
    assert names_kept(store) == named | {f"good{n}" for n in range(200, 205)} | {f"{240:09d}"}
    packed = audit(store, "select count(*) n from packed where name like 'cut.tar/%'")
    assert packed == [{"n": 3}]
    again = run(source, store, *QUIET, ANY_FAILED)
    assert again.code == 0 and computes_nothing(again)


SURROGATE = json.dumps("half \ud800 of a pair of a dog").encode()
TEXTS: dict[str, tuple[bytes, str]] = {
    # name: what stands in the .txt; why it goes, empty where it stays
    "kept-han": ("一只大狗站在花园里，旁边有很多孩子在玩耍。".encode(), ""),
    "kept-arabic": ("كلب كبير يقف في الحديقة مع الأطفال الصغار".encode(), ""),
    "kept-mark": ("\ufeffA dog with a mark stands in the garden.".encode(), ""),
    "kept-sql": (b"'; DROP TABLE ledger; -- a dog in the garden", ""),
    "kept-braces": (b"{caption} %s {0} ${HOME} $(id) a dog in the garden", ""),
    "kept-nul": (b"A dog\0 stands in\0 the garden there.", ""),
    "kept-lines": ("A dog\r\nstands\u2028in the garden there.".encode(), ""),
    "million": (b"A dog stands in the garden. " * 40_000, "caption_too_long"),
    "none": (b"", "caption_empty"),
    "blank": (b"  \n\t ", "caption_empty"),
    "emoji": ("😀😀🎉🎉🐕🐕🐕".encode(), "caption_empty"),
    "joined": ("a\u200b\u200bd\u200bo\u200bg\u200b s\u200bt\u200b".encode(), "caption_too_short"),
    "marks": (("Z" + "\u0337" * 3000 + " dog stands here today").encode(), "repetition_of_characters"),
    "word": (b"a" * 9000, "caption_too_short"),
    "dots": (b"A dog stands in the garden" + b"." * 9900, "special_characters"),
    "latin": ("café with a dog in the garden".encode("latin-1"), "latin.txt is not UTF-8"),
    "wide": ("A dog stands in the garden.".encode("utf-16"), "wide.txt is not UTF-8"),
    "surrogate": (b"A dog \xed\xa0\x80 in the garden.", "surrogate.txt is not UTF-8"),
}
RECORDS: dict[str, tuple[bytes, str]] = {
    # the same for .json
    "kept-digits": (b'{"caption": "A dog beside a large number there.", "n": ' + b"9" * 4000 + b"}", ""),
    "kept-keys": (b'{"caption": "A dog with odd keys stands in here.", "\\u0000k\\ud800": 1}', ""),
    "kept-infinite": (b'{"caption": "A dog and an endless number there.", "n": 1e999}', ""),
    "kept-much": (
        json.dumps({"caption": "A dog of which much is said.", "x": "y" * 99_999, "row_id": "z"}).encode(),
        "",
    ),
    "list": (b"[1]", "list.json is not a JSON object"),
    "torn": (b"{", "torn.json is not JSON"),
    "deep": (
        b'{"caption": "A dog deep down in the garden.", "x": ' + b"[" * 300 + b"]" * 300 + b"}",
        "deeper than 100",
    ),
    "deepest": (b"[" * 100_000, "deeper than 100"),
    "number": (b'{"caption": 5}', "caption is no text: 5"),
    "no-number": (b'{"caption": NaN}', "caption is no text: nan"),
    "nothing": (b'{"caption": null}', "caption_empty"),
    "half": (b'{"caption": ' + SURROGATE + b"}", "half a surrogate pair"),
}


def test_texts_of_all_kinds_are_kept_or_named(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    source.mkdir()
    with tarfile.open(source / "a.tar", "w") as tar:
        for n, (name, (data, _)) in enumerate(TEXTS.items()):
            add_pair(tar, name, 300 + n, data)
        for n, (name, (data, _)) in enumerate(RECORDS.items()):
            add(tar, f"{name}.jpg", image_bytes(400 + n))
            add(tar, f"{name}.json", data)
    done = run(source, store, *QUIET, ANY_FAILED)
    assert done.code == 0, done.err
    all_ = TEXTS | RECORDS
    agrees(told_of(store, source), {f"a.tar/{name}.jpg": why for name, (_, why) in all_.items() if why})
    assert names_kept(store) == {name for name, (_, why) in all_.items() if not why}
    balanced(store)
    kept = {row["name"].split("/")[1]: row["md5"] for row in audit(store, "select name, md5(caption) md5 from encoded")}
    for name, (data, why) in TEXTS.items():
        assert why or kept[name] == hashlib.md5(data.removeprefix(b"\xef\xbb\xbf")).hexdigest(), name
    # The whole pipeline, models and all, takes the same texts.
    whole = run(source, store, MATCHED, ANY_FAILED)
    assert whole.code == 0, whole.err
    assert sum(last(store).node("matched").counts["pair"].values()) == len(kept)  # type: ignore[union-attr]
    balanced(store)


# Tables


def write_tables_of_all_kinds(folder: Path) -> None:
    def parquet(name: str, **columns: Any) -> Path:
        pq.write_table(pa.table(columns), folder / name)
        return folder / name

    texts = [caption(n) for n in range(500, 520)]
    good = parquet("good.parquet", image=[image_bytes(n) for n in range(500, 520)], caption=texts).read_bytes()
    group = pq.ParquetFile(folder / "good.parquet").metadata.row_group(0)
    for i in range(2):
        column = group.column(i)
        start = column.dictionary_page_offset or column.data_page_offset
        spoilt = bytearray(good)
        spoilt[start + 20 * (1 - i) : start + 40] = b"\xff" * (20 + 20 * i)
        (folder / f"spoilt-{column.path_in_schema}.parquet").write_bytes(spoilt)
    (folder / "cut.parquet").write_bytes(good[:-100])
    (folder / "empty.parquet").write_bytes(b"")
    parquet("numbers.parquet", image=[1], caption=["A dog stands beside a number here."])
    parquet("no-texts.parquet", image=[image_bytes(520)], caption=[1])
    parquet("none.parquet", image=pa.array([], pa.binary()), caption=pa.array([], pa.string()))
    structs = [{"bytes": None, "path": "/etc/passwd"}, {"bytes": None, "path": None}, None]
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    parquet("structs.parquet", image=pa.array(structs, image), caption=texts[:3])
    with pa.OSFile(str(folder / "cut.arrow"), "wb") as file:
        first = pa.record_batch([[image_bytes(521)], ["A dog in the first batch stands here."]], ["image", "caption"])
        with pa.ipc.new_stream(file, first.schema) as stream:
            stream.write_batch(first)
            stream.write_batch(first)
    whole = (folder / "cut.arrow").read_bytes()
    (folder / "cut.arrow").write_bytes(whole[: len(whole) * 3 // 4])
    (folder / "t").mkdir()
    for n in range(522, 530):
        (folder / "t" / f"{n}.jpg").write_bytes(image_bytes(n))
    (folder / "t" / "new\nline.jpg").write_bytes(image_bytes(530))
    (folder / "t" / "link.jpg").symlink_to("/etc/passwd")
    (folder / "t" / "folder.jpg").mkdir()
    os.mkfifo(folder / "t" / "pipe.jpg")
    names = ("522.jpg", "gone.jpg", "../../secret.jpg", "/etc/passwd", "pipe.jpg", "link.jpg", "folder.jpg")
    lines = [json.dumps({"image": name, "text": f"A dog named {name} stands here."}) for name in names]
    lines += ["{torn", "[1]", "", json.dumps({"image": "caf\udce9.jpg", "text": "A dog in a café stands here."})]
    lines += [json.dumps({"image": "new\nline.jpg", "text": "A dog on the next line stands here."})]
    lines += [
        json.dumps({"image": 5, "text": "A dog with a number stands here."}),
        '{"image": "523.jpg", "text": null}',
    ]
    (folder / "t" / "a.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    (folder / "t" / "b.csv").write_bytes(
        b'image,text\n524.jpg,"A dog, with ""quotes"" and\na second line"\n525.jpg,"A quote that is never closed\n'
        b"526.jpg,A dog of the next line stands here.\n527.jpg,too,many\n528.jpg\n\n,A dog without an image here.\n"
    )
    (folder / "t" / "empty.csv").write_bytes(b"")
    (folder / "t" / "twice.csv").write_bytes(b"image,image\na,b\n")
    (folder / "loose").mkdir()
    for name, n in ((b"good", 540), (b"caf\xe9", 541), (b"torn", 542)):
        (folder / "loose" / os.fsdecode(name + b".jpg")).write_bytes(image_bytes(n))
        (folder / "loose" / os.fsdecode(name + b".txt")).write_bytes(caption(n).encode())
    (folder / "loose" / "torn.txt").unlink()
    os.mkfifo(folder / "loose" / "torn.txt")


OF_TABLES: dict[str, str] = {
    "spoilt-caption.parquet": "rows 0 to 19 cannot be read",
    **{f"spoilt-image.parquet:{n}": "cannot be read" for n in range(20)},
    "cut.parquet": "not a Parquet file",
    "empty.parquet": "not a Parquet file",
    "numbers.parquet": "no column of images",
    "no-texts.parquet": "no column of texts",
    "none.parquet": "no_pairs",
    "structs.parquet:0": "leads out of",
    "structs.parquet:1": "no image",
    "structs.parquet:2": "no image",
    "cut.arrow": "behind row 1",
    "t/a.jsonl:2": "No such file",
    "t/a.jsonl:3": "leads out of",
    "t/a.jsonl:4": "leads out of",
    "t/a.jsonl:5": "not a plain file",
    "t/a.jsonl:6": "by a link",
    "t/a.jsonl:7": "not a plain file",
    "t/a.jsonl:8": "not JSON",
    "t/a.jsonl:9": "not a JSON object",
    "t/a.jsonl:11": "its name is not UTF-8; rename it",
    "t/a.jsonl:13": "image is no path: 5",
    "t/523.jpg": "caption_empty",
    "t/a.jsonl:15": "not JSON",
    "t/b.csv:4": "a quote that is not closed",
    "t/b.csv:6": "3 fields, where the header has 2",
    "t/b.csv:7": "1 fields",
    "t/b.csv:9": "image is no path",
    "t/empty.csv": "an empty file",
    "t/twice.csv": "repeats a name",
    "loose/caf\\udce9.jpg": "not named in UTF-8 (rename it)",
    "loose/torn.jpg": "no plain file",
}


def test_tables_of_all_kinds_lose_only_what_is_broken(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    source.mkdir()
    write_tables_of_all_kinds(source)
    done = run(source, store, *QUIET, ANY_FAILED)
    assert done.code == 0, done.err
    agrees(told_of(store, source), OF_TABLES)
    balanced(store)
    kept = {f"good.parquet:{n}" for n in range(20)} | {"cut.arrow:0", "good"}
    assert names_kept(store) == kept | {"522.jpg", "new\nline.jpg", "524.jpg", "526.jpg"}
    again = run(source, store, *QUIET, ANY_FAILED)
    assert again.code == 0 and computes_nothing(again)


def test_a_column_of_an_odd_name_can_be_named(tmp_path: Path) -> None:
    odd = {"my.image": [image_bytes(1)], "my": [{"image": b"x"}], "my.text": [caption(1)]}
    source = tmp_path / "in"
    source.mkdir()
    pq.write_table(pa.table(odd), source / "a.parquet")
    unnamed = run(source, tmp_path / "store", *QUIET)
    assert unnamed.code == 5 and "name it as source.image" in unnamed.err
    named = run(source, tmp_path / "store", *QUIET, "source.image=my.image", "source.caption=my.text")
    assert named.code == 0, named.err
    assert names_kept(tmp_path / "store") == {"a.parquet:0"}


# What changes, and what is not there


def before_node(monkeypatch: pytest.MonkeyPatch, node: str, do: Callable[[], None]) -> None:
    """Something that happens during a run, before a node's units are done."""
    plain = InlineRunner.run

    def meanwhile(self: InlineRunner, tasks: Any, *others: Any) -> None:
        if tasks and tasks[0].node.name == node:
            do()
        plain(self, tasks, *others)

    monkeypatch.setattr(InlineRunner, "run", meanwhile)


def test_images_that_go_or_change_between_scan_and_export_fail_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = write_folder(tmp_path / "in", pairs(6)), tmp_path / "store"
    gone, changed = (source / "images" / f"{n:09d}.jpg" for n in (1, 2))

    def spoil() -> None:
        gone.unlink()
        changed.write_bytes(image_bytes(99))

    with monkeypatch.context() as patch:
        before_node(patch, "encoded", spoil)
        done = run(source, store, *QUIET, ANY_FAILED)
    assert done.code == 0, done.err
    told = {row["uri"]: (row["stage"], row["error"]) for row in audit(store, "from ledger where verdict = 'failed'")}
    assert set(told) == {str(gone), str(changed)}
    assert {stage for stage, _ in told.values()} == {"EncodeImage"}
    assert "No such file" in told[str(gone)][1] and "changed since it was scanned; run again" in told[str(changed)][1]
    balanced(store)
    again = run(source, store, *QUIET, ANY_FAILED)
    assert again.code == 0, again.err
    assert names_kept(store) == {f"{n:09d}.jpg" for n in range(6) if n != 1}, "the changed one is another pair"
    balanced(store)


def test_a_source_without_a_pair_is_a_version_that_is_not_accepted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "zeros.tar").write_bytes(bytes(10_240))
    done = run(tmp_path / "in", tmp_path / "store", MATCHED)
    assert done.code == 5 and "nothing was kept of 1 files" in done.err and "Traceback" not in done.err
    balanced(tmp_path / "store")


def test_one_pair_goes_through_every_step(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(1))
    kept_whole = ("resampling=null", "concepts.keep_unmatched=true")
    done = run(tmp_path / "in", tmp_path / "store", MATCHED, *kept_whole)
    assert done.code == 0, done.err
    assert names_kept(tmp_path / "store") == {f"{0:09d}"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_costs_itself(tmp_path: Path) -> None:
    source, store = write_tars(tmp_path / "in", pairs(4), shards=2), tmp_path / "store"
    (source / "00001.tar").chmod(0)
    done = run(source, store, *QUIET, ANY_FAILED)
    assert done.code == 0, done.err
    agrees(told_of(store, source), {"00001.tar": "Permission denied"})


def test_a_store_within_its_source_is_no_source(tmp_path: Path) -> None:
    write_tars(tmp_path, pairs(4))
    assert run(tmp_path, tmp_path / "store", *QUIET).code == 0
    again = run(tmp_path, tmp_path / "store", *QUIET)
    assert again.code == 0 and computes_nothing(again), again.err
