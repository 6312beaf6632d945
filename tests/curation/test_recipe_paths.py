"""Paths of a recipe: each is resolved once, against what it was written in; no fingerprint knows where a file lies."""

import builtins
import os
import shutil
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import BaseModel

from curation.diversity.concepts import ConceptBalance, KeepProbability, MatchConcepts
from curation.diversity.lexicon import from_words, write_lexicon
from curation.engines.engine import Engine, loaded
from curation.errors import EngineMissing, ResourceMissing, RunFailed
from curation.paths import (
    HubOrFolder,
    PathKey,
    Resource,
    SizeOrCheckpoint,
    Written,
    check_seen,
    path_keys,
    resources_of,
)
from curation.recipe import check_recipe, read_recipe
from curation.runtime.isolation import isolated
from curation.runtime.nodes import Map
from curation.runtime.tasks import Task
from curation.stage import Stage, measure_each
from curation.store.objects import Store
from curation.store.versions import read_version
from curation.text.caption_checks import FlaggedWords
from dags.dag import PIPELINES, read_job
from tests.support.small_corpus import curate
from tests.support.small_pairs import QUIET, pairs, write_folder
from tests.support.toy import KillOn, items, run_toy, single

LOOKS_LIKE_A_PATH = ("path", "folder", "lexicon", "images", "image_folder", "counts")
NO_PATHS = {("PairImages", "images")}


def models_below(kind: object, seen: set[type]) -> Iterator[type]:
    """Every model, stage and engine that a recipe of a kind may hold."""
    for part in typing.get_args(kind):
        yield from models_below(part, seen)
    if isinstance(kind, type) and kind not in seen and (is_dataclass(kind) or issubclass(kind, BaseModel)):
        seen.add(kind)
        yield kind
        for hint in typing.get_type_hints(kind, include_extras=True).values():
            yield from models_below(hint, seen)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_key_that_reads_like_a_path_is_marked_as_one(pipeline: str) -> None:
    found = set()
    for model in models_below(PIPELINES[pipeline].recipe, set()):
        names = model.model_fields if issubclass(model, BaseModel) else [f.name for f in fields(model)]  # type: ignore[arg-type]
        hints = typing.get_type_hints(model)
        for name in names:
            is_text = str in (hints[name], *typing.get_args(hints[name]))
            if is_text and name.rsplit("_", 1)[-1] in LOOKS_LIKE_A_PATH:
                found.add((model.__name__, name))
                assert name in path_keys(model), f"{model.__name__}.{name}"
    assert (PIPELINES[pipeline].recipe.model_fields["source"].annotation.__name__, "path") in found  # type: ignore[union-attr]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_path_in_a_file_begins_in_the_files_folder_and_one_in_a_setting_in_the_callers(
    tmp_path: Path, elsewhere: Path
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_text(
        "extends: captions\nsource: {path: data}\ntext: {flagged_words: {words_path: words.txt}}\n"
        "decontaminate: {sets: [{name: one, path: ../eval/one.txt}]}\n"
    )
    (tmp_path / "mine.yaml").write_text("extends: base/base.yaml\nconcepts: {lexicon: lists/lexicon.parquet}\n")
    value = read_recipe(str(tmp_path / "mine.yaml"), ["source.image_folder=images", "embedder=open-clip:local-dir:m"])
    recipe = check_recipe(PIPELINES["captions"].recipe, value, "mine")
    found = {resource.key: resource.path for resource in resources_of(recipe)}
    assert found == {
        "source.path": str(tmp_path / "base/data"),
        "source.image_folder": str(elsewhere / "images"),
        "text.flagged_words.words_path": str(tmp_path / "base/words.txt"),
        "decontaminate.sets.0.path": str(tmp_path / "eval/one.txt"),
        "embedder.model": str(elsewhere / "m"),
        "concepts.lexicon": str(tmp_path / "lists/lexicon.parquet"),
    }
    stored = recipe.model_dump(mode="json")
    assert stored["embedder"]["model"] == f"local-dir:{elsewhere}/m"
    assert stored["concepts"]["lexicon"] == found["concepts.lexicon"]


