"""What every engine is: a frozen record of its parameters, which loads its model once per process.

An engine is a value. Two equal records are one engine, share one loaded model in a process, and have one
fingerprint; so results found under that fingerprint may be used again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version as installed_version
from pathlib import Path
from typing import Any, ClassVar

from curation.errors import BLAMES_NO_ROW, EngineMissing, ResourceMissing
from curation.hashing import digest, file_digest


@dataclass(frozen=True)
class Engine:
    """A model behind a capability's protocol (`transcribe`, `align`, `probabilities`, `speak`).

    Subclasses are frozen dataclasses whose first field is `engine: Literal["its-name"] = "its-name"`; the other
    fields are its recipe keys. Fields named `*_path` are files whose *content* enters the fingerprint.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    version: ClassVar[int] = 1
    """Raised by hand when the same input would give another result."""
    repeatable: ClassVar[bool] = True
    """False where two calls may differ: its answers are recordings, kept and never asked for twice."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that it needs; their versions are part of the fingerprint."""
    optional_packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that only some inputs need (a language): part of the fingerprint, but not missed when planning."""
    extra: ClassVar[str] = ""
    """The extra of this project that installs `packages`."""
    code_licence: ClassVar[str] = ""
    weights_licence: ClassVar[str] = ""
    """SPDX identifiers; `weights_licence` is empty where there are no weights."""
    limits: ClassVar[str] = ""
    """What it cannot do, in a sentence for reports."""

    engine: str = ""

    @property
    def languages(self) -> tuple[str, ...] | None:
        """ISO 639-1 codes of the languages that it knows; None where it takes any, or knows only once it is loaded."""
        return None

    def missing(self) -> str | None:
        """What is not here and the command that brings it, or None. Opens no model and no network."""
        if reason := missing_package(self.packages, self.extra):
            return f"engine {self.engine}: {reason}"
        for name, path in self.paths().items():
            if not path.exists():
                return f"engine {self.engine}: {name} {path} does not exist; {self.how_to_get()}"
        return None

    def how_to_get(self) -> str:
        """The sentence that says where weights come from."""
        return "give the path of a file that you have"

    def paths(self) -> dict[str, Path]:
        """The files and folders that the recipe names for this engine."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name.endswith("_path")}
        return {name: Path(value) for name, value in named.items() if value}

    def fingerprint(self) -> str:
        """Names everything that a result depends on: parameters, version, packages, content of files."""
        parameters = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.endswith("_path")}
        files = {name: file_digest(path) for name, path in self.paths().items() if path.exists()}
        packages = package_versions((*self.packages, *self.optional_packages))
        return digest([type(self).__name__, self.version, parameters, files, packages])

    def load(self) -> Any:
        """Load the model. Called once per process, through `loaded`."""
        raise NotImplementedError(f"engine {self.engine} holds no model")

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.engine


@lru_cache(maxsize=16)
def loaded(engine: Engine) -> Any:
    """The model of an engine, loaded on first use and kept for the life of the process.

    Raises:
        EngineMissing: with the command that installs what is missing.
        ResourceMissing: it is here and does not load, for a reason that no row is to blame for.
    """
    if reason := engine.missing():
        raise EngineMissing(reason)
    try:
        return engine.load()
    except BLAMES_NO_ROW:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ResourceMissing(f"engine {engine.label} does not load: {type(error).__name__}: {reason:.500}") from error


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each distribution, or None where it is not installed."""
    return {package: _version_or_none(package) for package in packages}


def missing_package(packages: Iterable[str], extra: str) -> str | None:
    """Which of these distributions is not installed, and the command that brings it; None where all are.

    Args:
        extra: of this project; "" where the project itself brings them.
    """
    absent = next((name for name, version in package_versions(packages).items() if version is None), None)
    project = f"'omni-curation[{extra}]'" if extra else "omni-curation"
    return absent and f"{absent} is not installed; pip install {project}"


@lru_cache(maxsize=256)
def _version_or_none(package: str) -> str | None:
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return None
