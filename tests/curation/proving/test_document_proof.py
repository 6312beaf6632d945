"""The proof of the documents pipeline: its corpus is what its truth says, and its score sees what is wrong."""

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("PIL")

from rich.console import Console

from curation.errors import SourceError
from curation.hashing import file_digest
from curation.proving.document_corpus import DocumentCorpusSettings, make_document_corpus
from curation.proving.document_score import ALONE, quota_figures, score_documents
from curation.proving.document_truth import (
    DocumentFault,
    DocumentsTruth,
    DocumentTruth,
    ImageNodeFault,
    TextNodeFault,
    read_document_truth,
)
from curation.proving.figures import FigureScore
from schemas.ledger import FAILED, KEPT, LEDGER, LINEAGE, REJECTED

ROOT = Path(__file__).parents[3]
SMALL = DocumentCorpusSettings(least=2, sides=(224, 240), too_many_images=31, image_fault_share=0.02)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DocumentsTruth]:
    folder = tmp_path_factory.mktemp("documents")
    return folder, make_document_corpus(folder, seed=4, documents=40, settings=SMALL)


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def kinds(folder: Path, one: DocumentTruth) -> list[str]:
    """The kinds of a document's nodes in order, read without the project's own readers."""
    path = folder / "documents" / one.file
    if path.suffix == ".html":
        page = path.read_text("utf-8").partition("</nav>")[2]
        return [
            "image" if "<img" in line else "text" for line in page.splitlines() if line.startswith(("<p>", "<div>"))
        ]
    if path.suffix == ".parquet":
        record = pq.read_table(path).to_pylist()[one.number]
    else:
        record = json.loads(path.read_text("utf-8").split("\n")[one.number - 1])
    if "text_list" in record:
        before = Counter(info["matched_text_index"] for info in record["image_info"])
        return [kind for k in range(len(record["text_list"])) for kind in [*["image"] * before[k], "text"]]
    return ["text" if image is None else "image" for image in record["images"]]


def test_one_seed_gives_the_same_bytes_in_a_fresh_process(tmp_path: Path) -> None:
    few = DocumentCorpusSettings(least=1, sides=(224, 224), too_many_images=2)
    make_document_corpus(tmp_path / "here", seed=5, documents=20, settings=few)
    code = (
        "import sys; from curation.proving.document_corpus import *;"
        "few = DocumentCorpusSettings(least=1, sides=(224, 224), too_many_images=2);"
        "make_document_corpus(sys.argv[1], seed=5, documents=20, settings=few)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], cwd=ROOT, check=True, timeout=120)
    assert digests(tmp_path / "here") == digests(tmp_path / "there")


def test_a_corpus_is_not_written_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SourceError, match="not empty"):
        make_document_corpus(tmp_path)


def test_the_truth_is_read_back_and_names_a_broken_line(corpus: tuple[Path, DocumentsTruth], tmp_path: Path) -> None:
    folder, truth = corpus
    assert read_document_truth(folder).documents == truth.documents
    (tmp_path / "corpus.json").write_text('{"format": 1, "pipeline": "documents"}')
    good = '{"type": "document", "file": "a.jsonl", "number": 1}'
    two = '{"type": "document", "file": "a.jsonl", "number": 2'
    for line, said in (
        (f'{two}, "nodes": [{{"kind": "image", "partner": 1}}]}}', "line 2: .*cannot have partner 1"),
        (f'{two}, "nodes": [{{"kind": "image", "partner": 0}}]}}', "line 2: .*a partner that is no text"),
        (f'{two}, "nodes": [{{"kind": "sound"}}]}}', "line 2: nodes.0.kind"),
        (good, "described twice"),
        (f'{two}, "fault": "duplicate", "content": "x"}}', "no good document has its content"),
    ):
        (tmp_path / "truth.jsonl").write_text(f"{good}\n{line}\n")
        with pytest.raises(SourceError, match=said):
            read_document_truth(tmp_path)


def test_every_kind_of_fault_is_planted(corpus: tuple[Path, DocumentsTruth]) -> None:
    documents = corpus[1].documents
    assert {one.fault for one in documents} >= set(get_args(DocumentFault))
    planted = {node.fault for one in documents for node in one.nodes}
    assert planted >= {*get_args(ImageNodeFault), *get_args(TextNodeFault)}


def test_nodes_stand_in_files_in_the_order_of_the_truth(corpus: tuple[Path, DocumentsTruth]) -> None:
    folder, truth = corpus
    good = [one for one in truth.documents if one.fault is None]
    assert {one.file.partition("/")[0] for one in good} == {"mmc4.jsonl", "obelics.jsonl", "obelics.parquet", "pages"}
    for one in good:
        assert kinds(folder, one) == [node.kind for node in one.nodes], one.file


