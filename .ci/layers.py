"""The layering check: who may import whom. `python .ci/layers.py [ROOT]` names every violation and exits 1 if any.

The house has four floors, `dags` > `pipelines` > `curation` > `schemas`; arrows run down only. Inside `curation`
engines know neither stages nor rows nor the runtime nor the store, stages know neither Ray nor the runtime, and
Ray is known to `curation.runtime.ray*` alone. Packages of the extras are imported where they are used, inside a
function, so that the core works without them.

The source is parsed, never imported. An import under `if TYPE_CHECKING:` is an arrow like any other, but costs no
package at run time.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FLOORS = ("dags", "pipelines", "curation", "schemas")

STAGES = tuple(
    f"curation.{subject}"
    for subject in (
        *("speech", "text", "vision", "documents", "video", "dialogue"),
        *("diversity", "decontamination", "mixture"),
    )
)

ENGINES_MAY_IMPORT = (
    "curation.engines",
    "curation.errors",
    "curation.hashing",
    "curation.media",
    "curation.meter",
    "curation.paths",
    "curation.sealing",
    "curation.text",
    "schemas",
)

OPTIONAL = (
    "ahocorasick",
    "charset_normalizer",
    "cv2",
    "datasets",
    "espeakng_loader",
    "faster_whisper",
    "httpx",
    "lxml",
    "model2vec",
    "num2words",
    "open_clip",
    "opencc",
    "pandas",
    "pillow_heif",
    "pocketsphinx",
    "py3langid",
    "rapidocr",
    "scipy",
    "silero_vad",
    "spacy",
    "sudachipy",
    "torch",
    "torchaudio",
    "torchvision",
    "transformers",
    "uroman",
    "webdataset",
    "whisper",
)


@dataclass(frozen=True)
class Import:
    """One imported module: where, in which module, and whether importing that module runs it."""

    path: Path
    line: int
    importer: str
    imported: str
    at_import: bool


def violations(root: Path) -> list[str]:
    """Every broken rule under `root`, as `path:line: importer imports imported: rule`, sorted by importer."""
    modules = {_name(root, path): path for floor in FLOORS for path in (root / floor).rglob("*.py")}
    found = [
        f"{arrow.path.relative_to(root)}:{arrow.line}: {arrow.importer} imports {arrow.imported}: {rule}"
        for name, path in sorted(modules.items())
        for arrow in imports(name, path, frozenset(modules))
        for rule in broken_rules(arrow)
    ]
    return list(dict.fromkeys(found))


def broken_rules(arrow: Import) -> Iterator[str]:
    """The rules that one import breaks."""
    importer, imported = arrow.importer, arrow.imported
    here, there = importer.split(".")[0], imported.split(".")[0]
    if there in FLOORS and FLOORS.index(there) < FLOORS.index(here):
        yield f"{here} lies below {there}, arrows run down only"
    if within(importer, ("curation.engines",)) and there in FLOORS and not within(imported, ENGINES_MAY_IMPORT):
        yield f"engines know only {', '.join(ENGINES_MAY_IMPORT)}"
    if within(importer, STAGES) and within(imported, ("curation.runtime",)):
        yield "a stage does not know what runs it"
    if there == "ray" and not importer.startswith("curation.runtime.ray"):
        yield "only curation.runtime.ray* knows Ray"
    if there in OPTIONAL and arrow.at_import:
        yield "an optional package is imported inside the function that uses it"


def imports(importer: str, path: Path, modules: frozenset[str]) -> Iterator[Import]:
    """Every import in a file: statements anywhere, and `import_module` or `__import__` of a literal."""
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]

    def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for imported in _imported(node, package, modules):
            yield Import(path, getattr(node, "lineno", 0), importer, imported, at_import)
        later = _runs_later(node)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_import and child not in later)

    yield from walk(ast.parse(path.read_bytes(), filename=str(path)), True)


def within(module: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of these packages or lies inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _imported(node: ast.AST, package: str, modules: frozenset[str]) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            outer = package.split(".")[: package.count(".") + 2 - level] if level else []
            base = ".".join([*outer, *([module] if module else [])])
            members = [f"{base}.{alias.name}" for alias in names]
            return [member if member in modules else base for member in members]
        case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if _last_name(func) in {
            "import_module",
            "__import__",
        }:
            return [name]
    return []


def _runs_later(node: ast.AST) -> list[ast.AST]:
    """The parts of a node that importing its module does not run; decorators and defaults do run."""
    match node:
        case ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body):
            return list(body)
        case ast.Lambda(body=result):
            return [result]
        case ast.If(test=test, body=body) if _last_name(test) == "TYPE_CHECKING":
            return list(body)
    return []


def _last_name(expression: ast.expr) -> str:
    match expression:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    found = violations(root)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"layers: {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
