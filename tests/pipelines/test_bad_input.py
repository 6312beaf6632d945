"""Bad input, end to end: each costs at most what is broken, and the ledger names file, stage and error."""

import json
import os
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from tests.support.small_corpus import (
    READ_ALONG,
    TEXTS,
    audit,
    curate,
    run,
    speak_corpus,
    spoken,
    write_sound,
    write_subtitles,
)

FAILED, REJECTED = "failed", "rejected"

EXPECTED: dict[str, tuple[str, str, str, str]] = {
    # file: node, verdict, reason, and what the error says
    "caf\\udce9.wav": ("scan", FAILED, "MediaError", "not UTF-8"),
    "cut.flac": ("utterances", FAILED, "MediaError", "decoding stopped at"),
    "empty.wav": ("scan", FAILED, "MediaError", "empty file"),
    "gone.wav": ("scan", FAILED, "MediaError", "No such file"),
    "latin.wav": ("utterances", FAILED, "MediaError", "latin.txt: byte 3 is not UTF-8"),
    "odd.wav": ("utterances", FAILED, "MediaError", "odd.json: has neither"),
    "one.wav": ("utterances", REJECTED, "no_speech", ""),
    "image.mp3": ("scan", FAILED, "MediaError", "no audio or video"),
    "pipe.wav": ("scan", FAILED, "MediaError", "not a plain file"),
    "silent.wav": ("utterances", REJECTED, "no_speech", ""),
    "text.wav": ("scan", FAILED, "MediaError", "no audio or video"),
    "zero.flac": ("scan", FAILED, "MediaError", "no audio"),
    "zero.wav": ("utterances", FAILED, "MediaError", "no sample"),
}
STILL_GOOD = (
    "cut.mp3",
    "cut.ogg",
    "cut.wav",
    "eight.wav",
    "long-header.wav",
    "no-length.wav",
    "we ird\n'\"[red] 漢.wav",
)
"""Damage that cannot be told from a shorter recording, or is none: what is there is used."""


def encoded(path: Path, samples: NDArray[np.int16], codec: str) -> bytes:
    with av.open(str(path), "w") as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=16_000, layout="mono"))
        frame = AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate = 16_000
        for piece in AudioResampler(stream.format, "mono", 16_000, stream.frame_size).resample(frame):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path.read_bytes()


def write_wave(path: Path, samples: NDArray[np.int16]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())


def with_length(data: bytes, length: int) -> bytes:
    place = data.index(b"data") + 4
    return data[:place] + length.to_bytes(4, "little") + data[place + 4 :]


