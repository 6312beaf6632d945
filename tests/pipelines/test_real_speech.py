"""Real recordings through the whole pipeline; skipped without them. Limits are measured figures with some margin."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.media.spans import read_spans
from curation.speech.alignment import frame_levels_db
from tests.support.small_corpus import READ_ALONG, audit, run

RATE = 16_000
BOBBY = "Bobby ripped the ledger"
JFK = "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."


@pytest.fixture(scope="module")
def recordings(media: Path) -> Path:
    folder = media / "speech"
    if not (folder / "bobby.wav").is_file():
        pytest.skip(f"no recordings in {folder}")
    return folder


@pytest.fixture(scope="module")
def spoken(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three recordings with texts that fit them, and the store of their run."""
    folder = tmp_path_factory.mktemp("real")
    source = folder / "in"
    source.mkdir()
    for name in ("bobby.wav", "jfk.flac", "audio_1.opus", "audio_1.json"):
        shutil.copyfile(recordings / name, source / name)
    (source / "bobby.txt").write_text(BOBBY)
    (source / "jfk.txt").write_text(JFK)
    answer = run(source, folder / "store", *READ_ALONG)
    assert answer.code == 0, answer.err
    return source, folder / "store"


def interleaved(store: Path, name: str) -> dict[str, Any]:
    """The longest interleaved sample of a recording."""
    question = f"select * from samples where task = 'interleaved' and name = '{name}' order by duration_s desc"
    return audit(store, question)[0]


def hand_set(path: Path) -> dict[str, tuple[float, float]]:
    """The words of a TextGrid's first tier with their borders in seconds."""
    tier = path.read_text().split('name = "phrase"')[0]
    found = re.findall(r'xmin = (\S+)\s+xmax = (\S+)\s+text = "(\w+)"', tier)
    return {text.lower(): (float(start), float(end)) for start, end, text in found}


def test_a_recogniser_of_no_domain_still_tells_right_from_wrong_text(recordings: Path, tmp_path: Path) -> None:
    """Characters disagree by .09 to .25 where the text is right, by .69 to .83 where it is another's."""
    names = sorted(path.stem for path in recordings.glob("austen_*.wav"))
    pairs = [(name, name) for name in names] + [(names[1], names[2]), (names[2], names[3])]
    (tmp_path / "in").mkdir()
    for name, text in pairs:
        to = tmp_path / "in" / f"{'right' if name == text else 'wrong'}_{name}.wav"
        shutil.copyfile(recordings / f"{name}.wav", to)
        shutil.copyfile(recordings / f"{text}.txt", to.with_suffix(".txt"))
    limits = "cross_check={max_disagreement: 0.6, max_unmatched_share: null, max_character_disagreement: 0.4}"
    answer = run(tmp_path / "in", tmp_path / "store", "--set", limits)
    assert answer.code == 0, answer.err
    rows = audit(tmp_path / "store", "select name, verdict, character_disagreement as value from transcripts")
    assert sorted(row["name"] for row in rows if row["verdict"] == "kept") == [f"right_{name}.wav" for name in names]
    assert sum(row["verdict"] == "rejected" for row in rows) == 2
    by_kind = {kind: [row["value"] for row in rows if row["name"].startswith(kind)] for kind in ("right", "wrong")}
    assert max(by_kind["right"]) < 0.3 and min(by_kind["wrong"]) > 0.6


def test_words_start_where_a_hand_set_them(recordings: Path, spoken: tuple[Path, Path]) -> None:
    """18 to 21 ms early; the first by 65 ms, since it takes the short silence before it along."""
    truth = hand_set(recordings / "bobby_words.TextGrid")
    words = interleaved(spoken[1], "bobby.wav")["words"]
    assert [word["text"] for word in words] == BOBBY.split() and len(truth) == 4
    errors_s = [abs(word["start"] / RATE - truth[word["text"].lower()][0]) for word in words]
    assert max(errors_s[1:]) < 0.04 and errors_s[0] < 0.08


def test_an_address_is_cut_at_its_commas_where_it_is_quiet(spoken: tuple[Path, Path]) -> None:
    sample = interleaved(spoken[1], "jfk.flac")
    fragments = sample["fragments"]
    assert [f["text"] for f in fragments] == [
        "And so, my fellow Americans,", "ask not what your country can do for you,",
        "ask what you can do for your country.",
    ]  # fmt: skip
    span = sample["span"]
    (sound,) = read_spans(str(spoken[0] / "jfk.flac"), [(span["start"], span["end"])])
    level_db = frame_levels_db(sound, 160)
    for fragment in fragments[:-1]:
        at = (fragment["end"] - span["start"]) // 160
        assert level_db[at - 2 : at + 3].max() < np.percentile(level_db, 95) - 15


def test_word_times_of_a_minute_agree_with_those_of_another_aligner(
    recordings: Path, spoken: tuple[Path, Path]
) -> None:
    """Another aligner's times are leads, on a grid of 80 ms; the median difference is 90 ms, of which 74 are bias."""
    other = json.loads((recordings / "audio_1.json").read_text())["words"]
    words = interleaved(spoken[1], "audio_1.opus")["words"]
    assert [word["text"] for word in words] == [word["word"] for word in other[: len(words)]] and len(words) == 107
    timed = [
        (mine["start"] / RATE, theirs["start"]) for mine, theirs in zip(words, other, strict=False) if mine["start"]
    ]
    differences_s = np.array([mine - theirs for mine, theirs in timed])
    assert len(timed) >= 105
    assert abs(np.median(differences_s)) < 0.1
    assert np.mean(np.abs(differences_s) < 0.2) > 0.75


def test_narration_over_music_is_cut_within_its_pauses(recordings: Path, spoken: tuple[Path, Path]) -> None:
    """Within 90 ms of another aligner's pauses, whose borders are on a grid of 80 ms."""
    other = json.loads((recordings / "audio_1.json").read_text())["words"]
    sample = interleaved(spoken[1], "audio_1.opus")
    fragments = sample["fragments"]
    assert len(fragments) >= 5
    for fragment in fragments[:-1]:
        assert fragment["text"][-1] in ".,"
        before, after = other[fragment["last_word"]], other[fragment["last_word"] + 1]
        assert before["end"] - 0.12 <= fragment["end"] / RATE <= after["start"] + 0.12
    assert " ".join(f["text"] for f in fragments) == sample["text"]


def test_nothing_of_a_real_recording_is_lost_on_the_way(spoken: tuple[Path, Path]) -> None:
    counts = audit(spoken[1], "select node, verdict, count(*) as n from ledger group by all")
    lost = [(row["node"], row["verdict"], row["n"]) for row in counts if row["verdict"] != "kept"]
    assert lost == [("transcripts", "rejected", 1)], "only the utterance 'sunstroke,', which no dictionary knows"
    for name in ("bobby.wav", "jfk.flac", "audio_1.opus"):
        sample = interleaved(spoken[1], name)
        assert sample["fragments"][0]["start"] == sample["span"]["start"]
        assert sample["fragments"][-1]["end"] == sample["span"]["end"]
