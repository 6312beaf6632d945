"""Recipes and commands that nobody means well: one clear error and a documented exit code, never a traceback."""

import gzip
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from curation.errors import RecipeError
from curation.recipe import MAX_NESTING, MAX_VALUES, check_recipe, merged, read_recipe
from dags.dag import PIPELINES
from tests.support.small_corpus import Answer, curate, write_sound
from tests.support.small_pairs import pairs, write_folder

DOCUMENTED = {0, 1, 2, 3, 4, 5}

VALUES = (
    "null", "[]", "{}", "-1", "0", "1e400", ".nan", ".inf", "-.inf", "9" * 30, "true", "x", '"\\0"',
    '"\\ud800"', "[1, [2, [3]]]",
    "{a: 1}", "{engine: x}", "{engine: null}", "{engine: [1]}", '"../../etc/passwd"', '"%s"', "a:b", "2020-01-01",
    "!!binary aGk=",
    "!!set {a}", "[null]", "{1: 2}", "{null: 1}", "0x10", "1_000", '"\u202e"', "~nobody_here/x", "/proc/self/mem",
    "/dev/null",
    '"' + "a" * 5000 + '"', "{? [1] : 2}", "local-dir:", "local-dir:/dev/null", "[{name: x}]", "*nothing", "&a [*a]",
)  # fmt: skip


def keys(model: object, prefix: str = "") -> Iterator[str]:
    """Every key of a recipe, by its path."""
    names = type(model).model_fields if isinstance(model, BaseModel) else [f.name for f in fields(model)]  # type: ignore[arg-type]
    for name in names:
        yield f"{prefix}{name}"
        inner = getattr(model, name, None)
        if isinstance(inner, BaseModel) or is_dataclass(inner):
            yield from keys(inner, f"{prefix}{name}.")


def settings(pipeline: str) -> list[str]:
    return ["second_opinion=sidecar"] if pipeline == "speech" else []


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_key_with_every_hostile_value_is_taken_or_named(pipeline: str) -> None:
    kind, name = PIPELINES[pipeline].recipe, f"{pipeline}-embedded"
    value = read_recipe(name, settings(pipeline))
    known = check_recipe(kind, value, name)
    hostile = []
    for text in VALUES:
        try:
            hostile.append(read_recipe(name, [f"source={text}"])["source"])
        except RecipeError:
            continue  # no YAML
    assert len(hostile) > 30
    tried = 0
    for key in keys(known):
        for new in hostile:
            tried += 1
            for part in reversed(key.split(".")):
                new = {part: new}
            try:
                check_recipe(kind, merged(value, new), name)
            except RecipeError as error:
                assert len(str(error)) < 3000, key
    assert tried > 1000


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    write_sound(folder / "speech/a.wav", np.zeros(16_000, np.int16))
    write_folder(folder / "captions", pairs(3))
    (folder / "documents").mkdir()
    (folder / "documents/a.jsonl").write_text(json.dumps({"texts": ["a b c"], "images": [None]}) + "\n")
    return {pipeline: folder / pipeline for pipeline in PIPELINES}


def well_said(said: Answer) -> None:
    assert said.code in DOCUMENTED, said.err
    assert "Traceback" not in said.err and "Error(" not in said.err
    assert bool(said.err.strip()) == bool(said.code), said.err


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_plan_of_a_hostile_recipe_is_an_error_in_words(
    pipeline: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    name = f"{pipeline}-embedded"
    known = check_recipe(PIPELINES[pipeline].recipe, read_recipe(name, settings(pipeline)), name)
    lots = random.Random(7)
    cases = [(key, value) for key in keys(known) for value in VALUES]
    for key, value in lots.sample(cases, 40):
        sets = [f"source.path={sources[pipeline]}", *settings(pipeline), f"{key}={value}"]
        words = [word for setting in sets for word in ("--set", setting)]
        well_said(curate("plan", name, *words, "--store", str(tmp_path)))


# -- YAML that is a weapon -----------------------------------------------------------------------------------------


def refused(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "hostile.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    started = time.monotonic()
    said = curate("plan", str(path), "--store", str(tmp_path / "store"))
    assert said.code == 2 and "Traceback" not in said.err and len(said.err) < 3000
    assert time.monotonic() - started < 10
    return " ".join(said.err.split())


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 3_000, 100_000])
@pytest.mark.parametrize("form", ["lists", "mappings", "block"])
def test_a_recipe_that_nests_too_deep_is_refused(tmp_path: Path, form: str, depth: int) -> None:
    if form == "lists":
        text = "extends: speech\nsource: " + "[" * depth + "]" * depth
    elif form == "mappings":
        text = "extends: speech\nsource: " + "{a: " * depth + "1" + "}" * depth
    else:
        depth = min(depth, 1_000)
        text = "extends: speech\n" + "".join(f"{' ' * level}a:\n" for level in range(depth))
    assert f"nests more than {MAX_NESTING} levels deep" in refused(tmp_path, text)


