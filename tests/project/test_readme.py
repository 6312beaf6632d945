"""The README keeps its word: its recipes are recipes, its commands are commands, its files are there."""

import re
from pathlib import Path

import pytest

from curation.recipe import check_recipe, read_recipe
from dags.cli import app
from dags.dag import PIPELINES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_recipe_of_the_readme_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    value = read_recipe(str(path))
    recipe = check_recipe(PIPELINES[value["pipeline"]].recipe, value, "README")
    assert text.startswith(f"extends: {recipe.pipeline}\n")


def test_every_pipeline_has_a_recipe_in_the_readme() -> None:
    assert {text.split()[1] for text in blocks("yaml")} == set(PIPELINES)


def test_every_command_of_the_readme_exists() -> None:
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    said = set(re.findall(r"^curate (\w+)", "\n".join(blocks("")), re.MULTILINE))
    assert said and said <= known


def test_every_file_that_the_readme_links_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and all((ROOT / link).exists() for link in links)


def test_every_figure_of_the_readme_is_filled_in() -> None:
    assert not re.findall(r"[A-Z]+_FIGURES", README)
