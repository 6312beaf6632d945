"""Recordings: one per content, whatever its files are called."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from small_corpus import write_sound

from curation.runtime.chain import run_chain
from curation.sources import Source, list_source
from curation.speech.recordings import OneRowPerContent, Scan

NOISE = np.random.default_rng(5).integers(-99, 99, 16_000).astype(np.int16)


def recordings(folder: Path) -> tuple[list[dict[str, Any]], pa.Table]:
    """The recordings of a folder, and the edges to the files that they are made of."""
    outcome = run_chain("recordings", (Scan(), OneRowPerContent()), list_source(Source(path=str(folder))))
    kept = outcome.rows.filter(pa.array([verdict == "kept" for verdict in outcome.rows["verdict"].to_pylist()]))
    return kept.to_pylist(), outcome.lineage


def test_the_same_bytes_twice_are_one_recording_with_two_occurrences(tmp_path: Path) -> None:
    write_sound(tmp_path / "b.wav", NOISE)
    write_sound(tmp_path / "below" / "a.wav", NOISE)
    write_sound(tmp_path / "other.wav", NOISE[:-1])
    rows, lineage = recordings(tmp_path)
    twice, other = sorted(rows, key=lambda row: len(row["occurrences"]), reverse=True)
    assert twice["occurrences"] == ["b.wav", "below/a.wav"] and twice["name"] == "b.wav"
    assert other["occurrences"] == ["other.wav"]
    files = {row["row_id"]: row["name"] for row in list_source(Source(path=str(tmp_path))).to_pylist()}
    edges = [(edge["child"], files[edge["parent"]]) for edge in lineage.to_pylist()]
    both = [(twice["row_id"], "b.wav"), (twice["row_id"], "below/a.wav")]
    assert sorted(edges) == sorted([*both, (other["row_id"], "other.wav")])


def test_the_same_sound_with_other_subtitles_is_another_recording(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "two"), ("c", "one")):
        write_sound(tmp_path / f"{name}.wav", NOISE)
        (tmp_path / f"{name}.txt").write_text(text)
    write_sound(tmp_path / "d.wav", NOISE)
    rows, _ = recordings(tmp_path)
    assert sorted(row["occurrences"] for row in rows) == [["a.wav", "c.wav"], ["b.wav"], ["d.wav"]]


def test_a_recording_s_id_does_not_depend_on_its_name_or_its_neighbours(tmp_path: Path) -> None:
    write_sound(tmp_path / "one" / "a.wav", NOISE)
    write_sound(tmp_path / "two" / "z.wav", NOISE)
    write_sound(tmp_path / "two" / "y.wav", NOISE[:500])
    ((alone,), _), (both, _) = recordings(tmp_path / "one"), recordings(tmp_path / "two")
    assert alone["row_id"] in {row["row_id"] for row in both}


def test_each_channel_of_a_file_is_a_recording(tmp_path: Path) -> None:
    write_sound(tmp_path / "call.wav", NOISE)
    (tmp_path / "calls.jsonl").write_text('{"path": "call.wav", "channel": 0}\n{"path": "call.wav", "channel": 1}\n')
    rows, _ = recordings(tmp_path / "calls.jsonl")
    assert sorted(row["channel"] for row in rows) == [0, 1]


def test_a_scan_says_what_the_headers_claim(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.flac", NOISE)
    ((row,), _) = recordings(tmp_path)
    said = [row[name] for name in ("container", "codec", "rate_hz", "channels", "header_duration_s")]
    assert said == ["flac", "flac", 16_000, 1, 1.0]
    assert row["work_s"] > 0


def test_a_header_that_claims_weeks_does_not_plan_the_work(tmp_path: Path) -> None:
    data = bytearray(write_sound(tmp_path / "a.flac", NOISE).read_bytes())
    place = len(b"fLaC") + 4 + 10  # in STREAMINFO: rate, channels, bits, and 36 bits of how many samples there are
    data[place : place + 8] = (int.from_bytes(data[place : place + 8], "big") | (1 << 36) - 1).to_bytes(8, "big")
    (tmp_path / "a.flac").write_bytes(data)
    ((row,), _) = recordings(tmp_path)
    assert row["header_duration_s"] > 4e6 and row["work_s"] < 100
