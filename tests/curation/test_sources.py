"""Sources: what is listed, under which name, with which terms; and that no name or manifest ends a run."""

import json
import os
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RecipeError, SourceError
from curation.recipe import check_recipe, read_recipe
from curation.sources import Source, list_source
from curation.speech.recordings import Scan
from pipelines.speech import SpeechRecipe

ODD_NAMES = (
    "a b.wav",
    "für Élise.wav",
    "漢字.wav",
    "line\nbreak.wav",
    "'quoted' \"twice\".wav",
    "[x]*?.wav",
    "-rf.wav",
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def listed(path: Path | str, limit: int | None = None, **known: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = list_source(Source(path=str(path), **known), limit).to_pylist()
    return rows


def names(path: Path | str, limit: int | None = None) -> list[str]:
    return [row["name"] for row in listed(path, limit)]


def manifest(path: Path, *records: Any) -> Path:
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(b"\n".join(lines))
    return path


def scanned(path: Path) -> dict[str, dict[str, Any] | None]:
    """What the scan decides on each listed file, by its name."""
    rows = Scan()(list_source(Source(path=str(path)))).to_pylist()
    return {row["name"]: row.get("decision") for row in rows}


def test_a_folder_is_searched_below_for_what_may_hold_sound(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "a/c.MP3", "a/deep/d.webm", "a/notes.txt", "cover.png", "wav")
    (tmp_path / "folder.wav").mkdir()
    assert names(tmp_path) == ["a/c.MP3", "a/deep/d.webm", "b.wav"]


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    touch(tmp_path, "x.wav", "y.wav")
    assert names(tmp_path / "x.wav") == ["x.wav"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.wav", ["top.wav"]),
        ("**/*.wav", ["a/one.wav", "a/b/two.wav", "ab/three.wav", "top.wav"]),
        ("**", ["a/one.wav", "a/b/two.wav", "ab/three.wav", "top.wav"]),
        ("a*/*.wav", ["a/one.wav", "ab/three.wav"]),
        ("[a]?/t*.wav", ["ab/three.wav"]),
        ("a/**/two.wav", ["b/two.wav"]),
        ("t?p.wav", ["top.wav"]),
    ],
)
def test_a_glob_names_files_from_its_last_fixed_folder(tmp_path: Path, pattern: str, found: list[str]) -> None:
    touch(tmp_path, "top.wav", "a/one.wav", "a/b/two.wav", "ab/three.wav", "a/notes.txt")
    assert sorted(names(tmp_path / pattern)) == sorted(found)


def test_a_glob_may_be_relative_or_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/x.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for pattern in ("in/*.wav", "./i*/*.wav", "~/in/*.wav", "~/in"):
        assert [row["uri"] for row in listed(pattern)] == [str(tmp_path / "in/x.wav")]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_a_name_whatever_it_looks_like(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name, name.removesuffix(".wav") + ".txt")
    (row,) = listed(tmp_path)
    assert (row["name"], row["uri"]) == (name, str(tmp_path / name))
    assert row["sidecar"] == str(tmp_path / name).removesuffix(".wav") + ".txt"
    assert names(tmp_path / name) == [name]


def test_a_name_that_is_not_utf_8_fails_its_row_alone(tmp_path: Path) -> None:
    touch(tmp_path, "good.wav")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")).write_bytes(b"")
    (bad, good) = listed(tmp_path)
    assert good["error"] is None
    assert bad["name"] == "caf\\udce9.wav"
    assert "not UTF-8" in bad["error"]
    decision = scanned(tmp_path)["caf\\udce9.wav"]
    assert decision is not None and decision["verdict"] == "failed"
    assert names(tmp_path, limit=2) == ["caf\\udce9.wav", "good.wav"]


def test_links_that_lead_in_circles_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.wav")
    for number in range(3):  # each doubles the paths at every depth for whoever follows them
        (tmp_path / "a" / f"loop{number}").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path) == ["a/x.wav"]
    assert names(tmp_path / "**" / "*.wav") == ["a/x.wav"]


def test_a_link_to_nothing_is_listed_and_fails_at_the_scan(tmp_path: Path) -> None:
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    decision = scanned(tmp_path)["gone.wav"]
    assert decision is not None and "gone.wav: cannot be opened" in decision["error"]


def test_subtitles_are_found_beside_a_recording(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "a.txt", "a.srt", "b.wav", "b.en.vtt", "c.wav", "d.wav", "d.txt.bak", "e/a.wav")
    sidecars = {row["name"]: row["sidecar"] and Path(row["sidecar"]).name for row in listed(tmp_path)}
    assert sidecars == {"a.wav": "a.srt", "b.wav": "b.en.vtt", "c.wav": None, "d.wav": None, "e/a.wav": None}


