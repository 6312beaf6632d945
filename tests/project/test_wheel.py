"""The wheel that users install holds the product and nothing else, and works where no checkout is."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import wave
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("curation", "dags", "pipelines", "recipes", "schemas")
RESOURCES = {".typed", ".yaml", ".json", ".txt", ".md", ".onnx"}

# Refuses what the extras install, as if it were not there, and then imports every module named on the command line.
IMPORT_EACH = """
import importlib, json, sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

OPTIONAL = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Missing())
print(json.dumps({name: importlib.import_module(name).__file__ for name in sys.argv[2:]}))
"""

OPTIONAL = ",".join(runpy.run_path(str(ROOT / ".ci" / "layers.py"))["OPTIONAL"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline from a copy, since a build leaves its own folders beside the source."""
    source, built = tmp_path_factory.mktemp("source") / "checkout", tmp_path_factory.mktemp("wheel")
    leave = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "demo", "docs")
    shutil.copytree(ROOT, source, ignore=leave, symlinks=True)
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", built, source)
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that holds the wheel.

    Its dependencies are those of the environment that runs the tests, by a path file. Python does not read the path
    files of a folder that is itself named in one, so an editable install there stays out of sight.
    """
    folder = tmp_path_factory.mktemp("clean environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--no-index", "--no-deps", wheel)
    (site_packages(python) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def site_packages(python: Path) -> Path:
    paths = subprocess.check_output(
        [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    return Path(paths.strip())


def elsewhere(folder: Path, *command: str | Path) -> str:
    """What a command prints when it runs in an empty folder that knows nothing of the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def listing(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def product_files(suffixes: set[str]) -> set[str]:
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in suffixes)
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_holds_every_module_and_resource_and_nothing_else(wheel: Path) -> None:
    held = {name for name in listing(wheel) if ".dist-info/" not in name}
    assert held == product_files({".py"} | RESOURCES)


def test_every_package_says_that_it_has_types(wheel: Path) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= listing(wheel)


def test_the_recipes_travel_in_the_wheel(wheel: Path) -> None:
    recipes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").glob("*.yaml")}
    assert "recipes/speech.yaml" in recipes
    assert recipes <= listing(wheel)


def test_every_file_in_the_packages_is_of_a_kind_that_travels() -> None:
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*"))
    assert {path.suffix for path in files if path.is_file() and "__pycache__" not in path.parts} <= {".py"} | RESOURCES


def test_the_wheel_names_its_command_its_licence_and_its_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        commands = archive.read(files["entry_points.txt"]).decode()
        licence = archive.read(files["licenses/LICENSE"]).decode()
        metadata = message_from_bytes(archive.read(files["METADATA"]))
    assert "curate = dags.cli:main" in commands
    assert licence == (ROOT / "LICENSE").read_text()
    assert (metadata["Name"], metadata["License-Expression"]) == ("omni-curation", "Apache-2.0")
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_core_depends_on_no_torch_and_no_gpl(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        wanted = message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    core = {line.split(";")[0] for line in wanted if "extra ==" not in line}
    assert core
    assert not [line for line in core if line.startswith(("torch", "silero", "espeak", "openai-whisper", "datasets"))]


def test_every_module_imports_from_the_wheel_without_the_extras(
    clean_python: Path, wheel: Path, tmp_path: Path
) -> None:
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in product_files({".py"})]
    printed = elsewhere(tmp_path, clean_python, "-P", "-c", IMPORT_EACH, OPTIONAL, *sorted(modules))
    files = json.loads(printed.splitlines()[-1])
    installed = site_packages(clean_python)
    assert len(files) == len(modules) > 0
    assert [name for name, file in files.items() if not Path(file).is_relative_to(installed)] == []


def test_recipes_are_read_from_the_wheel(clean_python: Path, tmp_path: Path) -> None:
    read = "from importlib.resources import files; print((files('recipes') / 'speech.yaml').read_text())"
    assert elsewhere(tmp_path, clean_python, "-P", "-c", read).rstrip("\n") == (
        ROOT / "recipes" / "speech.yaml"
    ).read_text().rstrip("\n")


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["run", "--help"]])
def test_the_command_runs_from_the_wheel(clean_python: Path, tmp_path: Path, arguments: list[str]) -> None:
    printed = elsewhere(tmp_path, clean_python.with_name("curate"), *arguments)
    assert "Usage" in printed


def test_a_plan_is_made_from_the_wheel_by_a_recipes_name(clean_python: Path, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "silence.wav"), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(16_000)
        recording.writeframes(bytes(32_000))
    printed = elsewhere(
        tmp_path,
        clean_python.with_name("curate"),
        *("plan", "speech-embedded", "--set", f"source.path={tmp_path / 'silence.wav'}", "--store", tmp_path / "store"),
    )
    assert "1 files" in printed
    assert "pocketsphinx" in printed


def test_the_lock_pins_every_dependency_and_suits_every_index() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pins = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower(): line.partition("==")[2] for line in lines}
    assert len(pins) == len(lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = {re.split(r"[^\w.-]", line)[0].lower() for lines in (project["dependencies"], *extras) for line in lines}
    assert wanted - set(pins) == set()
    # torch's release on the public index asks for this triton on Linux; a build without CUDA would let it drift.
    assert (pins["torch"], pins["triton"]) == ("2.13.0", "3.7.1")
    assert not [name for name in pins if name.startswith(("nvidia-", "cuda-"))]
