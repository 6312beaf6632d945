"""Arrows between packages run down only, and the check that says so sees every way round it."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ROOT / ".ci" / "layers.py"


@pytest.fixture(scope="module")
def layers() -> dict[str, Any]:
    return runpy.run_path(str(LAYERS))


def planted(root: Path, **files: str) -> Path:
    """A tree with the four floors, and one module for each `floor__package__module=source`."""
    for package in (
        "dags",
        "pipelines",
        "curation",
        "schemas",
        "curation/engines",
        "curation/speech",
        "curation/runtime",
    ):
        (root / package).mkdir(parents=True, exist_ok=True)
        (root / package / "__init__.py").touch()
    for module in (
        "curation/rows",
        "curation/stage",
        "curation/errors",
        "curation/runtime/ray_runner",
        "schemas/spans",
    ):
        (root / f"{module}.py").touch()
    for name, source in files.items():
        (root / f"{name.replace('__', '/')}.py").write_text(source)
    return root


def test_the_checkout_keeps_its_layers(layers: dict[str, Any]) -> None:
    assert layers["violations"](ROOT) == []


def test_every_imported_package_is_declared_and_the_core_imports_only_its_own(layers: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {distribution(line) for line in project["dependencies"]}
    extras = {distribution(line) for lines in project["optional-dependencies"].values() for line in lines}
    offers = {"open_clip": ["open-clip-torch"]} | packages_distributions()  # not among what the tests install
    undeclared = [
        f"{path.relative_to(ROOT)}:{arrow.line} imports {arrow.imported}"
        for floor in layers["FLOORS"]
        for path in (ROOT / floor).rglob("*.py")
        for arrow in layers["imports"](f"{floor}.module", path, frozenset())
        if (top := arrow.imported.split(".")[0]) not in {*sys.stdlib_module_names, *layers["FLOORS"], "recipes", ""}
        and not {distribution(name) for name in offers.get(top, [top])} & (core if arrow.at_import else core | extras)
    ]
    assert undeclared == []


def distribution(requirement: str) -> str:
    """The normalised name that a requirement begins with: "moto[server]>=5" is "moto"."""
    name = re.match(r"[\w.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("schemas__spans", "import curation.errors", "arrows run down only"),
        ("schemas__spans", "from curation import errors", "arrows run down only"),
        ("curation__stage", "import pipelines", "arrows run down only"),
        ("curation__speech__pace", "def f():\n    from pipelines import speech", "arrows run down only"),
        ("pipelines__speech", "from dags.cli import main", "arrows run down only"),
        ("curation__engines__vad", "from curation.stage import Stage", "engines know only"),
        ("curation__engines__vad", "from curation import rows", "engines know only"),
        ("curation__engines__vad", "from .. import rows", "engines know only"),
        ("curation__engines__vad", "from ..runtime.ray_runner import x", "engines know only"),
        ("curation__engines__vad", "import curation.speech.pace", "engines know only"),
        ("curation__speech__pace", "from curation.runtime import ray_runner", "does not know what runs it"),
        ("curation__speech__pace", "from ..runtime import ray_runner", "does not know what runs it"),
        ("curation__speech__pace", "import ray", "only curation.runtime.ray* knows Ray"),
        ("curation__speech__pace", "def f():\n    import ray.util", "only curation.runtime.ray* knows Ray"),
        ("curation__runtime__inline", "import ray", "only curation.runtime.ray* knows Ray"),
        ("dags__cli", "import importlib\nimportlib.import_module('ray')", "only curation.runtime.ray* knows Ray"),
        ("dags__cli", "ray = __import__('ray')", "only curation.runtime.ray* knows Ray"),
        ("curation__engines__vad", "import torch", "inside the function"),
        ("curation__engines__vad", "import os, torch.nn as nn", "inside the function"),
        (
            "curation__engines__vad",
            "try:\n    import spacy\nexcept ImportError:\n    spacy = None",
            "inside the function",
        ),
        ("curation__engines__vad", "class Engine:\n    from whisper import load_model", "inside the function"),
        ("curation__engines__vad", "if True:\n    import silero_vad", "inside the function"),
        ("curation__engines__vad", "def f(x=__import__('torch')): ...", "inside the function"),
    ],
)
def test_a_planted_violation_is_caught(
    layers: dict[str, Any], tmp_path: Path, module: str, source: str, rule: str
) -> None:
    found = layers["violations"](planted(tmp_path, **{module: source}))
    assert len(found) == 1
    path, line, _ = found[0].split(":", 2)
    assert path == f"{module.replace('__', '/')}.py"
    assert "import" in source.splitlines()[int(line) - 1]
    assert rule in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dags__cli", "from pipelines import speech\nimport curation.runtime\nimport schemas.spans"),
        ("curation__runtime__ray_pool", "import ray"),
        ("curation__engines__vad", "from curation.errors import X\nfrom curation import hashing\nimport numpy"),
        ("curation__engines__vad", "class Vad:\n    def load(self):\n        import torch\n        return torch"),
        ("curation__engines__vad", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("curation__speech__pace", "import raymond, spans\nfrom curation.rows import reject"),
    ],
)
def test_an_allowed_import_passes(layers: dict[str, Any], tmp_path: Path, module: str, source: str) -> None:
    assert layers["violations"](planted(tmp_path, curation__hashing="", **{module: source})) == []


def test_the_command_names_the_place_and_fails(tmp_path: Path) -> None:
    tree = planted(tmp_path, curation__speech__pace="import numpy\nimport ray\n")
    done = subprocess.run([sys.executable, LAYERS, tree], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "curation/speech/pace.py:2: curation.speech.pace imports ray" in done.stdout


def test_the_command_passes_a_clean_tree(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, LAYERS, planted(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "layers: 0 violations\n")