def test_a_folder_with_a_sidecar_s_name_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "a.txt/notes", "a.en.srt")
    assert [row["sidecar"] for row in listed(tmp_path)] == [str(tmp_path / "a.en.srt")]


def test_the_time_to_list_a_folder_grows_with_its_files_and_no_faster(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        folder = touch(
            tmp_path / str(count), *(f"{n}.{extension}" for n in range(count) for extension in ("wav", "srt"))
        )
        started = time.process_time()
        assert sum(row["sidecar"] is not None for row in listed(folder)) == count
        return time.process_time() - started

    seconds(50)  # what is imported and allocated once
    assert seconds(4000) < 25 * seconds(400)  # a search of the names for each file takes 100 times as long


def test_what_the_source_says_holds_for_every_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    for row in listed(tmp_path, language="de", licence="CC-BY-4.0", consent="signed", channel=1):
        assert (row["language"], row["licence"], row["consent"], row["channel"]) == ("de", "CC-BY-4.0", "signed", 1)


def records(folder: Path) -> list[dict[str, Any]]:
    touch(folder, "x.wav", "x.srt", "sub/y.wav")
    full = {"path": "x.wav", "sidecar": "x.srt", "language": "fr", "licence": "CC0-1.0", "consent": "oral"}
    return [full | {"channel": 1}, {"path": str(folder / "sub" / "y.wav")}]


def check_manifest(rows: list[dict[str, Any]], folder: Path) -> None:
    y, x = rows
    assert x["uri"] == str(folder / "x.wav") and x["sidecar"] == str(folder / "x.srt")
    assert (x["language"], x["licence"], x["consent"], x["channel"]) == ("fr", "CC0-1.0", "oral", 1)
    assert y["uri"] == str(folder / "sub" / "y.wav") and y["sidecar"] is None
    assert (y["language"], y["licence"], y["consent"], y["channel"]) == ("de", "PD", None, None)


def test_a_jsonl_manifest_carries_terms_and_paths_from_where_it_lies(tmp_path: Path) -> None:
    path = manifest(tmp_path / "list.jsonl", *records(tmp_path), b"", b"  ")
    check_manifest(sorted(listed(path, language="de", licence="PD"), key=lambda row: row["uri"]), tmp_path)


def test_a_parquet_manifest_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "language=xx" / "list.parquet"
    path.parent.mkdir()
    rows = [record | {"path": str(tmp_path / record["path"])} for record in records(tmp_path)]
    rows[0]["sidecar"] = str(tmp_path / "x.srt")
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([(k, pa.string()) for k in rows[0] if k != "channel"])), path)
    found = sorted(listed(path, language="de", licence="PD"), key=lambda row: row["uri"])
    assert found[1]["channel"] is None
    pq.write_table(pa.Table.from_pylist([row | {"channel": row.get("channel")} for row in rows]), path)
    check_manifest(sorted(listed(path, language="de", licence="PD"), key=lambda row: row["uri"]), tmp_path)


def test_channels_that_pandas_wrote_as_floats_are_numbers(tmp_path: Path) -> None:
    table = pa.table({"path": ["x.wav", "y.wav"], "channel": [1.0, None]})
    pq.write_table(table, tmp_path / "list.parquet")
    assert [row["channel"] for row in listed(tmp_path / "list.parquet")] == [1, None]


BAD_ROWS = [
    (b"{nope", "not JSON"),
    (b"[1]", "not a JSON object"),
    (b"\xff\xfe{", "not JSON"),
    (b"[" * 100_000, "JSON nested deeper than 100"),
    (b"{}", "no `path`"),
    (b'{"path": 5}', "no `path`"),
    (b'{"path": "a.wav", "channel": 99999}', "`channel`"),
    (b'{"path": "a.wav", "channel": -1}', "`channel`"),
    (b'{"path": "a.wav", "channel": 0.5}', "`channel`"),
    (b'{"path": "a.wav", "channel": NaN}', "`channel`"),
    (b'{"path": "a.wav", "channel": "left"}', "`channel`"),
    (b'{"path": "a.wav", "channel": true}', "`channel`"),
    (b'{"path": "a.wav", "sidecar": ["a.srt"]}', "`sidecar`"),
    (b'{"path": "\\ud800.wav"}', "not UTF-8"),
    (b'{"path": "a.wav", "licence": "\\ud800"}', "not UTF-8"),
    (b'{"path": "a\\u0000b.wav"}', "null byte"),
    (b'{"path": "nowhere.wav"}', "cannot be opened"),
    (b'{"path": "."}', "not a plain file"),
    (b'{"path": "http://host/x.wav"}', "cannot be opened"),
]


