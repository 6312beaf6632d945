"""Recordings: one per content, whatever its files are called."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.hashing import row_digests
from curation.runtime.chain import run_chain
from curation.sources import Source, list_source
from curation.speech.recordings import OneRowPerContent, Scan
from curation.speech.voice_activity import SpeechProbability, Subtitles
from curation.store.measures import Measures
from curation.store.objects import Store
from tests.support.small_corpus import write_sound

NOISE = np.random.default_rng(5).integers(-99, 99, 16_000).astype(np.int16)


def recordings(folder: Path) -> tuple[list[dict[str, Any]], pa.Table]:
    """The recordings of a folder, and the edges to the files that they are made of."""
    outcome = run_chain("recordings", (Scan(), OneRowPerContent()), list_source(Source(path=str(folder))))
    kept = outcome.rows.filter(pa.array([verdict == "kept" for verdict in outcome.rows["verdict"].to_pylist()]))
    return kept.to_pylist(), outcome.lineage


def stated(folder: Path, *files: dict[str, Any]) -> dict[str, Any]:
    """The one recording of a manifest whose files have the same bytes."""
    for file in files:
        write_sound(folder / file["path"], NOISE)
    (folder / "list.jsonl").write_text("\n".join(json.dumps(file) for file in files))
    ((row,), _) = recordings(folder / "list.jsonl")
    return row


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


def test_terms_that_differ_are_all_kept_in_any_order(tmp_path: Path) -> None:
    files = (
        {"path": "a.wav", "licence": "LicenseRef-no-training", "consent": "form 1"},
        {"path": "b.wav", "licence": "CC0-1.0"},
        {"path": "c.wav", "licence": "CC0-1.0", "consent": "form 1"},
    )
    rows = [stated(tmp_path, *order) for order in permutations(files)]
    assert {(row["licence"], row["consent"]) for row in rows} == {("CC0-1.0; LicenseRef-no-training", "form 1")}
    assert rows[0]["occurrences"] == ["a.wav", "b.wav", "c.wav"]
    assert all(row == rows[0] for row in rows)


def test_one_path_under_two_licences_has_both(tmp_path: Path) -> None:
    row = stated(tmp_path, {"path": "a.wav", "licence": "no-training"}, {"path": "a.wav", "licence": "CC0-1.0"})
    assert (row["licence"], row["consent"], row["occurrences"]) == ("CC0-1.0; no-training", None, ["a.wav"])


def test_of_languages_that_differ_the_first_by_name_is_heard_and_the_others_noted(tmp_path: Path) -> None:
    names = (("b.wav", "fr"), ("a.wav", "de"), ("c.wav", "de"), ("d.wav", "cs"))
    row = stated(tmp_path, *({"path": path, "language": language} for path, language in names))
    assert (row["language"], row["other_languages"]) == ("de", ["cs", "fr"])
    alone = stated(tmp_path, {"path": "a.wav", "language": "de"}, {"path": "c.wav", "language": "de"})
    assert (alone["language"], alone["other_languages"]) == ("de", [])
    assert alone["row_id"] == row["row_id"]


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


def test_nothing_is_measured_under_the_hash_of_other_bytes(tmp_path: Path) -> None:
    for number, name in enumerate(("same", "sound", "text")):
        write_sound(tmp_path / f"{name}.wav", NOISE + number)
        (tmp_path / f"{name}.txt").write_text(f"the {name}")
    scanned = run_chain("recordings", (Scan(), OneRowPerContent()), list_source(Source(path=str(tmp_path)))).rows
    write_sound(tmp_path / "sound.wav", NOISE[:-1])
    (tmp_path / "text.txt").write_text("another text")
    measures = Measures(Store(tmp_path / "store"))
    rows = scanned.drop_columns(["verdict", "digest"])
    outcome = run_chain("utterances", (SpeechProbability(), Subtitles()), rows, measures=measures)
    ledger = {Path(row["uri"]).name: row for row in outcome.ledger.to_pylist()}
    assert {name: row["verdict"] for name, row in ledger.items()} == {
        "same.wav": "kept",
        "sound.wav": "failed",
        "text.wav": "failed",
    }
    assert ledger["sound.wav"]["error"].endswith("sound.wav: changed since it was scanned; run again")
    assert ledger["text.wav"]["error"].endswith("text.txt: changed since it was scanned; run again")
    known = measures.find(SpeechProbability(), row_digests(rows, SpeechProbability().reads))
    assert known is not None and known.num_rows == 2


def test_a_header_that_claims_weeks_does_not_plan_the_work(tmp_path: Path) -> None:
    data = bytearray(write_sound(tmp_path / "a.flac", NOISE).read_bytes())
    place = len(b"fLaC") + 4 + 10  # in STREAMINFO: rate, channels, bits, and 36 bits of how many samples there are
    data[place : place + 8] = (int.from_bytes(data[place : place + 8], "big") | (1 << 36) - 1).to_bytes(8, "big")
    (tmp_path / "a.flac").write_bytes(data)
    ((row,), _) = recordings(tmp_path)
    assert row["header_duration_s"] > 4e6 and row["work_s"] < 100