def test_images_are_shuffled_among_texts_and_some_have_none(corpus: tuple[Path, DocumentsTruth]) -> None:
    distances = Counter[int]()
    alone = 0
    for one in corpus[1].documents:
        for place, node in enumerate(one.nodes):
            if node.partner is not None:
                distances[node.partner - place] += 1
            elif node.kind == "image" and node.fault is None:
                alone += 1
    assert len(distances) >= 6 and alone >= 5


def test_texts_that_tell_of_an_image_are_true_of_it_and_of_no_other(corpus: tuple[Path, DocumentsTruth]) -> None:
    """By the embedder, which was trained on the same scenes: its own text is the nearest, but for a few."""
    pytest.importorskip("onnxruntime")
    import numpy as np
    from PIL import Image

    from curation.engines.image_text_embedding import TinySiglip

    folder, truth = corpus
    engine = TinySiglip()
    right = []
    for one in (one for one in truth.documents if one.file.endswith(".html") and one.fault is None):
        page = folder / "documents" / one.file
        nodes = [line for line in page.read_text("utf-8").splitlines() if line.startswith(("<p>", "<div>"))]
        texts = engine.embed_texts([line[3:-4] if line.startswith("<p>") else "" for line in nodes])
        for line, node in zip(nodes, one.nodes, strict=True):
            if node.partner is not None:
                image = np.asarray(Image.open(page.parent / line.split('"')[1]))
                right.append(int((texts @ engine.embed_images([image])[0]).argmax()) == node.partner)
    assert len(right) >= 10 and np.mean(right) >= 0.9


# A run that decides everything rightly, to be spoiled in one point at a time.

Run = dict[str, Any]


def perfect_run(truth: DocumentsTruth) -> Run:
    run: Run = {"entries": {}, "ledger": {}, "lineage": [], "nodes": [], "paired": {}, "assembled": {}}
    for one in truth.documents:
        entry, document = f"entry {one.file} {one.number}", f"document {one.content}"
        run["entries"][entry] = (one.file, one.number)
        run["ledger"]["entries", entry] = (True, KEPT, None)
        run["lineage"].append((entry, "listing"))
        if one.fault == "unreadable":
            run["ledger"]["entries", entry] = (True, FAILED, "MediaError")
            continue
        run["ledger"]["documents", entry] = (False, KEPT, None)
        run["lineage"].append((document, entry))
        if one.fault == "duplicate":
            continue
        run["ledger"]["documents", document] = (True, REJECTED if one.fault else KEPT, one.fault)
        kept = []
        for place, node in enumerate(one.nodes):
            row_id = f"node {one.content} {place}"
            run["nodes"].append((row_id, document, place))
            run["lineage"].append((row_id, document))
            alone = node.kind == "image" and node.partner is None and not node.fault
            reason = node.fault or (ALONE if alone else None)
            run["ledger"]["nodes", row_id] = (True, REJECTED if reason else KEPT, reason)
            if node.kind == "image" and not node.fault:
                run["paired"][row_id] = node.partner
            if not reason:
                kept.append({"ordinal": place, "node_kind": node.kind})
                run["lineage"].append((f"sample {one.content}", row_id))
        if one.nodes:
            run["assembled"][document] = kept
            run["ledger"]["assembled", f"sample {one.content}"] = (True, KEPT, None)
    return run


def figures(truth: DocumentsTruth, run: Run) -> FigureScore:
    entries = [{"row_id": row_id, "file": f, "number": n} for row_id, (f, n) in run["entries"].items()]
    ledger = [
        dict.fromkeys(LEDGER.names)
        | {"row_id": row_id, "node": node, "kind": "row", "made": made, "verdict": verdict, "reason": reason}
        for (node, row_id), (made, verdict, reason) in run["ledger"].items()
    ]
    lineage = [{"child": child, "parent": parent, "node": "x"} for child, parent in run["lineage"]]
    samples = [{"row_id": f"s {root}", "root": root, "nodes": nodes} for root, nodes in run["assembled"].items()]
    total = len(samples)
    kept = run.get("kept", round(SMALL.keep_fraction * total + 1e-9))
    return score_documents(
        truth,
        pa.Table.from_pylist(entries),
        pa.Table.from_pylist(ledger, LEDGER),
        pa.Table.from_pylist(lineage, LINEAGE),
        pa.table(dict(zip(("row_id", "root", "ordinal"), map(list, zip(*run["nodes"], strict=True)), strict=True))),
        pa.table({"row_id": list(run["paired"]), "paired_ordinal": list(run["paired"].values())}),
        pa.Table.from_pylist(samples),
        pa.table({"row_id": [str(k) for k in range(total)], "density_kept": [k < kept for k in range(total)]}),
    )


