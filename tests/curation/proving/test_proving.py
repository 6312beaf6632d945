import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("espeakng_loader")
pytest.importorskip("pocketsphinx")

import av
from hypothesis import given, settings, strategies as st

from curation.errors import SourceError
from curation.media.subtitles import read_subtitles
from curation.proving.domain_language import arpa
from curation.proving.faults import faulty_text
from curation.proving.sentences import Grammar, ends_clause, spoken_words
from curation.proving.speech_corpus import encoded, make_corpus
from curation.proving.speech_score import Score, score
from curation.proving.spoken_recording import RATE_HZ, CorpusSettings
from curation.proving.truth import FAULTS, Fault, Truth, read_truth, write_truth
from schemas.ledger import LEDGER
from schemas.spans import span

ROOT = Path(__file__).parents[3]
TICKS = 16_000
SMALL = CorpusSettings(fault_share=0.08)
"""With seed 5 every kind of fault is planted, although there are some 30 cues."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, make_corpus(folder, seed=5, hours=0.06, recordings=4, settings=SMALL)


def test_one_seed_gives_the_same_bytes_in_a_fresh_process(tmp_path: Path) -> None:
    make_corpus(tmp_path / "here", seed=5, hours=0.01, recordings=4)
    code = (
        "import sys; from curation.proving.speech_corpus import make_corpus;"
        "make_corpus(sys.argv[1], seed=5, hours=0.01, recordings=4)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], cwd=ROOT, check=True, timeout=120)
    assert _digests(tmp_path / "here") == _digests(tmp_path / "there")
    make_corpus(tmp_path / "other", seed=6, hours=0.002, recordings=1)
    assert _digests(tmp_path / "other") != _digests(tmp_path / "here")


def test_a_corpus_is_not_written_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SourceError, match="not empty"):
        make_corpus(tmp_path)


def test_the_truth_is_read_back_as_it_was_made(corpus: tuple[Path, Truth]) -> None:
    folder, truth = corpus
    again = read_truth(folder)
    assert again.recordings == truth.recordings
    assert again.utterances == truth.utterances


def test_speech_stands_where_the_truth_says(corpus: tuple[Path, Truth]) -> None:
    folder, truth = corpus
    recording = next(one for one in truth.recordings if one.snr_db is None or one.snr_db >= 20)
    with av.open(str(folder / recording.file)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in frames]).astype(np.float64)
    rate_hz = frames[0].sample_rate
    assert len(samples) / rate_hz == pytest.approx(recording.duration_s, abs=0.01)
    level = [float(np.std(samples[round(s * rate_hz) : round(e * rate_hz)])) for s, e in _speech(recording)]
    quiet = [float(np.std(samples[round(s * rate_hz) : round(e * rate_hz)])) for s, e in _silences(recording)]
    assert min(level) > 3 * max(quiet)


def test_every_encoding_keeps_the_time_of_a_click() -> None:
    click = np.zeros(2 * RATE_HZ, np.int16)
    click[RATE_HZ : RATE_HZ + 200] = np.random.default_rng(0).integers(-20_000, 20_000, 200)
    for extension in CorpusSettings().formats:
        with av.open(_in_memory(encoded(click, RATE_HZ, extension))) as container:
            frames = list(container.decode(audio=0))
        samples = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in frames]).astype(np.float64)
        loud = np.flatnonzero(np.abs(samples) > 0.3 * np.abs(samples).max())
        assert loud[0] / frames[0].sample_rate == pytest.approx(1.0, abs=0.002), extension


def test_subtitles_hold_one_cue_per_utterance_and_never_overlap(corpus: tuple[Path, Truth]) -> None:
    folder, truth = corpus
    for recording in truth.recordings:
        sidecar = next(
            p for p in folder.glob(Path(recording.file).stem + ".*") if p.suffix in (".srt", ".vtt", ".json")
        )
        cues = read_subtitles(sidecar)
        mine = [utterance for utterance in truth.utterances if utterance.file == recording.file]
        assert [cue.text for cue in cues] == [utterance.cue for utterance in mine]
        times = [(cue.start_s or 0.0, cue.end_s or 0.0) for cue in cues]
        assert all(
            start <= u.start_s + 0.001 and u.end_s - 0.001 <= end for (start, end), u in zip(times, mine, strict=True)
        )
        assert all(left[1] <= right[0] + 0.002 for left, right in pairwise(times))


def test_words_and_pauses_lie_in_their_utterance_and_in_order(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    for utterance in truth.utterances:
        starts = [word.start_s for word in utterance.words if word.start_s is not None]
        assert starts == sorted(starts)
        assert [word.text for word in utterance.words] == utterance.spoken.split()
        for pause in utterance.pauses:
            assert utterance.start_s < pause.start_s < pause.end_s < utterance.end_s
    timed = [word.start_s is not None for utterance in truth.utterances for word in utterance.words]
    assert sum(timed) > 0.9 * len(timed)


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_fault_changes_the_text_as_its_name_says(fault: Fault, seed: int) -> None:
    import random

    grammar = Grammar(seed)
    spoken = grammar.sentence()
    cue = faulty_text(fault, "" if fault == "silence" else spoken, grammar, random.Random(seed), [spoken])
    before, after = spoken.split(), cue.split()
    assert cue and cue != spoken
    if fault == "swapped_word":
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    elif fault == "deleted":
        assert len(after) <= 0.8 * len(before) and not Counter(after) - Counter(before)
    elif fault == "tail":
        assert after[: len(before)] == before and 3 <= len(after) - len(before) <= 8
    elif fault == "loop":
        assert len(after) >= len(before) + 3 and set(after) == set(before)
    elif fault == "pace":
        assert len(after) >= 2.5 * len(before) or len(after) <= len(before) / 3


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=1, max_size=20), st.integers(1, 3))
def test_a_language_model_is_a_distribution_after_every_history(lines: list[list[str]], order: int) -> None:
    probability: dict[tuple[str, ...], float] = {}
    backoff: dict[tuple[str, ...], float] = {}
    size = 0
    for line in arpa(lines, order).splitlines():
        size = int(line[1]) if line.endswith("-grams:") else size
        if size and line and line[0] in "-0123456789":
            parts = line.split()
            gram = tuple(parts[1 : 1 + size])
            probability[gram] = 10 ** float(parts[0])
            backoff[gram] = 10 ** float(parts[1 + size]) if len(parts) > 1 + size else 1.0

    def after(history: tuple[str, ...], word: str) -> float:
        if not history or (*history, word) in probability:
            return probability[(*history, word)]
        return backoff.get(history, 1.0) * after(history[1:], word)

    words = [gram[0] for gram in probability if len(gram) == 1 and gram[0] != "<s>"]
    for history in {(), *(gram[:-1] for gram in probability)}:
        assert sum(after(history, word) for word in words) == pytest.approx(1.0, abs=0.01)


def test_only_marks_that_close_something_count() -> None:
    text = 'Mr. Anderson said, "The U.S. embassy is 3.5 kilometers away."'
    assert [word for word in text.split() if ends_clause(word)] == ["said,", 'away."']
    assert " ".join(spoken_words(text)) == "mr. anderson said the u.s. embassy is three point five kilometers away"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2"),
        ('{"type": "utterance", "file": "a.wav", "start_s": 2, "end_s": 1, "spoken": "x", "cue": "x"}', "end_s 1.0"),
        (
            '{"type": "utterance", "file": "b.wav", "start_s": 0, "end_s": 1, "spoken": "x", "cue": "x"}',
            "not described",
        ),
        ('{"type": "utterance", "file": "../a", "start_s": 0, "end_s": 1, "spoken": "x", "cue": "x"}', "no path"),
        ('{"type": "utterance", "file": "a.wav", "start_s": 0, "end_s": 1, "spoken": "", "cue": "x"}', "silence"),
        ('{"type": "recording", "file": "a.wav", "duration_s": 9}', "twice"),
        ('{"type": "recording", "file": "c.wav", "duration_s": 9, "sped": []}', "sped"),
    ],
)
def test_an_invalid_truth_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "corpus.json").write_text('{"format": 1}')
    (tmp_path / "truth.jsonl").write_text('{"type": "recording", "file": "a.wav", "duration_s": 9}\n' + line + "\n")
    with pytest.raises(SourceError, match=complaint):
        read_truth(tmp_path)


def test_a_folder_without_truth_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no corpus"):
        read_truth(tmp_path)


def test_truth_from_elsewhere_needs_only_times_and_texts(tmp_path: Path) -> None:
    lines = [
        {"type": "recording", "file": "talks/a.wav", "duration_s": 9.0},
        {"type": "utterance", "file": "talks/a.wav", "start_s": 1, "end_s": 2, "spoken": "Hello.", "cue": "Hello."},
    ]
    (tmp_path / "corpus.json").write_text('{"format": 1, "from": "elsewhere"}')
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    truth = read_truth(tmp_path)
    write_truth(truth, tmp_path)
    assert read_truth(tmp_path) == truth
    assert perfect(truth).score(truth).good.share == 0.0


class Run:
    """The three tables of a made-up run, as lists that a test spoils."""

    def __init__(self) -> None:
        self.utterances: list[dict[str, Any]] = []
        self.ledger: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []

    def decide(self, row_id: str, uri: str, verdict: str, reason: str | None, kind: str = "utterance") -> None:
        row = dict.fromkeys(LEDGER.names)
        row |= {"row_id": row_id, "node": "map", "kind": kind, "made": kind != "recording", "uri": uri}
        self.ledger.append(row | {"verdict": verdict, "reason": reason})

    def score(self, truth: Truth) -> Score:
        return score(truth, _table(self.utterances), pa.Table.from_pylist(self.ledger, LEDGER), _table(self.samples))


def perfect(truth: Truth) -> Run:
    """What a run without any mistake would say: one utterance per cue, faulty ones rejected, cuts amid the pauses."""
    run = Run()
    for recording in truth.recordings:
        run.decide(recording.file, "/data/" + recording.file, "kept", None, "recording")
    for number, true in enumerate(truth.utterances):
        uri, row_id = "/data/" + true.file, f"u{number}"
        reason = {None: None, "silence": "text_without_speech"}.get(true.fault, "transcripts_disagree")
        run.decide(row_id, uri, "rejected" if reason else "kept", reason)
        run.utterances.append(
            {
                "row_id": row_id,
                "uri": uri,
                "span": span("hash", round(true.start_s * TICKS), round(true.end_s * TICKS), TICKS),
                "number": None if true.fault == "silence" else number,
                "transcript": {"text": true.cue},
                "disagreement": 0.0 if true.fault is None else 1.0,
                "words": [
                    {"text": word.text, "start": round(word.start_s * TICKS)}
                    for word in true.words
                    if word.start_s is not None
                ],
            }
        )
    spoken = [(i, true) for i, true in enumerate(truth.utterances) if true.fault != "silence"]
    for (file, faulty), group in groupby(spoken, lambda pair: (pair[1].file, pair[1].fault is not None)):
        if not faulty:
            members = list(group)
            run.samples.append(_sample(f"s{members[0][0]}", "/data/" + file, [true for _, true in members]))
            run.samples[-1]["parents"] = [f"u{i}" for i, _ in members]
    return run


def _sample(row_id: str, uri: str, members: list[Any]) -> dict[str, Any]:
    cuts = [members[0].start_s]
    for true in members:
        marked = [pause for pause in true.pauses if true.words[pause.after_word].mark]
        cuts += [(pause.start_s + pause.end_s) / 2 for pause in marked]
    cuts += [(left.end_s + right.start_s) / 2 for left, right in pairwise(members)]
    borders = [round(cut * TICKS) for cut in sorted([*cuts, members[-1].end_s])]
    fragments = [{"start": start, "end": end, "text": ""} for start, end in pairwise(borders)]
    return {"row_id": row_id, "uri": uri, "fragments": fragments}


def test_a_perfect_run_scores_perfectly(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    found = perfect(truth).score(truth)
    planted = Counter(true.fault for true in truth.utterances if true.fault)
    assert {fault: one.planted for fault, one in found.faults.items()} == planted
    assert all(one.recall == 1.0 for one in found.faults.values())
    assert found.gross_recall == 1.0
    assert found.good.share == 0.0 and found.good.beside_a_fault == 0
    assert [at.recall for at in found.swapped] == [1.0] * 4
    assert found.activity and found.activity.recall > 0.999 and found.activity.precision > 0.999
    assert found.words and found.words.mean_ms < 0.1 and found.words.within_50_ms == 1.0
    assert found.cuts.in_pause == found.cuts.cuts > 10
    assert found.cuts.marks_cut == found.cuts.marks > 10
    assert found.accounting.balanced, found.accounting.problems
    assert json.loads(found.json())["gross_recall"] == 1.0
    assert found.table().row_count > 10


def _keep(run: Run, truth: Truth, want: Callable[[Any], bool], verdict: str, reason: str | None) -> None:
    """Change the verdict of the first utterance that is wanted."""
    number = next(i for i, true in enumerate(truth.utterances) if want(true))
    row = next(row for row in run.ledger if row["row_id"] == f"u{number}")
    row |= {"verdict": verdict, "reason": reason}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_was_kept_lowers_its_recall_alone(corpus: tuple[Path, Truth], fault: Fault) -> None:
    _, truth = corpus
    run = perfect(truth)
    _keep(run, truth, lambda true: true.fault == fault, "kept", None)
    found = run.score(truth)
    assert found.faults[fault].missed == 1
    assert all(one.missed == 0 for kind, one in found.faults.items() if kind != fault)
    assert found.good.lost == 0


def test_a_good_segment_that_was_rejected_is_counted_with_its_reason(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    _keep(run, truth, lambda true: true.fault is None, "rejected", "pace")
    found = run.score(truth)
    assert (found.good.lost, found.good.reasons) == (1, {"pace": 1})
    assert all(one.missed == 0 for one in found.faults.values())


def test_a_good_segment_in_one_utterance_with_a_fault_is_no_loss(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    pairs = enumerate(pairwise(truth.utterances))
    place = next(i for i, (a, b) in pairs if a.file == b.file and a.fault is None and b.fault == "deleted")
    run.utterances[place + 1]["span"]["start"] = run.utterances[place]["span"]["start"]
    del run.utterances[place]
    run.ledger = [row for row in run.ledger if row["row_id"] != f"u{place}"]
    found = run.score(truth)
    assert (found.good.lost, found.good.beside_a_fault) == (0, 1)
    assert found.faults["deleted"].missed == 0


def test_speech_that_was_not_found_lowers_recall_and_counts_as_lost(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    place = next(i for i, true in enumerate(truth.utterances) if true.fault is None)
    del run.utterances[place]
    found = run.score(truth)
    assert found.activity and found.activity.recall < 1 and found.activity.precision > 0.999
    assert found.good.reasons == {"no_speech_found": 1}


def test_claimed_silence_lowers_precision(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    for row in run.utterances:
        row["span"]["end"] += TICKS
    found = run.score(truth)
    assert found.activity and found.activity.precision < 0.95 and found.activity.recall > 0.999


def test_words_that_start_late_are_late_by_as_much(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    for row in run.utterances:
        for word in row["words"]:
            word["start"] += TICKS * 60 // 1000
    found = run.score(truth)
    assert found.words and found.words.mean_ms == pytest.approx(60, abs=0.1) and found.words.within_50_ms == 0


def test_a_cut_inside_a_word_is_no_cut_in_a_pause(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    before = run.score(truth).cuts
    sample = max(run.samples, key=lambda row: len(row["fragments"]))
    true = next(t for t in truth.utterances if sample["uri"].endswith(t.file) and t.fault is None)
    start = _longest_sound(truth, sample)
    sample["fragments"][0]["end"] = sample["fragments"][1]["start"] = start
    after = run.score(truth).cuts
    assert true and after.in_pause == before.in_pause - 1
    assert after.marks_cut == before.marks_cut - 1


def test_fragments_that_were_not_cut_miss_their_marks(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    for row in run.samples:
        row["fragments"] = [row["fragments"][0] | {"end": row["fragments"][-1]["end"]}]
    found = run.score(truth).cuts
    assert (found.cuts, found.marks_cut) == (0, 0) and found.marks > 10


def test_a_swapped_word_is_caught_as_far_as_disagreements_tell(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    good = [row for row, true in zip(run.utterances, truth.utterances, strict=True) if true.fault is None]
    for i, row in enumerate(good):
        row["disagreement"] = i
    for row, true in zip(run.utterances, truth.utterances, strict=True):
        if true.fault == "swapped_word":
            row["disagreement"] = len(good) - 1.5
    assert len(good) >= 10  # so that a loss of a tenth is one segment or more
    recalls = {at.max_loss: at.recall for at in run.score(truth).swapped}
    assert recalls[0.01] == 0.0 and recalls[0.10] == 1.0
    assert all(at.loss <= at.max_loss for at in run.score(truth).swapped)


def test_a_run_without_disagreements_has_no_figure_for_swapped_words(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = perfect(truth)
    for row in run.utterances:
        del row["disagreement"]
    assert run.score(truth).swapped == []


def test_an_empty_run_loses_everything_and_breaks_no_figure(corpus: tuple[Path, Truth]) -> None:
    _, truth = corpus
    run = Run()
    run.utterances = [perfect(truth).utterances[0] | {"uri": "/elsewhere/unknown.wav"}]
    found = run.score(truth)
    assert found.good.share == 1.0 and found.words is None and found.cuts.cuts == 0
    assert found.activity and found.activity.recall == 0
    assert not found.accounting.balanced
    assert found.table().row_count


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda ledger: ledger.append(dict(ledger[-1])), "2 verdicts"),
        (lambda ledger: ledger.pop(), "is not in the ledger"),
        (lambda ledger: ledger[-1].update(verdict="lost"), "verdicts"),
        (lambda ledger: ledger.pop(0), "recording-0000"),
        (lambda ledger: ledger.append(ledger[-1] | {"node": "reduce"}), "was made 2 times"),
    ],
)
def test_a_ledger_that_does_not_balance_is_named(
    corpus: tuple[Path, Truth], spoil: Callable[[list[dict[str, Any]]], Any], complaint: str
) -> None:
    _, truth = corpus
    run = perfect(truth)
    if complaint == "recording-0000":
        run.ledger = [
            row for row in run.ledger if not row["uri"].endswith("recording-0000.wav") or row is run.ledger[0]
        ]
    spoil(run.ledger)
    problems = run.score(truth).accounting.problems
    assert any(complaint in problem for problem in problems)


def _longest_sound(truth: Truth, sample: dict[str, Any]) -> int:
    """A tick in the middle of the longest stretch without any pause, inside a sample's first utterance."""
    start = sample["fragments"][0]["start"] / TICKS
    true = next(t for t in truth.utterances if sample["uri"].endswith(t.file) and abs(t.start_s - start) < 0.001)
    edges = [true.start_s, *[edge for pause in true.pauses for edge in (pause.start_s, pause.end_s)], true.end_s]
    first, last = max(zip(edges[::2], edges[1::2], strict=True), key=lambda pair: pair[1] - pair[0])
    return round((first + last) / 2 * TICKS)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows) if rows else pa.table({"row_id": pa.array([], pa.string()), "uri": []})


def _speech(recording: Any) -> list[tuple[float, float]]:
    return [(part.start_s, part.end_s) for part in recording.speech if part.end_s - part.start_s > 0.3]


def _silences(recording: Any) -> list[tuple[float, float]]:
    """Silences of at least 0.3 s, without their edges and without other sounds."""
    edges = sorted((part.start_s, part.end_s) for part in (*recording.speech, *recording.events))
    gaps = [(left[1] + 0.05, right[0] - 0.05) for left, right in pairwise(edges)]
    return [(start, end) for start, end in gaps if end - start > 0.2]


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _in_memory(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)