@pytest.mark.parametrize(("line", "says"), BAD_ROWS)
def test_an_invalid_row_is_one_failed_row(tmp_path: Path, line: bytes, says: str) -> None:
    path = manifest(tmp_path / "list.jsonl", {"path": "x.wav"}, line, {"path": "y.wav"})
    rows = Scan()(list_source(Source(path=str(path)))).to_pylist()
    (bad,) = [row for row in rows if row["name"] not in ("x.wav", "y.wav")]
    assert len(rows) == 3
    assert bad["decision"]["verdict"] == "failed" and says in bad["decision"]["error"]


def test_a_sidecar_that_a_manifest_names_must_be_there(tmp_path: Path) -> None:
    touch(tmp_path, "x.wav")
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    path = manifest(tmp_path / "list.jsonl", {"path": "x.wav", "sidecar": "gone.srt"})
    decision = scanned(path)["x.wav"]
    assert decision is not None and decision["verdict"] == "failed"


def test_a_file_is_listed_once_for_each_channel_and_sidecar(tmp_path: Path) -> None:
    one = {"path": "x.wav", "channel": 0}
    path = manifest(tmp_path / "list.jsonl", one, {"path": "x.wav", "channel": 1}, one, one | {"sidecar": "x.srt"})
    rows = listed(path)
    assert sorted((row["channel"], row["sidecar"] is not None) for row in rows) == [(0, False), (0, True), (1, False)]
    assert len({row["row_id"] for row in rows}) == 3
    assert len(listed(path, limit=2)) == 2


def test_a_file_is_listed_once_for_each_of_its_terms(tmp_path: Path) -> None:
    terms = [{"licence": "CC0-1.0"}, {"licence": "no-training"}, {"license": "CC0-1.0"}, {"licence": ""}, {}]
    path = manifest(tmp_path / "list.jsonl", *({"path": "x.wav"} | more for more in terms))
    rows = listed(path, licence="PD")
    assert sorted(row["licence"] for row in rows) == ["CC0-1.0", "PD", "no-training"]
    assert len({row["row_id"] for row in rows}) == 3


def test_a_manifest_in_any_order_gives_the_same_listing(tmp_path: Path) -> None:
    lines = [{"path": f"{n}.wav", "channel": n % 2} for n in range(20)]
    path = manifest(tmp_path / "list.jsonl", *lines)
    before = list_source(Source(path=str(path)))
    random.Random(1).shuffle(lines)
    assert list_source(Source(path=str(manifest(path, *lines)))).equals(before)


@pytest.mark.parametrize("name", ["list.parquet", "empty.jsonl", "nothing.jsonl"])
def test_a_manifest_that_says_nothing_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.parquet").write_bytes(b"PAR1 but no more")
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    with pytest.raises(SourceError, match=name):
        listed(tmp_path / name)


@pytest.mark.parametrize("path", ["", "nothing/here", "nothing/*.wav", "**.wav", "x" * 5000])
def test_a_source_without_recordings_is_an_error(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"source\.path"):
        listed(path)


@pytest.mark.parametrize("channel", [-1, 300])
def test_a_channel_that_no_file_has_is_refused_by_the_recipe(channel: int) -> None:
    value = read_recipe("speech-embedded", [f"source.channel={channel}"])
    with pytest.raises(RecipeError, match=r"source\.channel"):
        check_recipe(SpeechRecipe, value, "speech-embedded")


def test_a_limit_takes_a_subset_that_a_larger_limit_extends(tmp_path: Path) -> None:
    touch(tmp_path / "first", *(f"{n:03d}.wav" for n in range(200)))
    subsets = [set(names(tmp_path / "first", limit)) for limit in (1, 20, 21, 150, 500)]
    assert [len(subset) for subset in subsets] == [1, 20, 21, 150, 200]
    assert all(small < large for small, large in pairwise(subsets))
    twenty = sorted(int(name[:3]) for name in subsets[1])
    assert twenty[0] < 50 and twenty[-1] > 150  # spread over the whole, not its beginning
    touch(tmp_path / "moved", *(f"{n:03d}.wav" for n in range(200)))
    assert set(names(tmp_path / "moved", 20)) == subsets[1]
    touch(tmp_path / "first", *(f"new {n}.wav" for n in range(20)))
    assert len(set(names(tmp_path / "first", 20)) & subsets[1]) >= 14