def test_a_run_without_a_mistake_meets_every_target(corpus: tuple[Path, DocumentsTruth]) -> None:
    found = figures(corpus[1], perfect_run(corpus[1]))
    assert found.missed == [] and found.problems == ()
    assert found["images paired with their own text"].value == 1.0
    assert found["images without a text, left alone"].value == 1.0
    assert sum(figure.met is True for figure in found.figures) >= 9
    Console(file=io.StringIO()).print(found.table())


def pair_wrongly(truth: DocumentsTruth, run: Run) -> None:
    for row_id in [row_id for row_id, partner in run["paired"].items() if partner is not None][::8]:
        run["paired"][row_id] += 1


def leave_alone(truth: DocumentsTruth, run: Run) -> None:
    for row_id in [row_id for row_id, partner in run["paired"].items() if partner is not None][::8]:
        run["paired"][row_id] = None
        run["ledger"]["nodes", row_id] = (True, REJECTED, ALONE)


def keep_blurred(truth: DocumentsTruth, run: Run) -> None:
    for key, (_, _, reason) in run["ledger"].items():
        if reason == "blurred":
            run["ledger"][key] = (True, KEPT, None)


def keep_noisy(truth: DocumentsTruth, run: Run) -> None:
    for key, (_, _, reason) in run["ledger"].items():
        if reason == "noisy":
            run["ledger"][key] = (True, KEPT, None)


def turn_round(truth: DocumentsTruth, run: Run) -> None:
    next(iter(run["assembled"].values())).reverse()


def keep_more(truth: DocumentsTruth, run: Run) -> None:
    run["kept"] = round(SMALL.keep_fraction * len(run["assembled"])) + 1


def part_equals(truth: DocumentsTruth, run: Run) -> None:
    equal = {f"entry {one.file} {one.number}" for one in truth.documents if one.fault == "duplicate"}
    run["lineage"] = [(f"{c} again" if p in equal else c, p) for c, p in run["lineage"]]


def lose_documents(truth: DocumentsTruth, run: Run) -> None:
    good = [one for one in truth.documents if one.fault is None][:3]
    for one in good:
        run["ledger"]["assembled", f"sample {one.content}"] = (True, REJECTED, "no_image_left")


def lose_a_row(truth: DocumentsTruth, run: Run) -> None:
    run["ledger"].pop(("entries", next(iter(run["entries"]))))
    run["ledger"].pop(("documents", next(iter(run["entries"]))), None)


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (pair_wrongly, "images paired with their own text"),
        (leave_alone, "images paired with their own text"),
        (keep_blurred, "caught: faulty images"),
        (keep_noisy, "caught: faulty documents"),
        (turn_round, "documents in order, with all that was kept"),
        (keep_more, "documents kept beyond the quota"),
        (part_equals, "equal documents brought to one"),
        (lose_documents, "good documents lost"),
        (lose_a_row, "ledger: rows lost or counted twice"),
    ],
)
def test_one_mistake_of_a_run_misses_its_target(
    corpus: tuple[Path, DocumentsTruth], change: Callable[[DocumentsTruth, Run], None], missed: str
) -> None:
    run = perfect_run(corpus[1])
    change(corpus[1], run)
    assert missed in figures(corpus[1], run).missed


def test_images_that_are_left_alone_by_mistake_lower_the_precision_of_the_null_column(
    corpus: tuple[Path, DocumentsTruth],
) -> None:
    run = perfect_run(corpus[1])
    leave_alone(corpus[1], run)
    found = figures(corpus[1], run)
    assert found["images without a text, left alone"].value == 1.0
    assert (found["images left alone that have no text"].value or 1) < 1


def test_halves_of_a_quota_are_rounded_up() -> None:
    kept = pa.table({"row_id": list("abcdefghij"), "density_kept": [True] * 3 + [False] * 7})
    (figure,) = quota_figures(kept, 0.25)
    assert figure.met is True and figure.count == "3 of 10, 3 wanted"


def test_a_run_of_the_pipeline_pairs_catches_and_keeps_its_quota(
    corpus: tuple[Path, DocumentsTruth], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("scipy")
    pytest.importorskip("lxml")
    from curation.audit.views import open_views
    from curation.proving.document_corpus import recipe_settings
    from curation.proving.document_score import QUESTIONS
    from curation.runtime.inline import InlineRunner
    from curation.runtime.progress import LiveProgress
    from curation.store.objects import Store
    from dags.dag import read_job, run_job

    folder, truth = corpus
    job = read_job("documents-embedded", [*recipe_settings(folder), "clusters.clusters=4", "max_failed_share=0.5"])
    store = Store(str(tmp_path / "store"))
    with LiveProgress(Console(file=io.StringIO())) as progress:
        version, _ = run_job(job, store, InlineRunner(), progress)
    views = open_views(store, version)
    found = score_documents(truth, *(views.sql(question).to_arrow_table() for question in QUESTIONS))
    assert found.problems == ()
    assert found.missed == []
