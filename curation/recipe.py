"""Recipes: YAML that users edit, checked key by key.

A recipe is a name (of those in the installed package) or a file. `extends:` takes another as its base; `--set a.b=c`
has the last word. Mappings are merged, except that a mapping with another `engine` replaces the one it meets: the keys
of one engine mean nothing to another.

Paths are resolved here, and nowhere else: those of a file against its folder, those of a `--set` against the caller's
(`curation.paths`). A recipe nests a few levels deep; more, or aliases that multiply, are refused before anything is
made of them.
"""

import os
from collections.abc import Hashable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from curation.errors import RecipeError
from curation.paths import Written, located

MAX_DEPTH = 10
"""Of recipes that extend one another."""
MAX_NESTING = 32
"""Of mappings and lists in a recipe; none of ours passes six."""
MAX_VALUES = 100_000
MAX_BYTES = 4_000_000
DATASET_NAME = "^[a-z0-9][a-z0-9_-]*$"
STORE_FOLDERS = ("parts", "measures", "recordings", "attempts", "corpora", "leases")
Model = TypeVar("Model", bound="Recipe")


class Recipe(BaseModel):
    """What all recipes have. A pipeline's recipe adds its stages."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    pipeline: str
    dataset: Annotated[str, Field(pattern=DATASET_NAME)]
    allow_licences: tuple[str, ...] | None = None
    max_failed_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Of samples at a node whose inputs cannot be read."""
    max_defect_share: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Of samples at a node at which a stage raised an error that it does not explain."""

    @field_validator("dataset")
    @classmethod
    def _free_name(cls, name: str) -> str:
        if name in STORE_FOLDERS:
            raise ValueError(f"{name!r} is a folder of the store itself")
        return name


def engine_shorthand(value: Any) -> Any:
    """`name:model`, as it is written in a `--set`, as the mapping that it stands for."""
    if not isinstance(value, str):
        return value
    name, _, model = value.partition(":")
    if not model:
        return {"engine": name}
    return {"engine": name, "model": Written(model, value.folder) if isinstance(value, Written) else model}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    files = resources.files("recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def read_recipe(name: str, sets: Sequence[str] = ()) -> dict[str, Any]:
    """The mapping of a recipe, with what it extends and what is set, not yet checked against a pipeline.

    Raises:
        RecipeError: no such recipe, YAML that cannot be read, or a `--set` that is not `key=value`.
    """
    value = _extended(name, None, MAX_DEPTH)
    for setting in sets:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {setting!r}: write key=value, such as --set source.path=/data/podcasts")
        try:
            new: Any = _loaded(text) if text.strip() else None
        except (yaml.YAMLError, ValueError) as error:
            raise RecipeError(f"--set {key}: {text!r:.200} is not YAML that can be used: {_one_line(error)}") from error
        new = located(new, os.getcwd())
        parts = key.strip().split(".")
        if len(parts) > MAX_NESTING:
            raise RecipeError(f"--set {key:.80}: a recipe nests {MAX_NESTING} levels deep at most")
        for part in reversed(parts):
            new = {part: new}
        value = merged(value, new)
    return value


def check_recipe(model: type[Model], value: dict[str, Any], name: str) -> Model:
    """A recipe as its pipeline's model.

    Raises:
        RecipeError: naming every key that is unknown or wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RecipeError("\n".join(_lines(name, value, error))) from error


def merged(base: Any, over: Any) -> Any:
    """`over` on top of `base`, mapping by mapping."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    if "engine" in over and over["engine"] != base.get("engine"):
        return over
    return base | {key: merged(base[key], value) if key in base else value for key, value in over.items()}


def _extended(name: str, beside: Path | None, depth: int) -> dict[str, Any]:
    text, path = _text(name, beside)
    try:
        value = located(_loaded(text), str((path or Path()).absolute()))
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"recipe {name}: {_one_line(error)}") from error
    if not isinstance(value, dict):
        raise RecipeError(f"recipe {name}: a recipe is a mapping of keys, this is {type(value).__name__}")
    base = value.pop("extends", None)
    if base is None:
        return value
    if depth == 0 or not isinstance(base, str):
        raise RecipeError(f"recipe {name}: `extends: {base}` is not a recipe, or extends itself")
    return dict(merged(_extended(base, path, depth - 1), value))


def _text(name: str, beside: Path | None) -> tuple[str, Path | None]:
    path = Path(name).expanduser() if beside is None else beside / name
    try:
        if path.suffix in (".yaml", ".yml") and path.is_file():
            if path.stat().st_size > MAX_BYTES:
                raise RecipeError(f"recipe {name}: it is larger than {MAX_BYTES} bytes, which no recipe is")
            return path.read_text(encoding="utf-8"), path.parent
        if name in recipe_names():
            return (resources.files("recipes") / f"{name}.yaml").read_text(encoding="utf-8"), None
    except (OSError, ValueError, RuntimeError) as error:
        raise RecipeError(f"recipe {name}: cannot be read: {error}") from error
    raise RecipeError(f"no recipe {name!r}: give a .yaml file, or one of {', '.join(recipe_names())}")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that appears twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _loaded(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError, ValueError: it is not YAML, nests too deep, refers to itself, or grows too large by its aliases.
    """
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
            if depth > MAX_NESTING:
                raise ValueError(f"it nests more than {MAX_NESTING} levels deep")
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measured(node, {}, set())
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError):
        raise
    except Exception as error:  # a tag on what it does not fit (`!!timestamp x`) meets errors of any kind
        raise ValueError(f"a value with a tag that does not fit it ({type(error).__name__})") from error
    finally:
        loader.dispose()


def _measured(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """How many values a node holds once its aliases are written out."""
    if id(node) in above:
        raise ValueError("an alias holds itself")
    if id(node) not in known:
        inner = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        inside = inner if isinstance(node, yaml.CollectionNode) else []
        known[id(node)] = 1 + sum(_measured(one, known, above | {id(node)}) for one in inside)
        if known[id(node)] > MAX_VALUES:
            raise ValueError(f"its aliases stand for more than {MAX_VALUES} values")
    return known[id(node)]


def _lines(name: str, value: dict[str, Any], error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        key = _key(value, problem["loc"])
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            yield f"recipe {name}: unknown key {key:.200}"
        else:
            yield f"recipe {name}: {key or 'recipe'}: {problem['msg']:.600}, not {problem['input']!r:.80}"


def _key(value: Any, place: Sequence[int | str]) -> str:
    """A key as it stands in the recipe; pydantic's place also has the engine whose keys it thinks of."""
    parts = []
    for part in place:
        value = engine_shorthand(value)
        if isinstance(value, dict) and part not in value and part == value.get("engine"):
            continue
        parts.append(str(part))
        value = value.get(part) if isinstance(value, dict) else None
    return ".".join(parts)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
