"""Writes docs/reference.md from the code: commands, recipe keys, stages, engines, reasons, ledger, exit codes.

    python -m scripts.reference            # write it
    python -m scripts.reference --check    # exit 1 if it is not current

Types and defaults come from the recipe models, descriptions from docstrings and from the comments of the recipes that
ship with the package, reasons from the calls that write them. What the code does not say is not in the reference.
"""

import argparse
import ast
import importlib
import inspect
import itertools
import json
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import pyarrow as pa
import typer
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import curation
from curation.engines.engine import Engine
from curation.errors import CurateError
from curation.recipe import Recipe
from curation.stage import Forget, Only, Stage
from dags.cli import app
from dags.dag import PIPELINES
from schemas.ledger import LEDGER, LINEAGE

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference.md"

UNITS = {  # by the end of a key's name
    "_per_s": "per second",
    "_s": "seconds",
    "_ms": "milliseconds",
    "_hz": "hertz",
    "_db": "decibels",
    "_bytes": "bytes",
    "_share": "share, 0 to 1",
    "_fraction": "share, 0 to 1",
    "_percentile": "percentile, 0 to 100",
    "_pixels": "pixels",
    "_side": "pixels",
    "_words": "words",
    "_characters": "characters",
    "_files": "files",
    "_pairs": "pairs",
    "_nodes": "nodes",
    "_rows": "rows",
    "_distance": "bits",
    "_bits": "bits",
}

EXITS = {  # what no class of errors says
    0: "Done. For `verify`: no damage found.",
    1: "Damage found by `verify`, or an error that none of the following describes.",
    2: "A command, option, recipe or source that is invalid. Nothing ran.",
    130: "Stopped by Ctrl-C. Completed units are kept; the same command continues.",
    141: "The reader of the output went away (a closed pipe).",
}


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is not current")
    text = reference()
    if arguments.parse_args().check:
        current = REFERENCE.exists() and REFERENCE.read_text(encoding="utf-8") == text
        print("docs/reference.md is current" if current else "docs/reference.md is not current: make reference")
        return 0 if current else 1
    REFERENCE.write_text(text, encoding="utf-8")
    print(f"wrote {REFERENCE.relative_to(ROOT)}")
    return 0


