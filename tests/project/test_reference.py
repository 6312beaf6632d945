"""The reference is what the code says, and says all of it."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml

from curation.errors import CurateError
from curation.recipe import recipe_names
from dags.cli import app
from dags.dag import PIPELINES
from schemas.ledger import LEDGER
from scripts import reference

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def text() -> str:
    return reference.reference()


def section(text: str, heading: str) -> str:
    """What stands below a heading, down to the next one that is not below it."""
    level = len(heading) - len(heading.lstrip("#"))
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def test_the_reference_is_current(text: str) -> None:
    assert reference.REFERENCE.read_text(encoding="utf-8") == text, "not current: make reference"


def keys(value: object, prefix: str = "") -> set[str]:
    if not isinstance(value, dict):
        return set()
    return {f"{prefix}{name}" for name in value} | {k for n, v in value.items() for k in keys(v, f"{prefix}{n}.")}


@pytest.mark.parametrize("pipeline", sorted(PIPELINES))
def test_every_key_of_a_shipped_recipe_is_described(text: str, pipeline: str) -> None:
    described = set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", section(text, f"### {pipeline}"), re.MULTILINE))
    value = yaml.safe_load((ROOT / "recipes" / f"{pipeline}.yaml").read_text(encoding="utf-8"))
    assert described >= set(PIPELINES[pipeline].recipe.model_fields)
    mappings = {"limits.given", "score_weights"}
    unknown = {
        key
        for key in keys(value) - described
        if not any(f"{mapping}." in key for mapping in mappings) and not key.endswith((".engine", ".model"))
    }
    assert unknown == set()
    assert pipeline in recipe_names()


def test_types_defaults_and_units_are_those_of_the_models(text: str) -> None:
    speech, captions = section(text, "### speech"), section(text, "### captions")
    assert "| `utterances.max_utterance_s` | number (> 0) | `30` | seconds |" in speech
    assert "| `audio.format` | `flac` \\| `opus` \\| `wav` | `" in speech
    assert "| `size.max_aspect_ratio` | number or null | `3` |" in captions
    assert re.search(r"\| `embedder` \| engine: .*\[open-clip\]\(#open-clip\).* or null \| `open-clip` \|", captions)


def test_links_lead_to_headings(text: str) -> None:
    headings = {reference.anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links and links <= headings


def test_every_command_is_described(text: str) -> None:
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert {name.split()[1] for name in re.findall(r"^### (curate \w+)", text, re.MULTILINE)} == commands


def test_reasons_are_found_however_a_stage_comes_by_them(text: str) -> None:
    """As a word in the call, by a loop over several, through a helper, as a name made from a field, in a dict."""
    found = set(re.findall(r"^\| `([^`]+)` \|", section(text, "## Reasons"), re.MULTILINE))
    assert {"image_too_small", "too_many_frames", "in_<set>", "concept_over_represented", "too_fast"} <= found
    assert {"looped_transcript", "caption_too_long", "language_not_aligned"} <= found
    assert not [reason for reason in found if not re.fullmatch(r"[A-Za-z0-9_<>-]+", reason)]


def test_every_stage_that_rejects_has_a_reason() -> None:
    """Were a call not understood, its stage would have none, or one fewer."""
    reference.import_all()
    silent = []
    for stage in reference.all_stages():
        own = ast.unparse(reference.class_of(stage))
        calls = re.findall(r"(?<![.\w])reject\(", own)
        if calls and not reference.reasons_of(stage):
            silent.append(f"{inspect.getfile(stage)}: {stage.__name__}")
    assert silent == []


def test_every_column_of_the_ledger_and_every_exit_code_is_described(text: str) -> None:
    assert all(f"| `{name}` |" in section(text, "### ledger") for name in LEDGER.names)
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section(text, "## Exit codes"), re.MULTILINE)}
    assert codes >= {0, 130, 141} | {error.exit_code for error in reference.errors_of(CurateError)}
    source = (ROOT / "dags" / "cli.py").read_text(encoding="utf-8")
    assert codes >= {int(code) for code in re.findall(r"(?:typer\.Exit|sys\.exit)\((\d+)\)", source)}
