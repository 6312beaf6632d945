"""The proof of the captions pipeline: its corpus is what its truth says, and its score sees what is wrong."""

import io
import json
import random
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("PIL")

from rich.console import Console

from curation.errors import MediaError, SourceError
from curation.hashing import bytes_digest, draw, file_digest
from curation.media.images import decode_image, probe_image
from curation.proving.balance_score import NOT_DRAWN, balance_figures
from curation.proving.caption_corpus import CaptionCorpusSettings, caption_lexicon, make_caption_corpus
from curation.proving.caption_faults import TEXT_FAULTS, faulty_caption
from curation.proving.caption_score import score_captions
from curation.proving.caption_truth import COPIES, HARD_NEGATIVES, CaptionTruth, PairTruth, read_caption_truth
from curation.proving.figures import Figure, FigureScore, share
from curation.proving.scene_files import copied, encoded, scene_pixels, spoiled, unusual
from curation.proving.scenes import draw_scene
from schemas.ledger import KEPT, LEDGER, LINEAGE, REJECTED, SAMPLED_OUT

ROOT = Path(__file__).parents[3]
SMALL = CaptionCorpusSettings(least=2, sides=(256, 272), pairs_per_tar=40)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CaptionTruth]:
    folder = tmp_path_factory.mktemp("captions")
    return folder, make_caption_corpus(folder, seed=5, pairs=150, settings=SMALL)