def spoil(folder: Path, scratch: Path) -> None:
    """Put every kind of bad file beside the good ones."""
    sound = spoken([TEXTS[0]])

    def named(name: str, extra: int = 0) -> Path:
        """A file with a sound of its own, and a text that fits it."""
        (folder / name).with_suffix(".txt").write_text(TEXTS[0])
        return write_sound(folder / name, np.concatenate([sound, np.full(extra, 3, np.int16)]))

    for extension, codec in (("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus")):
        data = encoded(scratch / f"whole.{extension}", sound, codec)
        (folder / f"cut.{extension}").write_bytes(data[: len(data) // 2])
    (folder / "empty.wav").write_bytes(b"")
    write_wave(folder / "zero.wav", np.zeros(0, np.int16))
    (folder / "zero.flac").write_bytes(write_sound(scratch / "one.flac", sound[:1]).read_bytes()[:42])
    write_sound(folder / "silent.wav", np.zeros(32_000, np.int16))
    write_sound(folder / "one.wav", np.ones(1, np.int16))
    (folder / "text.wav").write_text("I am a poem, and no sound.\n" * 50)
    (folder / "image.mp3").write_bytes(b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).bytes(3000))
    (folder / "folder.wav").mkdir()
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    os.mkfifo(folder / "pipe.wav")
    shutil.copy(named("we ird\n'\"[red] 漢.wav", 1), folder / os.fsdecode(b"caf\xe9.wav"))
    named("latin.wav", 2)
    (folder / "latin.txt").write_bytes("café".encode("latin-1"))
    named("odd.wav", 3)
    (folder / "odd.txt").unlink()
    (folder / "odd.json").write_text('{"id": 7}')
    long = named("long-header.wav", 4)
    long.write_bytes(with_length(long.read_bytes(), 0x7FFFFFF0))
    endless = named("no-length.wav", 5)
    endless.write_bytes(with_length(endless.read_bytes(), 0xFFFFFFFF))
    write_wave(folder / "eight.wav", np.repeat(sound[:, None], 8, axis=1))
    (folder / "eight.txt").write_text(TEXTS[0])
    write_sound(folder / "unspoken.wav", np.zeros(32_003, np.int16))
    twice = [(0.5, 1.5, "thanks for watching"), (0.5, 1.5, "thanks for watching"), (90.0, 91.0, "too late")]
    write_subtitles(folder / "unspoken.srt", twice)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store made of good files, and one made of these among bad ones."""
    folder = tmp_path_factory.mktemp("bad input")
    source = speak_corpus(folder / "in")
    clean = run(source, folder / "clean", *READ_ALONG)
    assert clean.code == 0, clean.err
    shutil.copy(source / "good-0.wav", source / "twice.wav")
    shutil.copy(source / "good-0.txt", source / "twice.txt")
    (folder / "scratch").mkdir()
    spoil(source, folder / "scratch")
    spoiled = run(source, folder / "spoiled", *READ_ALONG, "--set", "max_failed_share=0.9")
    assert spoiled.code == 0, spoiled.err
    return folder / "clean", folder / "spoiled"


def test_every_bad_file_is_named_with_its_stage_and_error(stores: tuple[Path, Path]) -> None:
    undone = audit(stores[1], "select * from ledger where verdict <> 'kept' and kind in ('listing', 'recording')")
    found = {Path(row["uri"]).name: row for row in undone}
    assert sorted(found) == sorted(EXPECTED)
    assert len(undone) == len(found)
    for name, (node, verdict, reason, says) in EXPECTED.items():
        row = found[name]
        assert (row["node"], row["verdict"], row["reason"]) == (node, verdict, reason), name
        assert row["stage"] and says in (row["error"] or ""), name
        assert "\n" not in (row["error"] or "")


def test_what_the_damage_left_is_used(stores: tuple[Path, Path]) -> None:
    rows = audit(stores[1], "select distinct uri from ledger where kind = 'utterance' and node = 'utterances'")
    assert {Path(row["uri"]).name for row in rows} >= set(STILL_GOOD)
    kept = audit(stores[1], "select distinct uri from encoded where verdict = 'kept'")
    whole = {"eight.wav", "long-header.wav", "no-length.wav", "we ird\n'\"[red] 漢.wav"}
    assert {Path(row["uri"]).name for row in kept} == whole | {f"good-{number}.wav" for number in range(4)}


def test_a_wrong_duration_in_the_header_changes_nothing(stores: tuple[Path, Path]) -> None:
    rows = audit(stores[1], "select name, header_duration_s from recordings where name = 'long-header.wav'")
    spans = audit(stores[1], "select name, span, text from encoded where task = 'asr'")
    by_name = {row["name"]: row for row in spans}
    assert rows and by_name["long-header.wav"]["text"] == by_name["good-0.wav"]["text"]
    for end in ("start", "end"):
        assert by_name["long-header.wav"]["span"][end] == pytest.approx(by_name["good-0.wav"]["span"][end], abs=512)


def test_text_over_silence_is_rejected_cue_by_cue(stores: tuple[Path, Path]) -> None:
    sql = "select * from ledger where uri like '%unspoken.wav' and verdict <> 'kept'"
    rows = audit(stores[1], sql)
    assert [(row["kind"], row["reason"], row["value"]) for row in rows] == [
        ("utterance", "text_without_speech", 0.0)
    ] * 2


def test_the_same_file_twice_is_one_recording(stores: tuple[Path, Path]) -> None:
    (row,) = audit(stores[1], "select * from recordings where kind = 'recording' and name = 'good-0.wav'")
    assert row["occurrences"] == ["good-0.wav", "twice.wav"]
    listed = audit(
        stores[1], "select * from ledger where node = 'recordings' and kind = 'listing' and uri like '%twice%'"
    )
    assert [entry["verdict"] for entry in listed] == ["kept"]


def test_good_files_give_the_same_bytes_as_without_the_bad_ones(stores: tuple[Path, Path]) -> None:
    def samples(store: Path) -> dict[str, Any]:
        rows = audit(store, "select row_id, digest from encoded where verdict = 'kept' and name like 'good-%'")
        packed = audit(store, "select row_id, parts from packed where name like 'good-%'")
        parts = {row["row_id"]: [(p["extension"], p["size"], p["xxh3"]) for p in row["parts"]] for row in packed}
        return {row["row_id"]: (row["digest"], parts[row["row_id"]]) for row in rows}

    clean, spoiled = samples(stores[0]), samples(stores[1])
    assert clean == spoiled and len(clean) == 8


def test_every_row_has_one_verdict_at_each_node(stores: tuple[Path, Path]) -> None:
    assert audit(stores[1], "select row_id, node from ledger group by all having count(*) > 1") == []
    sql = "select count(*) as n from ledger where node = 'scan'"
    files = len(EXPECTED) + len(STILL_GOOD) + 4 + len(["twice", "unspoken"])
    assert audit(stores[1], sql) == [{"n": files}]
    assert curate("verify", "--store", str(stores[1])).code == 0


def manifest(path: Path, *records: dict[str, Any] | str) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))
    return path


def test_a_manifest_s_missing_file_and_broken_line_are_rows(tmp_path: Path) -> None:
    speak_corpus(tmp_path, count=1)
    good = {"path": "good-0.wav", "sidecar": "good-0.txt", "licence": "CC0-1.0"}
    nameless = {"path": "good-0.wav", "sidecar": "gone.srt"}
    source = manifest(tmp_path / "list.jsonl", good, {"path": "gone.wav"}, "{half a", nameless)
    answer = run(source, tmp_path / "store", *READ_ALONG, "--set", "max_failed_share=0.8")
    assert answer.code == 0, answer.err
    failed = audit(tmp_path / "store", "select error from ledger where verdict = 'failed' order by error")
    assert [any(says in row["error"] for row in failed) for says in ("gone.wav", "list.jsonl:3", "gone.srt")] == [
        True
    ] * 3
    assert len(failed) == 3
    kept = audit(tmp_path / "store", "select distinct licence from encoded where verdict = 'kept'")
    assert kept == [{"licence": "CC0-1.0"}]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_failed_row(tmp_path: Path) -> None:
    speak_corpus(tmp_path, count=2)
    (tmp_path / "good-1.wav").chmod(0)
    assert run(tmp_path, tmp_path / "store", *READ_ALONG, "--set", "max_failed_share=0.8").code == 0
    (row,) = audit(tmp_path / "store", "select uri, error from ledger where verdict = 'failed'")
    assert row["uri"].endswith("good-1.wav") and "Permission denied" in row["error"]


def poems(folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.wav").write_text("a poem")


def silences(folder: Path) -> None:
    for number in range(3):
        write_sound(folder / f"{number}.wav", np.zeros(16_000 + number, np.int16))


def strangers(folder: Path) -> None:
    speak_corpus(folder, count=2)
    for number in range(2):
        (folder / f"good-{number}.txt").unlink()


@pytest.mark.parametrize(
    ("fill", "share", "says"),
    [
        (poems, 0.05, ["3 of 3 listing rows failed at scan", "max_failed_share"]),
        (poems, 1.0, ["nothing was kept of 3 files", "scan"]),
        (silences, 0.05, ["nothing was kept of 3 files", "no_speech"]),
        (strangers, 0.05, ["nothing was kept of 2 files", "no_subtitle"]),
    ],
)
def test_a_corpus_of_which_nothing_is_left_ends_with_5_and_why(
    tmp_path: Path, fill: Callable[[Path], None], share: float, says: list[str]
) -> None:
    (tmp_path / "in").mkdir()
    fill(tmp_path / "in")
    answer = run(tmp_path / "in", tmp_path / "store", *READ_ALONG, "--set", f"max_failed_share={share}")
    assert answer.code == 5
    assert all(words in answer.err for words in says), answer.err
    assert "Traceback" not in answer.err


def test_more_failures_than_the_recipe_allows_end_with_5(tmp_path: Path) -> None:
    source = speak_corpus(tmp_path / "in", count=3)
    (source / "bad.wav").write_text("a poem")
    answer = run(source, tmp_path / "store", *READ_ALONG, "--set", "max_failed_share=0.2")
    assert answer.code == 5 and "1 of 4 listing rows failed at scan" in answer.err
    assert run(source, tmp_path / "store", *READ_ALONG, "--set", "max_failed_share=0.25").code == 0


def test_an_empty_corpus_ends_with_2_and_leaves_no_version(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    answer = run(tmp_path / "in", tmp_path / "store")
    assert answer.code == 2 and str(tmp_path / "in") in answer.err
    assert not list(tmp_path.glob("store/speech/**/*.json"))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("pace.min_cuont=3", "pace.min_cuont"),
        ("utterances.threshold=loud", "utterances.threshold"),
        ("first_opinion=siedcar", "first_opinion"),
        ("audio={format: aac}", "AAC is no output format"),
        ("masking={text_only: 0.8, audio_only: 0.8}", "text_only"),
        ("source.channel=-1", "source.channel"),
    ],
)
def test_a_typo_in_a_recipe_ends_with_2_and_names_the_key(tmp_path: Path, setting: str, says: str) -> None:
    speak_corpus(tmp_path / "in", count=1)
    answer = run(tmp_path / "in", tmp_path / "store", "--set", setting)
    assert answer.code == 2 and says in answer.err
    assert "Traceback" not in answer.err


def test_a_channel_that_a_file_lacks_fails_that_file(tmp_path: Path) -> None:
    source = speak_corpus(tmp_path / "in", count=1)
    sound = spoken([TEXTS[1]])
    write_wave(source / "stereo.wav", np.stack([sound * 0, sound], axis=1))
    (source / "stereo.txt").write_text(TEXTS[1])
    answer = run(source, tmp_path / "store", *READ_ALONG, "--set", "source.channel=1", "--set", "max_failed_share=0.5")
    assert answer.code == 0, answer.err
    (row,) = audit(tmp_path / "store", "select uri, error from ledger where verdict = 'failed'")
    assert row["uri"].endswith("good-0.wav") and "no channel 1" in row["error"]
    assert audit(tmp_path / "store", "select distinct text from encoded where verdict = 'kept'") == [{"text": TEXTS[1]}]
