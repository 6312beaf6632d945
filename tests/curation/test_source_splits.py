"""Splits that a source has: they stay, held-out rows win over those to train on, and pooling is said."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curation.media.source_splits import held_out_rank, most_held_out, split_of
from curation.pair_sources import PairSource, list_pairs
from curation.store.objects import Store
from curation.store.versions import Version, read_version
from tests.support.small_corpus import audit, curate
from tests.support.small_pairs import QUIET, Pair, caption, image_bytes, pairs, write_tars


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/0.tar", "train"),
        ("data/train-00000-of-00010.parquet", "train"),
        ("data/validation-00000-of-00001-6ef3fd4e9f3c2a1b.parquet", "validation"),
        ("val2014/x.tar", "validation"),
        ("captions_val2014.json", "validation"),
        ("Test/a/b.parquet", "test"),
        ("dev.jsonl.gz", "validation"),
        ("train/test.parquet", "test"),
        ("my-set-test.csv", "test"),
        ("test tubes.csv", None),
        ("train_stations.tar", None),
        ("trainers/0.tar", None),
        ("contest.parquet", None),
        ("00000.tar", None),
    ],
)
def test_a_split_shows_in_the_names_of_folders_and_files(tmp_path: Path, name: str, split: str | None) -> None:
    assert split_of(str(tmp_path / name), name, is_folder=False) == split


def test_names_of_loose_images_are_no_splits(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for stem in ("photo of a train", "test"):
        (tmp_path / f"photos/{stem}.jpg").write_bytes(image_bytes(1))
        (tmp_path / f"photos/{stem}.txt").write_text("a train")
    assert list_pairs(PairSource(path=str(tmp_path)))["split"].to_pylist() == [None]


def test_folders_beside_a_dataset_dict_are_splits_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("train", "sft-2"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "data-00000-of-00001.arrow").write_bytes(b"")
    (tmp_path / "set/dataset_dict.json").write_text('{"splits": ["train", "sft-2"]}')
    assert list_pairs(PairSource(path=str(tmp_path)))["split"].to_pylist() == ["sft2", "train"]


def test_what_is_held_out_most_strictly() -> None:
    assert most_held_out(["train", "test", "validation"]) == "test"
    assert most_held_out(["train", "train"]) == "train"
    assert [held_out_rank(one) for one in ("test", "validation", "extra", "train")] == [0, 1, 2, 3]


def source(folder: Path) -> Path:
    """40 to train on, 10 of each other split; a test pair, a test image and a near copy of one in train besides."""
    test = pairs(10, first=100)
    again = [
        test[0],
        Pair("same-image", test[1].image, caption(777)),
        Pair("near", image_bytes(102, 480, 400), caption(778)),
    ]
    write_tars(folder / "train", [*pairs(40), *again])
    write_tars(folder / "val", pairs(10, first=200))
    write_tars(folder / "test", test)
    return folder


def run(folder: Path, store: Path, *sets: str) -> str:
    words = [word for one in (f"source.path={folder}", *QUIET, *sets) for word in ("--set", one)]
    done = curate("run", "captions-embedded", *words, "--store", str(store), "--runner", "inline")
    assert done.code == 0, done.err
    return done.out


def shards(store: Path) -> tuple[Version, dict[str, int]]:
    version = read_version(Store(store), "captions")
    return version, {Path(shard.path).name: shard.samples for shard in version.shards}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("splits")
    return folder / "store", run(source(folder / "in"), folder / "store")


def test_splits_stay_and_nothing_of_test_is_trained_on(kept: tuple[Path, str]) -> None:
    store, out = kept
    assert "splits, by files: test 1, train 1, validation 1; kept" in out
    _, samples = shards(store)
    assert samples == {"train-000000.tar": 40, "test-000000.tar": 10, "validation-000000.tar": 10}
    rows = audit(store, "select split, count(*) n from packed group by 1 order by 1")
    assert rows == [{"split": "test", "n": 10}, {"split": "train", "n": 40}, {"split": "validation", "n": 10}]
    gone = audit(store, "select reason, count(*) n from ledger where verdict = 'rejected' group by 1")
    assert gone == [{"reason": "perceptual_duplicate", "n": 2}]
    both = audit(store, "select len(occurrences) n from pairs where len(occurrences) > 1 and split = 'test'")
    assert both == [{"n": 2}]


def test_the_card_and_energon_know_the_splits(kept: tuple[Path, str]) -> None:
    version, _ = shards(kept[0])
    folder = kept[0] / "captions" / str(version.number)
    matter = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    files = {one["split"]: one["path"] for one in matter["configs"][0]["data_files"]}
    assert files == {split: f"jpg/{split}-*.tar" for split in ("train", "validation", "test")}
    parts = yaml.safe_load((folder / "jpg/.nv-meta/split.yaml").read_text())["split_parts"]
    assert parts == {
        "train": ["train-000000.tar"],
        "val": ["validation-000000.tar"],
        "test": ["test-000000.tar"],
    }


def test_datasets_loads_the_splits(kept: tuple[Path, str]) -> None:
    datasets = pytest.importorskip("datasets")
    version, _ = shards(kept[0])
    folder = kept[0] / "captions" / str(version.number)
    loaded = datasets.load_dataset(str(folder), "jpg", cache_dir=str(kept[0].parent / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 40, "validation": 10, "test": 10}
    assert {row["json"]["split"] for row in loaded["test"]} == {"test"}


def test_pooling_is_said_and_gives_what_one_folder_would(tmp_path: Path) -> None:
    out = run(source(tmp_path / "in"), tmp_path / "store", "source.splits=pool")
    assert "splits, by files: test 1, train 1, validation 1; pooled" in out
    _, samples = shards(tmp_path / "store")
    assert list(samples) == ["train-000000.tar"]
    index = next((tmp_path / "store/captions/1/index").glob("*.parquet"))
    assert "split" not in pq.read_schema(index).names


def test_a_shard_of_a_source_without_splits_says_nothing_of_them(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(3))
    out = run(tmp_path / "in", tmp_path / "store")
    assert "splits" not in out
    rows = audit(tmp_path / "store", "select * from packed")
    assert len(rows) == 3 and "split" not in rows[0]


def test_recordings_are_pooled_and_it_is_said(tmp_path: Path) -> None:
    from curation.media.source_folders import notes_of
    from curation.sources import Source, list_source

    for name in ("train/a.wav", "test/b.wav", "other/test.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    (note,) = notes_of(list_source(Source(path=str(tmp_path))))
    assert note.startswith("splits, by files: test 1, train 1; pooled: recordings keep no splits")


def test_documents_keep_their_splits(tmp_path: Path) -> None:
    from curation.document_sources import DocumentSource, list_documents
    from curation.documents.reading import OneDocumentPerContent, ReadDocuments
    from curation.runtime.chain import run_chain

    for split, texts in {"train": ["One.", "Two."], "test": ["Two.", "Three."]}.items():
        (tmp_path / split).mkdir()
        lines = [json.dumps({"texts": [text], "images": [None]}) for text in texts]
        (tmp_path / split / "a.jsonl").write_text("\n".join(lines))
    listing = list_documents(DocumentSource(path=str(tmp_path)))
    rows = run_chain("d", [ReadDocuments(), OneDocumentPerContent()], listing).rows.to_pylist()
    assert {row["nodes"][0]["text"]: row["split"] for row in rows} == {
        "One.": "train",
        "Two.": "test",
        "Three.": "test",
    }


def test_semantic_duplicates_leave_what_is_held_out() -> None:
    from curation.diversity.duplicates import ExactDuplicates, SemanticDuplicates

    rows = pa.table(
        {
            "row_id": ["a", "b", "c"],
            "embedding": pa.array([[1.0, 0.0], [1.0, 0.001], [0.0, 1.0]], pa.list_(pa.float32())),
            "cluster": [0, 0, 0],
            "centroid_cosine": [0.1, 0.9, 0.5],
            "split": ["train", "test", "train"],
            "key": ["x", "x", "y"],
        }
    )
    for stage in (SemanticDuplicates(split="split"), ExactDuplicates(("key",), split="split")):
        assert stage(rows)["row_id"].to_pylist() == ["a"]
    assert SemanticDuplicates()(rows)["row_id"].to_pylist() == ["b"]