def images(folder: Path) -> dict[tuple[str, str], bytes]:
    """The bytes of each entry's image, by file and key, read without the project's own readers."""
    found: dict[tuple[str, str], bytes] = {}
    source = folder / "pairs"
    for path in sorted(source.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, extension = member.name.split(".")
                if extension not in ("txt", "json"):
                    found[path.name, key] = tar.extractfile(member).read()  # type: ignore[union-attr]
    for number, line in enumerate((source / "listed/pairs.jsonl").read_text("utf-8").splitlines(), 1):
        found["listed/pairs.jsonl", str(number)] = (source / "listed" / json.loads(line)["image"]).read_bytes()
    for number, row in enumerate(pq.read_table(source / "pairs.parquet").to_pylist()):
        found["pairs.parquet", str(number)] = row["image"]["bytes"]
    return found


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def test_one_seed_gives_the_same_bytes_in_a_fresh_process(tmp_path: Path) -> None:
    few = CaptionCorpusSettings(least=1, sides=(256, 256))
    make_caption_corpus(tmp_path / "here", seed=5, pairs=60, settings=few)
    code = (
        "import sys; from curation.proving.caption_corpus import *;"
        "make_caption_corpus(sys.argv[1], seed=5, pairs=60, settings=CaptionCorpusSettings(least=1, sides=(256, 256)))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], cwd=ROOT, check=True, timeout=120)
    assert digests(tmp_path / "here") == digests(tmp_path / "there")


def test_a_corpus_is_not_written_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SourceError, match="not empty"):
        make_caption_corpus(tmp_path)


def test_the_truth_is_read_back_and_names_a_broken_line(corpus: tuple[Path, CaptionTruth], tmp_path: Path) -> None:
    folder, truth = corpus
    assert read_caption_truth(folder).pairs == truth.pairs
    (tmp_path / "corpus.json").write_text('{"format": 1, "pipeline": "captions"}')
    good = '{"type": "pair", "file": "a.tar", "key": "0"}'
    for line, said in (
        ('{"type": "pair", "file": "../a.tar", "key": "1"}', "line 2: file: .*no path inside"),
        ('{"type": "pair", "file": "a.tar", "key": "1", "color": "red"}', "line 2: color"),
        ('{"type": "pair", "file": "a.tar", "key": "1", "fault": "ugly"}', "line 2: fault"),
        (good, "described twice"),
        ('{"type": "pair", "file": "a.tar", "key": "1", "fault": "resized", "image": "x"}', "no good pair"),
    ):
        (tmp_path / "truth.jsonl").write_text(f"{good}\n{line}\n")
        with pytest.raises(SourceError, match=said):
            read_caption_truth(tmp_path)
    (tmp_path / "corpus.json").write_text('{"format": 1, "pipeline": "documents"}')
    with pytest.raises(SourceError, match="'documents', not 'captions'"):
        read_caption_truth(tmp_path)


def test_every_kind_of_fault_is_planted_and_every_entry_is_in_its_file(corpus: tuple[Path, CaptionTruth]) -> None:
    folder, truth = corpus
    planted = Counter(str(one.fault) for one in truth.pairs)
    faults = PairTruth.model_fields["fault"].annotation
    assert all(planted[fault] >= 2 for fault in _literals(faults))
    there = images(folder)
    without = {(one.file, one.key) for one in truth.pairs if one.fault == "missing_image"}
    assert {(one.file, one.key) for one in truth.pairs} - without == set(there)


def test_copies_and_captions_share_bytes_as_their_truth_says(corpus: tuple[Path, CaptionTruth]) -> None:
    folder, truth = corpus
    content = {place: bytes_digest(data) for place, data in images(folder).items()}
    good: dict[str, list[PairTruth]] = {}
    for one in truth.pairs:
        if one.fault is None:
            good.setdefault(one.image or "", []).append(one)
    for one in truth.pairs:
        if one.fault == "exact_duplicate" or one.fault in COPIES:
            (original,) = good[one.image or ""]
            same = content[one.file, one.key] == content[original.file, original.key]
            assert same == (one.fault == "exact_duplicate")
            assert one.fault != "exact_duplicate" or one.caption == original.caption
    several = [ones for ones in good.values() if len(ones) > 1]
    assert several
    for ones in several:
        assert len(ones) == 3 == len({one.caption for one in ones})
        assert len({content[one.file, one.key] for one in ones}) == 1


def test_images_of_different_scenes_have_perceptual_hashes_far_apart() -> None:
    from curation.diversity.near_hashes import hamming_pairs
    from curation.vision.image_checks import ImageQuality

    measure = ImageQuality().measure
    hashes = []
    for number in range(120):
        chance = random.Random(number)
        hashes.append(measure(encoded(scene_pixels(draw_scene(chance), chance, (256, 272)), "jpeg"))["perceptual_hash"])
    assert len(hamming_pairs(np.array(hashes, np.uint64), 8)) == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_unusual_files_show_what_they_were_made_of(seed: int) -> None:
    chance = random.Random(seed)
    pixels = scene_pixels(draw_scene(chance), chance, (128, 160))
    for how in ("cmyk", "sixteen_bit", "exif_rotated", "animated"):
        data, _ = unusual(pixels, how, random.Random(seed))
        shown = decode_image(data, max_pixels=10**6)
        assert shown.shape == pixels.shape
        assert np.abs(shown.astype(int) - pixels).mean() < 8, how
        info = probe_image(data)
        assert {
            "cmyk": info.mode == "CMYK",
            "sixteen_bit": data[24] == 16,
            "exif_rotated": info.orientation == 6,
            "animated": info.frames == 2,
        }[how]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_spoiled_files_are_as_their_fault_says(seed: int) -> None:
    chance = random.Random(seed)
    pixels = scene_pixels(draw_scene(chance), chance, (256, 272))
    for fault in ("truncated_file", "not_an_image"):
        with pytest.raises(MediaError):
            decode_image(spoiled(pixels, fault, random.Random(seed))[0], max_pixels=10**7)
    sizes = {fault: probe_image(spoiled(pixels, fault, random.Random(seed))[0]) for fault in ("tiny", "extreme_aspect")}
    assert max(sizes["tiny"].width, sizes["tiny"].height) < 150
    short, long = sorted((sizes["extreme_aspect"].width, sizes["extreme_aspect"].height))
    assert short >= 200 and long > 3 * short
    assert decode_image(spoiled(pixels, "blank", random.Random(seed))[0], max_pixels=10**7).std() < 1
    assert copied(pixels, "crop_15", chance).shape[0] == round(pixels.shape[0] * 0.85)


@pytest.mark.parametrize("fault", TEXT_FAULTS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_fault_changes_the_caption_as_its_name_says(fault: Any, seed: int) -> None:
    text = "a picture of a large red circle on a white background"
    faulty = faulty_caption(text, fault, random.Random(seed))
    assert faulty != text
    if fault == "null":
        assert faulty is None
        return
    assert faulty is not None
    match fault:
        case "empty":
            assert not faulty.strip()
        case "repeated":
            assert faulty.startswith(text) and len(faulty.split()) >= 2 * len(text.split())
        case "mixed_language":
            assert faulty.startswith(text) and len(faulty) > len(text) + 5
        case "megabyte":
            assert len(faulty) >= 2**20
        case "truncated_caption":
            assert text.startswith(" ".join(faulty.split()[:2]))


def test_the_lexicon_names_what_captions_speak_of(corpus: tuple[Path, CaptionTruth]) -> None:
    entries = set(caption_lexicon()["entry"].to_pylist())
    for one in corpus[1].pairs:
        if one.fault is None:
            words = (one.caption or "").replace(",", "").split()
            assert any(f"{a} {b}" in entries for a, b in pairwise(words))


def test_common_things_come_far_more_often_than_rare_ones(corpus: tuple[Path, CaptionTruth]) -> None:
    seen = [one.caption or "" for one in corpus[1].pairs if one.fault is None and not one.held_out]
    assert sum(" red " in text for text in seen) > 3 * max(1, sum(" brown " in text for text in seen))


# A run that decides everything rightly, to be spoiled in one point at a time.

Run = dict[str, Any]


def perfect_run(truth: CaptionTruth) -> Run:
    """Tables of a run in which every fault is rejected for what it is, and the rest is kept."""
    run: Run = {"entries": {}, "ledger": {}, "lineage": {}, "similarity": {}, "balanced": {}}
    originals = {one.image: f"pair {one.file} {one.key}" for one in truth.pairs if one.fault is None}
    for one in truth.pairs:
        entry, pair = f"entry {one.file} {one.key}", f"pair {one.file} {one.key}"
        if one.fault == "exact_duplicate":
            pair = originals[one.image]
        run["entries"][entry] = (one.file, one.key)
        run["ledger"]["entries", entry] = (True, KEPT, None)
        run["lineage"][entry] = pair
        run["ledger"]["pairs", pair] = (True, KEPT, None)
        reason = None
        if one.fault in COPIES:
            reason = "perceptual_duplicate"
        elif one.fault is not None and one.fault != "exact_duplicate":
            reason = one.fault
        run["ledger"]["checked", pair] = (False, REJECTED if reason else KEPT, reason)
        if one.held_out:
            run["similarity"][pair] = 0.2 if one.fault is None else -0.2
    for entry in run["entries"]:
        run["ledger"]["pairs", entry] = (False, KEPT, None)
    return run


def figures(truth: CaptionTruth, run: Run) -> FigureScore:
    entries = pa.table(
        {
            "row_id": list(run["entries"]),
            "file": [file for file, _ in run["entries"].values()],
            "key": [key for _, key in run["entries"].values()],
        }
    )
    ledger = [
        dict.fromkeys(LEDGER.names)
        | {"row_id": row_id, "node": node, "kind": "row", "made": made, "verdict": verdict, "reason": reason}
        for (node, row_id), (made, verdict, reason) in run["ledger"].items()
    ] + run.get("twice", [])
    lineage = [{"child": pair, "parent": entry, "node": "pairs"} for entry, pair in run["lineage"].items()]
    matched = pa.table({"row_id": list(run["similarity"]), "similarity": list(run["similarity"].values())})
    balanced = pa.table(
        {"row_id": [], "concepts": [], "keep_probability": [], "concept_draw": []},
        pa.schema([("row_id", pa.string()), ("concepts", pa.list_(pa.string())), ("keep_probability", pa.float64()),
                   ("concept_draw", pa.float64())]),
    )  # fmt: skip
    tables = (pa.Table.from_pylist(ledger, LEDGER), pa.Table.from_pylist(lineage, LINEAGE), matched, balanced)
    return score_captions(truth, entries, *tables)


def test_a_run_without_a_mistake_meets_every_target(corpus: tuple[Path, CaptionTruth]) -> None:
    found = figures(corpus[1], perfect_run(corpus[1]))
    assert found.missed == [] and found.problems == ()
    assert sum(figure.met is True for figure in found.figures) >= 14
    assert found["caught: image faults"].value == 1.0
    assert json.loads(found.json())["missed"] == []
    Console(file=io.StringIO()).print(found.table())


def keep(fault: str) -> Callable[[CaptionTruth, Run], None]:
    def change(truth: CaptionTruth, run: Run) -> None:
        for one in (one for one in truth.pairs if one.fault == fault):
            run["ledger"]["checked", run["lineage"][f"entry {one.file} {one.key}"]] = (False, KEPT, None)

    return change


def lose(reason: str, share_: float) -> Callable[[CaptionTruth, Run], None]:
    def change(truth: CaptionTruth, run: Run) -> None:
        good = [one for one in truth.pairs if one.fault is None and one.unusual is None]
        for one in good[: max(1, round(share_ * len(good)))]:
            run["ledger"]["checked", f"pair {one.file} {one.key}"] = (False, REJECTED, reason)

    return change


def part(truth: CaptionTruth, run: Run) -> None:
    for one in (one for one in truth.pairs if one.fault == "exact_duplicate"):
        entry, pair = f"entry {one.file} {one.key}", f"pair {one.file} {one.key}"
        run["lineage"][entry] = pair
        run["ledger"]["pairs", pair], run["ledger"]["checked", pair] = (True, KEPT, None), (False, KEPT, None)


def shuffle(truth: CaptionTruth, run: Run) -> None:
    values = list(run["similarity"].values())
    run["similarity"] = dict(zip(run["similarity"], random.Random(0).sample(values, len(values)), strict=True))


def decide_twice(truth: CaptionTruth, run: Run) -> None:
    (node, row_id), (made, verdict, reason) = next(iter(run["ledger"].items()))
    values = {"row_id": row_id, "node": node, "kind": "row", "made": made, "verdict": verdict, "reason": reason}
    run["twice"] = [dict.fromkeys(LEDGER.names) | values]


def forget(truth: CaptionTruth, run: Run) -> None:
    run["entries"].pop(next(iter(run["entries"])))


def no_gif(truth: CaptionTruth, run: Run) -> None:
    for one in (one for one in truth.pairs if one.unusual == "animated"):
        run["ledger"]["checked", f"pair {one.file} {one.key}"] = (False, REJECTED, "MediaError")


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (keep("blurred"), "caught: image faults"),
        (keep("repeated"), "caught: caption faults"),
        (keep("duplicate_key"), "caught: entry faults"),
        (keep("evaluation"), "caught: evaluation images"),
        (keep("jpeg_50"), "near duplicates found: jpeg_50"),
        (keep("flipped"), None),
        (keep("hard_shape"), None),
        (lose("image_blurred", 0.2), "good pairs lost"),
        (lose("perceptual_duplicate", 0.2), "distinct images taken for copies"),
        (lose("semantic_duplicate", 0.02), None),
        (part, "exact duplicates brought to one"),
        (shuffle, "similarity of true captions above mismatched (AUC)"),
        (decide_twice, "ledger: rows lost or counted twice"),
        (forget, "ledger: rows lost or counted twice"),
        (no_gif, "unusual images read: animated"),
    ],
)
def test_one_mistake_of_a_run_misses_its_target(
    corpus: tuple[Path, CaptionTruth], change: Callable[[CaptionTruth, Run], None], missed: str | None
) -> None:
    truth = corpus[1]
    run = perfect_run(truth)
    change(truth, run)
    found = figures(truth, run).missed
    assert (missed in found) if missed else found == []


