"""Packages that shape results are part of what a stage is, and one that is absent is told before anything runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.engines.ctc import CtcAligner
from curation.engines.engine import _version_or_none
from curation.errors import EngineMissing
from curation.recipe import Recipe
from curation.runtime.chain import run_chain
from curation.runtime.nodes import Map, Pipeline
from curation.speech.alignment import Align, QuietBetweenWords
from curation.speech.disagreement import CrossCheck
from curation.speech.encoding import EncodeAudio
from curation.speech.hallucination import Hallucinations
from curation.speech.interleaving import Fragments
from curation.speech.pace import Pace
from curation.speech.recordings import Scan
from curation.speech.voice_activity import SpeechProbability
from curation.stage import Stage, measure_each
from dags.dag import Job, missing_engines


@dataclass(frozen=True)
class Reads(Stage):
    """A stage whose results a package shapes."""

    packages = ("planted-reader",)
    extra = "toy"


@dataclass(frozen=True)
class MayRead(Stage):
    """The same for some rows alone."""

    optional_packages = ("planted-reader",)


@dataclass(frozen=True)
class Unready(Stage):
    """A measure that no row gets, since what it needs is not here."""

    writes = ("length",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return measure_each(rows, {"length": pa.int64()}, self.measure)

    def measure(self, row: dict[str, Any]) -> dict[str, Any]:
        raise EngineMissing("pip install 'omni-curation[toy]'")


@pytest.fixture(autouse=True)
def versions_are_looked_up_anew() -> Iterator[None]:
    _version_or_none.cache_clear()
    yield
    _version_or_none.cache_clear()


def install(folder: Path, version: str) -> None:
    about = folder / "planted_reader.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: planted-reader\nVersion: {version}\n")
    _version_or_none.cache_clear()


def planned(*stages: Stage) -> list[str]:
    job = Job("toy", Recipe(pipeline="toy", dataset="toy"), Pipeline("toy", (Map("only", "listing", stages),)))
    return [reason for _, reason in missing_engines(job)]


@pytest.mark.parametrize("stage", [Reads(), MayRead()])
def test_another_version_of_a_package_is_another_stage(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    prints = [stage.fingerprint()]
    for version in ("1.0", "1.1"):
        install(tmp_path, version)
        prints.append(stage.fingerprint())
    assert len(set(prints)) == 3
    install(tmp_path, "1.0")
    assert stage.fingerprint() == prints[1]


def test_a_stage_whose_package_is_absent_is_told_when_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "stage Reads: planted-reader is not installed; pip install 'omni-curation[toy]'"
    assert planned(Reads(), Scan()) == [told]
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "1.0")
    assert planned(Reads()) == []


def test_what_only_some_rows_need_is_not_missed() -> None:
    assert planned(MayRead()) == []


def test_what_every_row_needs_ends_a_measure_instead_of_failing_each_row() -> None:
    columns = {"row_id": "a", "root": "r", "ordinal": 0, "kind": "item", "uri": "a"}
    with pytest.raises(EngineMissing, match=r"omni-curation\[toy\]"):
        run_chain("only", (Unready(),), pa.Table.from_pylist([columns]))


@pytest.mark.parametrize(
    ("stage", "packages", "optional"),
    [
        (Scan(), {"av"}, set()),
        (SpeechProbability(), {"av"}, set()),
        (Align(), {"av"}, set()),
        (QuietBetweenWords(), {"av"}, set()),
        (EncodeAudio(), {"av"}, set()),
        (CrossCheck(), {"num2words", "opencc", "rapidfuzz"}, set()),
        (Hallucinations(), {"opencc"}, set()),
        (Pace(), {"num2words", "uroman"}, {"sudachipy", "sudachidict-core"}),
        (Fragments(), {"spacy"}, set()),
        (CtcAligner(), {"onnxruntime", "num2words", "uroman"}, {"sudachipy", "sudachidict-core"}),
        (CtcAligner(romanise=False), {"onnxruntime", "num2words"}, set()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stages_name_the_packages_that_shape_their_results(stage: Any, packages: set[str], optional: set[str]) -> None:
    assert (set(stage.packages), set(stage.optional_packages)) == (packages, optional)