def test_a_setting_that_nests_too_deep_is_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    for setting in (f"source={'[' * 3000}", f"source={'[' * 3000}{']' * 3000}", ".".join("a" * 3000) + "=1"):
        said = curate("plan", "speech-embedded", "--set", setting, "--store", str(tmp_path))
        assert said.code == 2 and "Traceback" not in said.err


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert f"more than {MAX_VALUES} values" in refused(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "&a [*a]", "a: &a {<<: *a}", "a: &a {? *a : 1}"])
def test_an_alias_that_holds_itself_is_refused(tmp_path: Path, text: str) -> None:
    assert "holds itself" in refused(tmp_path, text) or "alias" in refused(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [b"", b"\x00", b"\xff\xfe", b"- 1", b"x", b"a: [", b"{}", b"? [1]\n: 2", b"!!python/object/apply:os.system [id]",
     b"a: !!python/name:os.system", b"pipeline: [1]", b"pipeline: {a: 1}", b"extends: [speech]",
     b"extends: hostile.yaml",
     b"extends: ../../../etc/passwd", b"dataset: 1", b"%YAML 9.9\n---\na: 1", b"a: 1\n---\nb: 2", b"a: 2020-99-99",
     b"a: 0o9", b"a: 1\na: 2", b"a: !!int x", b"a: !!timestamp x", b"a: !!float x", b"a: " + b"9" * 10_000],
)  # fmt: skip
def test_yaml_that_is_no_recipe_is_refused(tmp_path: Path, text: bytes) -> None:
    refused(tmp_path, text)


def test_a_recipe_that_is_a_folder_a_device_or_huge_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    for name in ("folder.yaml", "device.yaml", "circle.yaml", "a" * 5000 + ".yaml", "none.yaml"):
        assert curate("plan", str(tmp_path / name), "--store", str(tmp_path / "s")).code == 2
    (tmp_path / "huge.yaml").write_text("#" * 5_000_000)
    assert "larger than" in curate("plan", str(tmp_path / "huge.yaml"), "--store", str(tmp_path / "s")).err


# -- files that a command writes, and reads ------------------------------------------------------------------------


def test_a_lexicon_goes_only_where_it_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("kite\n")
    words = ("--words", f"en={tmp_path}/words.txt")
    for out, why in {
        tmp_path / "none/lexicon.parquet": f"the folder {tmp_path}/none does not exist",
        tmp_path: "is a folder",
        tmp_path / ("a" * 300): "no path that can be written",
        Path("/proc/lexicon.parquet"): "",
        Path("/dev/full"): "",
    }.items():
        said = curate("lexicon", str(out), *words)
        assert said.code in (2, 4) and "Traceback" not in said.err and why in " ".join(said.err.split()), said.err
    assert curate("lexicon", str(tmp_path / "lexicon.parquet"), *words).code == 0


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(b"kite\n" * 1000)
    (tmp_path / "broken.gz").write_bytes(packed[:20] + b"\xff" * 20 + packed[40:])
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for option, path in (
        ("--words", tmp_path / "none.txt"),
        ("--words", tmp_path),
        ("--titles", tmp_path / "broken.gz"),
        ("--vocabulary", tmp_path / "deep.json"),
        ("--vocabulary", tmp_path),
    ):
        said = curate("lexicon", str(tmp_path / "out.parquet"), option, f"en={path}")
        assert said.code == 2 and str(path) in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(
    "words",
    [
        ["status"], ["verify"], ["audit"], ["audit", "select 1"], ["sheet"], ["gc"], ["gc", "--delete"],
        ["withdraw", "--source", "x"], ["withdraw", "--id", "x"], ["drop", "--version", "1"],
        ["verify", "--version", "-1"],
        ["audit", "--why", "x"], ["audit", "--dataset", "../x"], ["withdraw"], ["sheet", "--out", "none/x.png"],
        ["verify", "--dataset", "\0"], ["drop", "--version", "99999999999999999999"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("store", ["absent", "empty", "file", "null", "long", "odd"])
def test_commands_on_a_store_that_is_none_say_so(tmp_path: Path, words: list[str], store: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "odd/speech/_versions").mkdir(parents=True)
    (tmp_path / "odd/speech/_versions/1.json").mkdir()
    place = {"null": "a\0b", "long": "a" * 5000}.get(store, str(tmp_path / store))
    os.chdir(tmp_path)
    well_said(curate(*words, "--store", place))