def test_what_is_stored_of_a_recipe_is_plain_text(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: captions\ndataset: mine\nsource: {path: data, caption: text}\n")
    recipe = check_recipe(PIPELINES["captions"].recipe, read_recipe(str(tmp_path / "mine.yaml")), "mine")

    def texts(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from texts(key)
                yield from texts(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from texts(inner)
        elif isinstance(value, str):
            yield value

    assert {type(text) for text in texts(recipe.model_dump(mode="json"))} == {str}


@pytest.mark.parametrize(
    ("mark", "written", "resolved"),
    [
        (PathKey(), "data", "/base/data"),
        (PathKey(), "./a/../data", "/base/data"),
        (PathKey(), "/data/x", "/data/x"),
        (PathKey(), "", ""),
        (PathKey(), "s3://bucket/x", "s3://bucket/x"),
        (PathKey(), "data/**/*.wav", "/base/data/**/*.wav"),
        (PathKey(words=("starter",)), "starter", "starter"),
        (PathKey(prefix="local-dir:"), "timm/ViT-B-16-SigLIP", "timm/ViT-B-16-SigLIP"),
        (PathKey(prefix="local-dir:"), "local-dir:models/x", "local-dir:/base/models/x"),
        (typing.get_args(HubOrFolder)[1], "large-v3", "large-v3"),
        (typing.get_args(HubOrFolder)[1], "Systran/faster-whisper-tiny", "Systran/faster-whisper-tiny"),
        (typing.get_args(HubOrFolder)[1], "./models/tiny", "/base/models/tiny"),
        (typing.get_args(HubOrFolder)[1], "my/models/tiny", "/base/my/models/tiny"),
        (typing.get_args(SizeOrCheckpoint)[1], "medium", "medium"),
        (typing.get_args(SizeOrCheckpoint)[1], "medium.pt", "/base/medium.pt"),
        (typing.get_args(SizeOrCheckpoint)[1], "models/medium", "/base/models/medium"),
    ],
)
def test_a_path_is_told_from_a_name(mark: PathKey, written: str, resolved: str) -> None:
    assert mark.resolved(Written(written, "/base")) == resolved


def test_a_home_is_the_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert PathKey().resolved(Written("~/data", "/base")) == "/home/somebody/data"


def test_two_dots_after_a_link_stay_where_folding_them_would_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/deep")
    assert PathKey().resolved(Written("link/../x", str(tmp_path))) == f"{tmp_path}/link/../x"


def lexicon(path: Path, words: tuple[str, ...] = ("kite", "harbour")) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lexicon(from_words(words, "en", "test"), path)
    return str(path)


def test_the_same_file_elsewhere_gives_the_same_fingerprint_and_another_file_another(tmp_path: Path) -> None:
    here, there = lexicon(tmp_path / "a/lexicon.parquet"), str(tmp_path / "moved.parquet")
    shutil.copy(here, there)
    other = lexicon(tmp_path / "a/other.parquet", ("kite",))
    (tmp_path / "words.txt").write_text("word\n")
    (tmp_path / "again.txt").write_text("word\n")
    for make in (MatchConcepts, KeepProbability, lambda path: ConceptBalance(counts=path)):
        assert make(here).fingerprint() == make(there).fingerprint() != make(other).fingerprint()
    words = [FlaggedWords(words_path=str(tmp_path / name)).fingerprint() for name in ("words.txt", "again.txt")]
    assert words[0] == words[1]


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    "setting",
    [
        "concepts.lexicon=nowhere.parquet",
        "decontaminate.sets=[{name: x, path: no.txt}]",
        "text.flagged_words.words_path=n",
    ],
)
def test_a_missing_resource_is_said_at_planning(command: str, setting: str, tmp_path: Path, elsewhere: Path) -> None:
    source = write_folder(tmp_path / "in", pairs(3))
    quiet = [word for key in QUIET if not key.startswith("concepts") for word in ("--set", key)]
    more = ["--runner", "inline"] if command == "run" else []
    said = curate(command, "captions-embedded", "--set", f"source.path={source}", "--set", setting, *quiet,
                  "--store", str(tmp_path / "store"), *more)  # fmt: skip
    assert said.code == 3 and str(elsewhere) in said.err and "Traceback" not in said.err
    assert not Store(tmp_path / "store").names("captions/_versions")


def test_a_lexicon_that_is_none_is_said_at_planning(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", pairs(3))
    (tmp_path / "lexicon.parquet").write_bytes(b"no parquet")
    said = curate("plan", "captions-embedded", "--set", f"source.path={source}", "--set", "embedder=null",
                  "--set", "clusters=null", "--set", "semantic=null", "--set", "resampling=null",
                  "--set", f"concepts.lexicon={tmp_path}/lexicon.parquet", "--store", str(tmp_path / "s"))  # fmt: skip
    assert said.code == 3 and f"lexicon {tmp_path}/lexicon.parquet cannot be read" in said.err


def test_a_plan_shows_paths_as_they_were_resolved(tmp_path: Path, elsewhere: Path) -> None:
    write_folder(tmp_path / "in", pairs(3))
    (tmp_path / "mine.yaml").write_text("extends: captions-embedded\nsource: {path: in}\n" + "".join(
        f"{key.split('=')[0]}: null\n" for key in QUIET))  # fmt: skip
    said = curate("plan", str(tmp_path / "mine.yaml"), "--store", str(tmp_path / "store"))
    assert said.code == 0 and f"{tmp_path}/in" in said.out


def test_a_run_with_relative_paths_gives_the_bytes_of_one_with_absolute_paths(tmp_path: Path, elsewhere: Path) -> None:
    write_folder(tmp_path / "in", pairs(6))
    quiet = "".join(f"{key.split('=')[0]}: null\n" for key in QUIET)
    (tmp_path / "a.yaml").write_text(f"extends: captions-embedded\nsource: {{path: in}}\n{quiet}")
    (tmp_path / "b.yaml").write_text(f"extends: captions-embedded\nsource: {{path: {tmp_path}/in}}\n{quiet}")
    for name in "ab":
        said = curate("run", f"../{name}.yaml", "--store", str(tmp_path / name), "--runner", "inline")
        assert said.code == 0, said.err
    one, two = (read_version(Store(tmp_path / name), "captions") for name in "ab")
    assert one == two and one.recipe["source"]["path"] == str(tmp_path / "in")


# -- what a worker cannot see --------------------------------------------------------------------------------------


def test_what_cannot_be_seen_is_named_with_the_host_and_its_key(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("ab")
    check_seen([Resource("a", str(tmp_path)), Resource("b", str(tmp_path / "short"), 2)])
    with pytest.raises(ResourceMissing, match=rf"^host {os.uname().nodename}: {tmp_path}/none \(source.path\) "):
        check_seen([Resource("source.path", str(tmp_path / "none"))])
    with pytest.raises(ResourceMissing, match="has 2 bytes, and 3 where the run was planned"):
        check_seen([Resource("b", str(tmp_path / "short"), 3)])


@dataclass(frozen=True)
class Opens(Stage):
    """Reads a file of the recipe for each row, as a careless stage does."""

    file: str = ""
    reads = ("value",)
    writes = ("read",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return measure_each(rows, {"read": pa.string()}, lambda row: {"read": Path(self.file).read_text()})


@dataclass(frozen=True)
class Imports(Opens):
    """Imports what is not here, when the first rows come."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        import no_such_module_of_anyone  # type: ignore[import-not-found]

        return no_such_module_of_anyone.digest(rows)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class DoesNotLoad(Engine):
    """An engine whose weights are broken, or that no machine has the memory for."""

    engine: str = "broken"
    error: str = "OSError"

    def load(self) -> object:
        raise getattr(builtins, self.error)("bad magic number")


@dataclass(frozen=True)
class Loads(Stage):
    """Asks for an engine row by row."""

    engine: DoesNotLoad = DoesNotLoad()
    reads = ("value",)
    writes = ("read",)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return measure_each(rows, {"read": pa.string()}, lambda row: {"read": str(loaded(self.engine))})


def nothing_was_charged(store: Store) -> bool:
    return not [name for name in store.names("parts") if "/ledger-" in name]


@pytest.mark.parametrize("error", ["OSError", "ImportError", "MemoryError", "RuntimeError", "ValueError"])
def test_an_engine_that_does_not_load_ends_the_run_with_the_reason(tmp_path: Path, error: str) -> None:
    with pytest.raises(EngineMissing, match=f"engine broken does not load: {error}: bad magic number"):
        run_toy(single([Loads(DoesNotLoad(error=error))], range(3)), Store(tmp_path))
    assert nothing_was_charged(Store(tmp_path))


def test_what_cannot_be_imported_ends_the_run_even_for_one_row(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"stage Imports failed all 1 rows.*No module named 'no_such_module_of_anyone'"):
        run_toy(single([Imports()], [1]), Store(tmp_path))
    assert nothing_was_charged(Store(tmp_path))


def test_one_reason_for_all_rows_of_a_unit_that_names_none_of_them_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"stage Opens failed all \d+ rows .*FileNotFoundError: .*/nowhere"):
        run_toy(single([Opens(str(tmp_path / "nowhere"))], range(20), target=1000.0), Store(tmp_path / "store"))
    assert nothing_was_charged(Store(tmp_path / "store"))


def test_rows_of_one_source_may_fail_alike(tmp_path: Path) -> None:
    chosen = single([Opens(str(tmp_path / "nowhere"))], [1], target=1000.0)
    nodes = list(chosen.nodes)
    nodes[0] = type(nodes[0])("listing", items(range(20), ["root"] * 20))  # type: ignore[call-arg]
    version, _ = run_toy(type(chosen)("toy", tuple(nodes)), Store(tmp_path / "store"))
    assert version.node("only").counts == {"item": {"failed": 20}}  # type: ignore[union-attr]


def test_a_source_that_goes_away_in_the_midst_is_charged_to_no_row(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()

    @dataclass(frozen=True)
    class GoesAway(Opens):
        def __call__(self, rows: pa.Table) -> pa.Table:
            if source.exists():
                source.rmdir()
            return super().__call__(rows)

    chosen = single([GoesAway(str(source / "x"))], range(3))
    chosen = type(chosen)(chosen.dataset, chosen.nodes, (Resource("source.path", str(source)),))
    with pytest.raises(ResourceMissing, match=r"source \(source.path\) cannot be seen"):
        run_toy(chosen, Store(tmp_path / "store"))
    assert nothing_was_charged(Store(tmp_path / "store"))


def test_resources_of_the_pipelines_travel_with_the_job(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", pairs(3))
    job = read_job(
        "captions-embedded", [f"source.path={source}", f"concepts.lexicon={lexicon(tmp_path / 'l.parquet')}"]
    )
    assert {resource.key for resource in job.pipeline.resources} >= {"source.path", "concepts.lexicon"}


@pytest.mark.slow
def test_a_stage_that_kills_its_process_on_all_rows_of_many_sources_ends_the_run(tmp_path: Path) -> None:
    node = Map("only", "listing", (KillOn(3),))
    with pytest.raises(RunFailed, match="of all 8 rows of a unit, the process died in stage KillOn: signal 9"):
        isolated(Store(tmp_path), 60.0)(Task(node, "parts/x/y", ()), items([3] * 8))