def test_hard_negatives_are_shown_by_kind(corpus: tuple[Path, CaptionTruth]) -> None:
    found = figures(corpus[1], perfect_run(corpus[1]))
    for kind in HARD_NEGATIVES:
        figure = found[f"similarity of true captions above {kind} (AUC)"]
        assert figure.value == 1.0 and figure.met is None


def balance(limit: float, *, kept: Callable[[float, float], bool] = lambda p, u: u < p) -> dict[str, Figure]:
    """Figures of a balance of 400 pairs: one common concept, one rare."""
    concepts = [["red"]] * 380 + [["red", "brown"]] * 20
    ids = [f"pair {n}" for n in range(400)]
    probabilities = [min(1.0, limit / 400)] * 380 + [1.0] * 20
    draws = [draw(0, row_id, "concepts") for row_id in ids]
    table = pa.table({"row_id": ids, "concepts": concepts, "keep_probability": probabilities, "concept_draw": draws})
    out = [i for i, (p, u) in enumerate(zip(probabilities, draws, strict=True)) if not kept(p, u)]
    rows = [
        dict.fromkeys(LEDGER.names)
        | {"row_id": ids[i], "node": "encoded", "kind": "pair", "made": False}
        | {"verdict": SAMPLED_OUT, "reason": NOT_DRAWN}
        for i in out
    ]
    return {figure.name: figure for figure in balance_figures(table, pa.Table.from_pylist(rows, LEDGER), limit)}