def reference() -> str:
    """The whole file."""
    import_all()
    parts = [
        "# Reference\n\nGenerated from the code by `make reference`; a test keeps it current. Do not edit.\n",
        commands(),
        "## Recipe keys\n\nA recipe is YAML. `extends: captions` starts from a recipe of the package, or from a file."
        " `null` switches a step off where the type allows it. A key with an engine takes a mapping whose `engine` is"
        " one of those under [Engines](#engines), or `name:model` in short.\n",
        *(recipe_keys(name, kind.recipe) for name, kind in PIPELINES.items()),
        engines(),
        stages(),
        reasons(),
        "## Ledger\n\nOne row per row and node, and one per parent of a row that was made.\n",
        columns("ledger", LEDGER),
        columns("lineage", LINEAGE),
        exit_codes(),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def import_all() -> None:
    for module in pkgutil.walk_packages(curation.__path__, "curation."):
        importlib.import_module(module.name)


# Commands


def commands() -> str:
    lines = ["## Commands\n"]
    group = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        positional = [f"{p.name.upper()}" for p in command.params if p.param_type_name == "argument"]
        lines.append(f"### curate {' '.join([name, *positional])}\n")
        lines.append(f"{plain(command.help or '')}\n")
        rows = []
        for parameter in command.params:
            if parameter.name == "help":
                continue
            shown = parameter.name.upper() if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
            default = parameter.default() if callable(parameter.default) else parameter.default
            if parameter.required or default in (None, (), [], False) or "UNSET" in repr(default).upper():
                default_text = "required" if parameter.required else ""
            else:
                default_text = f"`{getattr(default, 'value', default)}`"
            rows.append((f"`{shown}`", default_text, plain(getattr(parameter, "help", "") or "")))
        lines.append(table(("argument or option", "default", "meaning"), rows))
    return "\n".join(lines)


# Recipes


@dataclass(frozen=True)
class Key:
    """One line of a table of keys."""

    name: str
    type: str
    default: str
    unit: str
    meaning: str


def recipe_keys(name: str, model: type[Recipe]) -> str:
    path = ROOT / "recipes" / f"{name}.yaml"
    comments, shipped = comments_of(path), yaml.safe_load(path.read_text(encoding="utf-8"))
    rows = [(f"`{k.name}`", k.type, k.default, k.unit, k.meaning) for k in keys_of(model, "", comments)]
    rows = [(key, kind, of_recipe(key, default, shipped), *rest) for key, kind, default, *rest in rows]
    about = plain(inspect.getdoc(model) or "")
    return f"### {name}\n\n{about}\n\n" + table(("key", "type", "default", "unit", "meaning"), rows)


def of_recipe(key: str, default: str, shipped: dict[str, Any]) -> str:
    """The default of a key that the model leaves open and the recipe of the package does not."""
    value = shipped.get(key.strip("`"))
    if default != "required" or value is None:
        return default
    return f"`{value['engine']}`" if isinstance(value, dict) and "engine" in value else f"`{shown_value(value)}`"


def keys_of(
    model: type, prefix: str, comments: dict[str, str], defaults: Any = None, seen: tuple[type, ...] = ()
) -> Iterator[Key]:
    """The keys of a model or dataclass, those of what is nested in it behind their own."""
    said = described(model)
    for name, annotation, default in members(model):
        if defaults is not None:
            default = getattr(defaults, name, default)
        key = f"{prefix}{name}"
        choices = engines_in(annotation)
        nested = None if choices else nested_in(annotation)
        meaning = comments.get(key) or said.get(name) or ""
        if nested and not meaning:
            meaning = first_paragraph(nested)
        if choices:
            links = ", ".join(f"[{engine_name(one)}](#{anchor(heading(one))})" for one in choices)
            kind = f"engine: {links}" + (" or null" if optional(annotation) else "")
            yield Key(key, kind, engine_default(default), "", meaning)
        elif nested and nested not in seen:
            shown = "null" if default is None else "" if is_given(default) else "required"
            kind = "mapping" + (" or null" if optional(annotation) else "")
            yield Key(key, kind, shown and f"`{shown}`", "", meaning)
            values = default if is_given(default) and not isinstance(default, (list, tuple, dict)) else None
            yield from keys_of(nested, f"{key}.", comments, values, (*seen, nested))
        else:
            yield Key(key, type_text(annotation), default_text(default), unit_of(name, annotation), meaning)
            if item := item_of(annotation):
                yield from keys_of(item, f"{key}[].", comments, None, (*seen, item))


def members(model: type) -> Iterator[tuple[str, Any, Any]]:
    """Name, annotation and default of each key."""
    if issubclass(model, BaseModel):
        hints = typing.get_type_hints(model, include_extras=True)
        for name, info in model.model_fields.items():
            default = info.default if info.default_factory is None else info.default_factory()  # type: ignore[call-arg]
            yield name, hints[name], default
        return
    hints = typing.get_type_hints(model, include_extras=True)
    for f in fields(model):
        if not f.init:
            continue
        factory = f.default_factory
        default = f.default if not callable(factory) else factory()
        yield f.name, hints[f.name], default


def is_given(value: Any) -> bool:
    return value is not PydanticUndefined and value is not None and "MISSING" not in repr(value)[:40]


def default_text(value: Any) -> str:
    if value is PydanticUndefined or "_MISSING_TYPE" in type(value).__name__:
        return "required"
    return f"`{shown_value(value)}`"


def shown_value(value: Any) -> str:
    if isinstance(value, str):
        text = " ".join(value.split())
        return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=False)
    if isinstance(value, (tuple, list, frozenset, set)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        shown = [shown_value(item) for item in items[:6]]
        return "[" + ", ".join(shown + ([f"... {len(items)} in all"] if len(items) > 6 else [])) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown_value(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    if is_dataclass(value) or isinstance(value, BaseModel):
        return type(value).__name__
    return str(value)


def unwrapped(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type, without null and annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from unwrapped(get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for one in get_args(annotation):
            yield from unwrapped(one)
    elif annotation is not type(None):
        yield annotation


def optional(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return optional(get_args(annotation)[0])
    return origin in (typing.Union, types.UnionType) and any(
        one is type(None) or optional(one) for one in get_args(annotation)
    )


def engines_in(annotation: Any) -> list[type[Engine]]:
    """The engines that a type is a choice of."""
    kinds = list(unwrapped(annotation))
    if not kinds or not all(inspect.isclass(one) and issubclass(one, Engine) for one in kinds):
        return []
    return kinds


def engine_name(engine: type[Engine]) -> str:
    return str(next(f.default for f in fields(engine) if f.name == "engine"))


def engine_default(value: Any) -> str:
    return f"`{value.engine}`" if isinstance(value, Engine) else "`null`" if value is None else "required"


def nested_in(annotation: Any) -> type | None:
    """The model or dataclass whose keys stand below this one."""
    found = [
        one
        for one in unwrapped(annotation)
        if inspect.isclass(one) and (is_dataclass(one) or issubclass(one, BaseModel))
    ]
    return found[0] if len(found) == 1 else None


def item_of(annotation: Any) -> type | None:
    """The model or dataclass of which this is a list."""
    for one in unwrapped(annotation):
        if get_origin(one) in (tuple, list) and get_args(one):
            return nested_in(get_args(one)[0])
    return None


def type_text(annotation: Any) -> str:
    kinds = [one_type(one) for one in alternatives(annotation)]
    text = " or ".join(dict.fromkeys(kinds))
    return text + (" or null" if optional(annotation) else "")


def alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for one in get_args(annotation):
            if one is not type(None):
                yield from alternatives(one)
    else:
        yield annotation


def one_type(annotation: Any) -> str:
    bounds: list[str] = []
    if get_origin(annotation) is Annotated:
        bounds = list(limits(get_args(annotation)[1:]))
        inner = get_args(annotation)[0]
        if get_origin(inner) in (typing.Union, types.UnionType):
            return type_text(inner)
        annotation = inner
    origin = get_origin(annotation)
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (tuple, list, frozenset, set) or annotation in (tuple, list):
        inside = [one for one in get_args(annotation) if one is not Ellipsis]
        mapping = bool(inside) and nested_in(inside[0]) is not None
        text = "list of mappings" if mapping else f"list of {type_text(inside[0])}" if inside else "list"
    elif origin is dict or annotation is dict:
        key, value = get_args(annotation) or (str, Any)
        text = f"mapping of {type_text(key)} to {type_text(value)}"
    else:
        plain_names = {
            int: "integer",
            float: "number",
            str: "text",
            bool: "true or false",
            Any: "anything",
            Path: "path",
        }
        text = plain_names.get(annotation) or getattr(annotation, "__name__", str(annotation))
    return " ".join([text, *(["(" + ", ".join(bounds) + ")"] if bounds else [])])


def limits(metadata: Iterable[Any]) -> Iterator[str]:
    for one in metadata:
        for bound in getattr(one, "metadata", None) or [one]:
            match bound:
                case annotated_types.Ge(ge=value):
                    yield f">= {value}"
                case annotated_types.Gt(gt=value):
                    yield f"> {value}"
                case annotated_types.Le(le=value):
                    yield f"<= {value}"
                case annotated_types.Lt(lt=value):
                    yield f"< {value}"


def unit_of(name: str, annotation: Any) -> str:
    if not any(one in (int, float) for one in unwrapped(annotation)):
        return ""
    return next((unit for end, unit in UNITS.items() if name.endswith(end) or name == end[1:]), "")


# Descriptions


def described(model: type) -> dict[str, str]:
    """What a class says of its fields: strings below them, and `Attributes:` of its docstring; bases first."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__.split(".")[0] not in ("curation", "pipelines"):
            continue
        found |= attributes(inspect.getdoc(base) or "") if "__doc__" in vars(base) else {}
        body = class_of(base).body
        for before, after in itertools.pairwise(body):
            match before, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = plain(text)
    return found


def attributes(doc: str) -> dict[str, str]:
    """The entries of `Attributes:`."""
    _, _, text = doc.partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            break
        entry = re.match(r"    ([a-z_]+(?:, [a-z_]+)*): (.*)", line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.strip() and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: plain(text) for name, text in found.items()}


def first_paragraph(model: type) -> str:
    return plain((inspect.getdoc(model) or "").split("\n\n")[0])


def comments_of(path: Path) -> dict[str, str]:
    """The comment behind each key of a recipe, by the key's whole name."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"( *)([a-z_]+):(.*)$", line)
        if not match:
            continue
        depth = len(match[1])
        above = [one for one in above if one[0] < depth] + [(depth, match[2])]
        comment = re.search(r"(?:^|\s)#\s*(.*)$", match[3])
        if comment:
            found[".".join(name for _, name in above)] = plain(comment[1])
    return found


def plain(text: str) -> str:
    """A docstring as one line of a table."""
    text = re.split(r"\n\s*\n?\s*(?:Raises|Args|Attributes):\n", text)[0]
    return " ".join(text.replace("|", "\\|").split())


# Engines


def engines() -> str:
    lines = ["## Engines\n", "Models behind a key of a recipe. `extra` is what installs the packages that one needs.\n"]
    for engine in all_engines():
        lines.append(f"### {heading(engine)}\n")
        lines.append(f"{first_paragraph(engine)}\n")
        facts = [
            ("extra", engine.extra and f"`{engine.extra}`"),
            ("licence of the code", engine.code_licence),
            ("licence of the weights", engine.weights_licence),
            ("limits", engine.limits),
            ("answers differ between calls", "" if engine.repeatable else "yes; they are recorded, and asked for once"),
        ]
        said = [f"- {name}: {fact.rstrip('.')}" for name, fact in facts if isinstance(fact, str) and fact]
        lines += [*said, ""]
        keys = [k for k in keys_of(engine, "", {}) if k.name != "engine"]
        if keys:
            rows = [(f"`{k.name}`", k.type, k.default, k.unit, k.meaning) for k in keys]
            lines.append(table(("key", "type", "default", "unit", "meaning"), rows))
    return "\n".join(lines)


@lru_cache(maxsize=1)
def all_engines() -> tuple[type[Engine], ...]:
    return tuple(sorted(set(leaves(Engine)), key=lambda one: (engine_name(one), one.__module__)))


def heading(engine: type[Engine]) -> str:
    """Its name; where engines of two capabilities share it, with the module."""
    name = engine_name(engine)
    if [engine_name(one) for one in all_engines()].count(name) == 1:
        return name
    return f"{name} ({engine.__module__.rpartition('.')[2].replace('_', ' ')})"


def anchor(title: str) -> str:
    """The link that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def leaves(base: type) -> Iterator[type]:
    """The classes that recipes can name: engines with a name of their own."""
    for one in base.__subclasses__():
        yield from leaves(one)
        if one.__module__.startswith("curation.") and not inspect.isabstract(one) and engine_name(one):
            yield one


# Stages and reasons


@lru_cache(maxsize=1)
def all_stages() -> tuple[type[Stage], ...]:
    def below(base: type) -> Iterator[type]:
        for one in base.__subclasses__():
            yield one
            yield from below(one)

    found = {one for one in below(Stage) if one.__module__.startswith("curation.") and one not in (Only, Forget)}
    called = {one for one in found if one.__call__ is not Stage.__call__ and not one.__name__.startswith("_")}
    return tuple(sorted(called, key=lambda one: (one.__module__, one.__name__)))


def stages() -> str:
    lines = [
        "## Stages\n",
        "What a stage reads, writes and rejects for, by package. Columns in *italics* depend on the recipe. `makes` is"
        " the kind of row that it makes of others; the measures of an expensive stage are reused.\n",
    ]
    package = ""
    for stage in all_stages():
        here = ".".join(stage.__module__.split(".")[:2])
        if here != package:
            lines.append(f"### {here}\n")
            package = here
        lines.append(f"#### {stage.__name__}\n")
        lines.append(f"{first_paragraph(stage)}\n")
        found = reasons_of(stage)
        facts = [
            ("module", f"`{stage.__module__.replace('.', '/')}.py`"),
            ("reads", columns_of(stage, "reads")),
            ("writes", columns_of(stage, "writes")),
            ("makes", f"`{stage.makes}`" if stage.makes else ""),
            ("reasons", ", ".join(f"`{one}`" for one in found)),
            ("expensive", "yes" if stage.costly else ""),
            ("version", str(stage.version)),
        ]
        lines += [f"- {name}: {fact}" for name, fact in facts if fact]
        lines.append("")
    return "\n".join(lines)


def columns_of(stage: type[Stage], which: str) -> str:
    value = inspect.getattr_static(stage, which)
    if isinstance(value, tuple):
        return ", ".join(f"`{name}`" for name in value)
    try:
        found = getattr(stage(), which)
    except TypeError:
        return "*depends on the recipe*"
    return ", ".join(f"*`{name}`*" for name in found)


def reasons() -> str:
    by: dict[str, list[str]] = {}
    for stage in all_stages():
        for reason in reasons_of(stage):
            by.setdefault(reason, []).append(stage.__name__)
    rows = [(f"`{reason}`", ", ".join(sorted(set(names)))) for reason, names in sorted(by.items())]
    failures = [
        (f"`{one.__name__}`", plain((inspect.getdoc(one) or "").split("\n\n")[0]))
        for one in sorted(errors_of(CurateError), key=lambda one: one.__name__)
        if one.exit_code == CurateError.exit_code
    ]
    return "\n".join(
        [
            "## Reasons\n",
            "Why a row was rejected or sampled out, as the ledger has it; `<...>` stands for what a recipe names.\n",
            table(("reason", "stages"), rows),
            "A failed row has the error's name as its reason, and its message in `error`. Errors of the project:\n",
            table(("error", "meaning"), failures),
        ]
    )


def reasons_of(stage: type[Stage]) -> list[str]:
    """The reasons that a stage's code writes, its bases and the functions of its module that it calls included."""
    found: set[str] = set()
    for base in stage.__mro__:
        if base is Stage or not issubclass(base, Stage):
            continue
        tree, functions = module_of(base.__module__)
        reached = reachable(class_of(base), functions)
        for part in reached:
            found |= set(written_reasons(part, tree))
    return sorted(found)


def reachable(start: ast.AST, functions: dict[str, ast.AST]) -> list[ast.AST]:
    parts, names = [start], set()
    for part in parts:
        for node in ast.walk(part):
            if isinstance(node, ast.Name) and node.id in functions and node.id not in names:
                names.add(node.id)
                parts.append(functions[node.id])
    return parts


def written_reasons(part: ast.AST, tree: ast.Module) -> Iterator[str]:
    for scope in [one for one in ast.walk(part) if isinstance(one, (ast.FunctionDef, ast.Lambda))]:
        own = {argument.arg for argument in (*scope.args.args, *scope.args.kwonlyargs)}
        for node in ast.walk(scope):
            for expression in reason_expressions(node):
                if isinstance(expression, ast.Name) and expression.id in own:
                    continue  # whoever calls it says which
                yield from (text for text in texts_of(expression, scope, tree))


def reason_expressions(node: ast.AST) -> Iterator[ast.expr]:
    """The reason in a call that writes one, or in a decision that is written out."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for position in writers().get(name, ()):
            yield from (one.value for one in node.keywords if one.arg == "reason")
            place = position - (1 if isinstance(node.func, ast.Attribute) and name not in ("reject",) else 0)
            if 0 <= place < len(node.args):
                yield node.args[place]
    if isinstance(node, ast.Dict):
        named = {
            key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)
        }
        if {"verdict", "reason"} <= named.keys():
            yield named["reason"]


@lru_cache(maxsize=1)
def writers() -> dict[str, set[int]]:
    """Functions of the library with a parameter `reason`, by name, and its place."""
    found: dict[str, set[int]] = {}
    for name in sorted(sys.modules):
        if name.startswith("curation."):
            tree, _ = module_of(name)
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    names = [argument.arg for argument in node.args.args]
                    if "reason" in names:
                        found.setdefault(node.name, set()).add(names.index("reason"))
    return found


def texts_of(expression: ast.expr, scope: ast.AST, tree: ast.Module) -> Iterator[str]:
    """The texts that an expression may have: constants, what loops and assignments bind, f-strings with <...>."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            parts = [one.value if isinstance(one, ast.Constant) else f"<{_word(one)}>" for one in values]
            yield "".join(str(part) for part in parts)
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts_of(body, scope, tree)
            yield from texts_of(orelse, scope, tree)
        case ast.Name(id=name):
            for node in [*ast.walk(scope), *tree.body]:
                match node:
                    case ast.For(target=target, iter=items) | ast.comprehension(target=target, iter=items):
                        yield from _bound(name, target, items, scope, tree)
                    case ast.Assign(targets=[target], value=value):
                        if isinstance(target, ast.Name) and target.id == name:
                            yield from texts_of(value, scope, tree)
        case ast.Call(args=arguments):
            for one in arguments:
                if isinstance(one, ast.Constant):
                    yield from texts_of(one, scope, tree)


def _bound(name: str, target: ast.expr, items: ast.expr, scope: ast.AST, tree: ast.Module) -> Iterator[str]:
    if isinstance(target, ast.Tuple):
        places = [i for i, one in enumerate(target.elts) if isinstance(one, ast.Name) and one.id == name]
    else:
        places = [-1] if isinstance(target, ast.Name) and target.id == name else []
    for place in places:
        for item in _items(items, tree):
            if place < 0:
                yield from texts_of(item, scope, tree)
            elif isinstance(item, ast.Tuple) and place < len(item.elts):
                yield from texts_of(item.elts[place], scope, tree)


def _items(expression: ast.expr, tree: ast.Module) -> list[ast.expr]:
    match expression:
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return list(elements)
        case ast.Dict(values=values):
            return list(values)
        case ast.Call(func=ast.Attribute(value=inner, attr="values" | "items")):
            return _items(inner, tree)
        case ast.Call(args=[inner, *_]):
            return _items(inner, tree)
        case ast.Name(id=name):
            for node in tree.body:
                target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
                if isinstance(target, ast.Name) and target.id == name and getattr(node, "value", None) is not None:
                    return _items(node.value, tree)  # type: ignore[attr-defined]
    return []


def _word(part: ast.expr) -> str:
    text = ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""
    return text.removeprefix("self.").split(".")[0] if not text.endswith(".name") else "set"


@cache
def module_of(name: str) -> tuple[ast.Module, dict[str, ast.AST]]:
    """The syntax of a module, and its functions by name."""
    tree = ast.parse(Path(str(importlib.import_module(name).__file__)).read_bytes())
    return tree, {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@cache
def class_of(kind: type) -> ast.ClassDef:
    tree, _ = module_of(kind.__module__)
    return next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == kind.__name__)


# The rest


def errors_of(base: type[CurateError]) -> Iterator[type[CurateError]]:
    for one in base.__subclasses__():
        yield one
        yield from errors_of(one)


def columns(name: str, schema: pa.Schema) -> str:
    rows = []
    for field in schema:
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        rows.append((f"`{field.name}`", str(field.type), plain(about.get("description", ""))))
    return f"### {name}\n\n" + table(("column", "type", "meaning"), rows)


def exit_codes() -> str:
    said: dict[int, list[str]] = {code: [text] for code, text in EXITS.items()}
    for error in sorted(errors_of(CurateError), key=lambda one: one.__name__):
        if error.__module__ == "curation.errors" and error.exit_code != CurateError.exit_code:
            said.setdefault(error.exit_code, []).append(f"{error.__name__}: {plain(inspect.getdoc(error) or '')}")
    rows = [(str(code), " ".join(texts)) for code, texts in sorted(said.items())]
    return "## Exit codes\n\n" + table(("code", "meaning"), rows)


def table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(headings), " | ".join("---" for _ in headings), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