def test_a_right_balance_meets_its_targets_and_a_wrong_one_does_not() -> None:
    right = balance(100)
    assert not [name for name, figure in right.items() if figure.met is False]
    assert right["rare concepts that kept every pair"].count == "1/1"
    none_kept = balance(100, kept=lambda p, u: p >= 1)
    assert none_kept["concepts within 4 standard deviations"].met is False
    rare_lost = balance(100, kept=lambda p, u: u < min(p, 0.5))
    assert rare_lost["rare concepts that kept every pair"].met is False
    turned = balance(100, kept=lambda p, u: u > 1 - p)
    assert turned["pairs that a doubled t would lose"].met is False


def test_a_figure_is_met_at_its_limit_and_unmet_without_a_value_is_nothing() -> None:
    assert share("x", 95, 100, at_least=0.95).met is True
    assert share("x", 94, 100, at_least=0.95).met is False
    assert share("x", 0, 0, at_least=0.95).met is None
    assert Figure("x", 1.0, 0, 0, plain=True).met is False and Figure("x", 0.0, 0, 0, plain=True).target == "= 0"


def test_a_run_of_the_pipeline_meets_its_targets_as_far_as_few_pairs_can_say(
    corpus: tuple[Path, CaptionTruth], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ahocorasick")
    from curation.audit.views import open_views
    from curation.proving.caption_corpus import recipe_settings
    from curation.proving.caption_score import QUESTIONS
    from curation.runtime.inline import InlineRunner
    from curation.runtime.progress import LiveProgress
    from curation.store.objects import Store
    from dags.dag import read_job, run_job

    folder, truth = corpus
    job = read_job("captions-embedded", [*recipe_settings(folder), "clusters.clusters=8", "max_failed_share=0.5"])
    store = Store(str(tmp_path / "store"))
    with LiveProgress(Console(file=io.StringIO())) as progress:
        version, _ = run_job(job, store, InlineRunner(), progress)
    views = open_views(store, version)
    found = score_captions(truth, *(views.sql(question).to_arrow_table() for question in QUESTIONS))
    assert found.problems == ()
    # Of so few pairs one alone is more than the share that may go wrong.
    near = {
        "good pairs lost": lambda value: value <= 0.05,
        "caught: caption faults": lambda value: value >= 0.85,
        "similarity of true captions above mismatched (AUC)": lambda value: value >= 0.97,
    }
    assert all(name in near and near[name](found[name].value) for name in found.missed), found.missed


def _literals(annotation: Any) -> list[str]:
    from typing import get_args

    found = [name for one in get_args(annotation) for name in _literals(one)]
    return found or ([annotation] if isinstance(annotation, str) else [])
