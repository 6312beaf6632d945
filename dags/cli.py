"""The command `curate`."""

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.audit.contact_sheet import contact_sheet, groups
from curation.audit.twins import with_twins
from curation.audit.verification import verify as verified
from curation.audit.views import ask, everything_about, open_views, why as reasons_of
from curation.diversity.inflection import tables_of_forms, tables_version
from curation.diversity.lexicon import lexicon_languages, lexicon_sources, merge, with_forms, write_lexicon
from curation.diversity.lexicon_files import titles_file, vocabulary_file, words_file
from curation.diversity.lexicon_packages import package_lexicons
from curation.diversity.starter_lexicon import starter_lexicon
from curation.errors import CurateError, EngineMissing, RecipeError, RunFailed, SourceError, StoreError
from curation.media.source_folders import notes_of
from curation.paths import resolve
from curation.runtime import stopping
from curation.runtime.inline import InlineRunner
from curation.runtime.memory import MemoryLimits, can_watch
from curation.runtime.nodes import Listing, Pinned
from curation.runtime.progress import LiveProgress
from curation.runtime.ray_runner import RayRunner
from curation.runtime.run import Run, Runner
from curation.runtime.withdrawing import find_withdrawal, withdraw as removed
from curation.store.garbage import collect, garbage
from curation.store.leases import run_lease
from curation.store.objects import Store
from curation.store.runs import runs
from curation.store.versions import Version, datasets, end_version, read_version, version_numbers
from dags.dag import check_columns, missing_engines, read_job, refused_licences, run_job
from dags.output import (
    MOST_LINES,
    complain,
    complain_of_some,
    console,
    errors,
    print_engines,
    print_funnel,
    print_references,
    print_resources,
    print_rows,
    print_runs,
    print_table,
    print_versions,
    say,
)
from dags.proof import PROOF, proof_of
from dags.stopping import signals_stop
from schemas.ledger import FAILED

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn raw media into versioned training shards, and explain every sample.",
)


class RunnerName(StrEnum):
    """Where units of work are done."""

    ray = "ray"
    inline = "inline"


RecipeArgument = Annotated[str, typer.Argument(help="Name of a recipe, or a .yaml file.")]
SetOption = Annotated[list[str], typer.Option("--set", help="Set a key, as in --set source.path=/data. Repeatable.")]
StoreOption = Annotated[str, typer.Option("--store", envvar="CURATE_STORE", help="Folder or URL of the store.")]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Process only this many source rows (recordings, pairs, documents)."),
]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Dataset, if the store has several.")]
VersionOption = Annotated[int | None, typer.Option("--version", help="Version; default: the newest.")]


@app.command()
def plan(recipe: RecipeArgument, set_: SetOption = [], store: StoreOption = "store", limit: LimitOption = None) -> None:  # noqa: B006
    """Show the nodes of a run, completed units, engines and licences. Opens no media."""
    job = read_job(recipe, set_, limit)
    problems = [reason for _, reason in missing_engines(job)] + refused_licences(job)
    run = Run(job.pipeline, _opened(store))
    check_columns(run, job.name)
    try:
        print_plan(run, job.pipeline.dataset, store)
        print_references(job)
    except EngineMissing:
        if not problems:
            raise
    print_engines(job)
    print_resources(job)
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(3)


def print_plan(run: Run, dataset: str, store: str) -> None:
    """What of each node is done, and what is to do."""
    lines: list[tuple[str, Any, Any, Any]] = []
    for planned in run.plan():
        if isinstance(planned.node, Listing):
            lines.append((planned.node.name, "", "", f"{planned.node.rows.num_rows} files"))
        elif isinstance(planned.node, Pinned):
            lines.append((planned.node.name, "pinned", "", f"version {planned.node.version}"))
        elif planned.done is None or planned.todo is None:
            lines.append((planned.node.name, "?", "?", "known once the nodes before it are completed"))
        else:
            rows = sum(task.rows for task in planned.todo)
            lines.append((planned.node.name, len(planned.done), len(planned.todo), rows))
    headings = ("node", "units done", "units to do", "rows to do")
    print_table(headings, lines, title=f"{dataset} in {store}")
    for node in run.pipeline.nodes:
        for note in notes_of(node.rows) if isinstance(node, Listing) else ():
            say(note)


@app.command()
def run(
    recipe: RecipeArgument,
    set_: SetOption = [],  # noqa: B006
    store: StoreOption = "store",
    limit: LimitOption = None,
    runner: Annotated[RunnerName, typer.Option(help="ray, or inline (in this process).")] = RunnerName.ray,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker slots; default: one per CPU.")] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per slot; may be a fraction.")] = 0.0,
    address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="Address of a Ray cluster; default: start Ray locally.")
    ] = None,
    unit_timeout_s: Annotated[float, typer.Option(min=1, help="Seconds after which a unit counts as dead.")] = 3600.0,
    memory_gb: Annotated[
        float | None,
        typer.Option(min=0.3, help="Memory that a unit may hold; by default 2 without engines, else a slot's share."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry units that have failed rows.")] = False,
) -> None:
    """Run a recipe to a version. Completed units are skipped."""
    job = read_job(recipe, set_, limit)
    memory = None if memory_gb is None else int(memory_gb * 1e9)
    chosen: Runner = InlineRunner(unit_timeout_s, MemoryLimits(memory))
    if runner is RunnerName.ray:
        chosen = RayRunner(
            workers=workers, address=address, slot_gpus=gpus, unit_timeout_s=unit_timeout_s, unit_bytes=memory
        )
    if not can_watch():
        complain("memory of units is not limited here: this system does not tell what a process holds")
    with LiveProgress(console) as progress:
        version, is_new = run_job(job, _opened(store), chosen, progress, retry_failed=retry_failed, waits=say)
    print_funnel(version)
    if any(node.verdicts(FAILED) for node in version.nodes):
        question = "select uri, stage, error from ledger where verdict = 'failed' order by uri, node"
        failed = ask(open_views(_opened(store), version), question).to_pylist()
        complain_of_some([_failure(**row) for row in failed], _audit_command(store, version, question))
    news = "new version" if is_new else "nothing changed since version"
    say(f"{news} {version.name}: {_opened(store).root}/{version.name}")
    if not version.accepted:
        raise RunFailed(f"version {version.name} is marked as not accepted: {version.verdict}")


@app.command()
def status(store: StoreOption = "store") -> None:
    """List the versions and runs of a store."""
    opened = _existing(store)
    names = datasets(opened)
    print_versions([read_version(opened, name, n) for name in names for n in version_numbers(opened, name)])
    for name in names:
        print_runs(name, runs(opened, name))


@app.command()
def verify(
    store: StoreOption = "store",
    dataset: DatasetOption = None,
    version: VersionOption = None,
    all_: Annotated[bool, typer.Option("--all", help=f"List all damage, not the first {MOST_LINES} lines.")] = False,
) -> None:
    """Read everything that a version lists and check its hashes. Damage is reported by sample."""
    opened = _existing(store)
    chosen = _version(opened, dataset, version)
    results = [found for _, found in verified(opened, chosen)]
    damaged = sum(bool(found) for found in results)
    damage = [line for found in results for line in found]
    again = ["curate", "verify", "--all", *_which(store, chosen)]
    complain_of_some(damage, shlex.join(again), most=None if all_ else MOST_LINES)
    say(f"{chosen.name}: {len(results)} objects read, {damaged} damaged")
    if damaged:
        raise typer.Exit(1)


@app.command()
def audit(
    sql: Annotated[str | None, typer.Argument(help="SQL; omit to list views.")] = None,
    why: Annotated[str | None, typer.Option(help="Show every decision about this row.")] = None,
    store: StoreOption = "store",
    dataset: DatasetOption = None,
    version: VersionOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Query a version with SQL, or show why a row is in it or not."""
    opened = _existing(store)
    chosen = _version(opened, dataset, version)
    connection = open_views(opened, chosen)
    known: dict[str, Any] = {}
    if why is not None:
        told = [{k: v for k, v in row.items() if k != "steps"} for row in reasons_of(connection, why)]
        rows = with_twins(connection, told)
        known = everything_about(connection, [node.name for node in chosen.nodes], why)
    else:
        question = sql or "select view_name as view, column_count as columns from duckdb_views() where not internal"
        rows = ask(connection, question).to_pylist()
    if as_json:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False, default=_json_value) + "\n")
        return
    print_rows(rows)
    if known:
        print_table(("column", "value"), known.items())


@app.command()
def sheet(
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("sheet.png"),
    per_reason: Annotated[int, typer.Option(min=1, help="Images per verdict and reason.")] = 8,
    columns: Annotated[int, typer.Option(min=1, max=40)] = 8,
    store: StoreOption = "store",
    dataset: DatasetOption = None,
    version: VersionOption = None,
) -> None:
    """Draw a contact sheet: some of the kept images, and some of each reason for which others were not kept."""
    _writable(out, "--out")
    if out.exists() and not (out.is_file() and out.read_bytes()[:4] in (b"", b"\x89PNG")):
        raise RecipeError(f"--out: {out} already exists and is not a PNG; it is not overwritten")
    opened = _existing(store)
    chosen = _version(opened, dataset, version)
    shown = groups(open_views(opened, chosen), chosen, per_reason)
    drawn = contact_sheet(shown, columns)
    with _written(out):
        out.write_bytes(drawn)
    say(f"{out}: {sum(len(group.rows) for group in shown)} images of {chosen.name}, {len(shown)} reasons")
    if any(group.count > len(group.rows) for group in shown):
        question = "select verdict, reason, row_id, uri from ledger order by all"
        say(f"all of them: {_audit_command(store, chosen, question)}")


@app.command()
def withdraw(
    source: Annotated[str | None, typer.Option(help="A file (its uri in the ledger), or a URL.")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="A row id.")] = None,
    store: StoreOption = "store",
    dataset: DatasetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Dry run: report what would be withdrawn.")] = False,
) -> None:
    """Make a version without a source or a row, and without everything made from it. No later run brings it back."""
    if (source is None) == (id_ is None):
        raise RecipeError("give either --source URI or --id ROW")
    opened = _existing(store)
    chosen = _version(opened, dataset, None)
    found = find_withdrawal(open_views(opened, chosen), chosen, source=source, row_id=id_)
    say(f"{chosen.name}: {len(found.seeds)} rows, and {len(found.ids) - len(found.seeds)} made from them")
    if dry_run:
        return
    with run_lease(opened, ["parts"], say) as lease:
        version, changed = removed(opened, chosen, found)
        lease.check()
    for path in changed:
        say(f"changed: {path}")
    say(f"new version {version.name}: {_opened(store).root}/{version.name}")
    earlier = ", ".join(str(n) for n in version_numbers(opened, chosen.dataset) if n < version.number)
    say(f"still in versions {earlier}: `curate drop --version N` deletes one, `curate gc --delete` its parts")


@app.command()
def drop(
    version: Annotated[int, typer.Option("--version", help="Version to delete; never the newest.")],
    store: StoreOption = "store",
    dataset: DatasetOption = None,
) -> None:
    """Delete a version: its manifest and its folder. Parts that no other version lists become garbage."""
    opened = _existing(store)
    chosen = _version(opened, dataset, version)
    if version == version_numbers(opened, chosen.dataset)[-1]:
        raise RecipeError(f"{chosen.name} is the newest version, which later runs build on; it cannot be deleted")
    end_version(opened, chosen)
    say(f"{chosen.name} deleted")


@app.command()
def gc(
    store: StoreOption = "store",
    older_than_h: Annotated[
        float, typer.Option(min=0, help="Keep objects newer than this; a run may use them.")
    ] = 24.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; default: report only.")] = False,
) -> None:
    """Report, or delete, parts that no version lists."""
    opened = _existing(store)
    if delete:
        found, holders = collect(opened, older_than_h * 3600)
    else:
        found, holders = garbage(opened, older_than_h * 3600, time.time()), []
    size = sum(one.size for one in found) / 1e6
    note = "deleted" if delete else "listed by no version; --delete deletes them"
    say(f"{len(found)} objects, {size:.1f} MB: {note}")
    for holder in holders:
        say(f"spared what this may use: {holder}")


@app.command()
def lexicon(
    out: Annotated[Path, typer.Argument(help="The .parquet file to write.")],
    package: Annotated[list[str], typer.Option(help="jieba, or wordfreq=en,es,de. May be repeated.")] = [],  # noqa: B006
    words: Annotated[list[str], typer.Option(help="LANG=FILE: one word or phrase per line.")] = [],  # noqa: B006
    titles: Annotated[list[str], typer.Option(help="LANG=FILE: a dump of Wikipedia titles.")] = [],  # noqa: B006
    vocabulary: Annotated[list[str], typer.Option(help="LANG=DIR: the folder of a spaCy pipeline.")] = [],  # noqa: B006
    starter: Annotated[bool, typer.Option("--starter", help="With the built-in starter lexicon.")] = False,
    inflect: Annotated[bool, typer.Option("--inflect", help="Add inflected forms by simplemma's tables.")] = False,
    licence: Annotated[str, typer.Option(help="Licence of your lists (SPDX), recorded with them.")] = "",
) -> None:
    """Build a lexicon of concepts from packages and lists; then `--set concepts.lexicon=FILE`.

    An entry that several lists have counts as of the language of the first: packages, then words, titles, vocabularies
    and the starter.
    """
    _writable(out, "OUT")
    parts = [part for request in package for part in package_lexicons(request)]
    for build, given in ((words_file, words), (titles_file, titles), (vocabulary_file, vocabulary)):
        for pair in given:
            language, equals, path = pair.partition("=")
            if not equals or not language or not path:
                raise RecipeError(f"{pair!r}: write LANG=FILE, such as en=words.txt")
            parts.append(build(Path(path), language, licence))
    parts += [starter_lexicon()] if starter else []
    if not parts:
        raise RecipeError("no list given: --package, --words, --titles, --vocabulary or --starter")
    merged = merge(parts)
    if inflect:
        tables = {language: tables_of_forms(language) for language in lexicon_languages(merged)}
        merged = with_forms(merged, tables, tables_version())
    with _written(out):
        write_lexicon(merged, out)
    print_table(("language", "entries"), list(lexicon_languages(merged).items()), title=str(out))
    sources = [(source, terms or "not stated", count) for source, terms, count in lexicon_sources(merged)]
    print_table(("source", "licence", "entries"), sources)


@app.command()
def prove(
    pipeline: Annotated[str, typer.Argument(help="Pipeline: speech, captions, or documents.")],
    store: StoreOption = "store",
    corpus: Annotated[Path | None, typer.Option(help="A corpus of your own, with its truth.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the generated corpus.")] = 0,
    size: Annotated[
        float | None,
        typer.Option("--size", "--hours", min=0.01, help="Size of the generated corpus: hours, pairs, or documents."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Another recipe; default: that of the embedded engines.")] = None,
    set_: SetOption = [],  # noqa: B006
    runner: Annotated[RunnerName, typer.Option(help="ray, or inline (in this process).")] = RunnerName.ray,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker slots; default: one per CPU.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run a pipeline on a corpus of known truth, and score what it kept and dropped."""
    proof = proof_of(pipeline)
    if corpus is not None and not proof.is_there(corpus):
        raise SourceError(f"--corpus {corpus} has no truth; docs/proving.md describes its format")
    much = proof.size if size is None else size
    folder = corpus or Path(_opened(store).local_path(f"corpora/{pipeline}-{seed}-{much:g}"))
    if not as_json and not proof.is_there(folder):
        say(f"making {much:g} {proof.unit} with planted faults in {folder}")
    proof.ensure(folder, seed, much)
    job = read_job(recipe or proof.recipe, [*proof.settings(folder), *set_])
    chosen: Runner = RayRunner(workers=workers) if runner is RunnerName.ray else InlineRunner()
    with LiveProgress(errors if as_json else console) as progress:
        version, _ = run_job(job, _opened(store), chosen, progress)
    result = proof.score(folder, open_views(_opened(store), version))
    if as_json:
        sys.stdout.write(result.json() + "\n")
        return
    print_funnel(version)
    console.print(result.table())


def _json_value(value: Any) -> Any:
    """A value that JSON lacks: sums of whole numbers are decimals in DuckDB, and numbers here; all else is text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _writable(out: Path, option: str) -> None:
    """Say that a file cannot be written before the work is done, not after."""
    try:
        if out.is_dir():
            raise RecipeError(f"{option}: {out} is a folder; name a file in it")
        if not out.parent.is_dir():
            raise RecipeError(f"{option}: the folder {out.parent.absolute()} does not exist; make it first")
        if not os.access(out if out.exists() else out.parent, os.W_OK):
            raise RecipeError(f"{option}: {out} may not be written by this user")
    except (OSError, ValueError) as error:
        raise RecipeError(f"{option}: {str(out)!r:.200} is no path that can be written: {error}") from error


@contextmanager
def _written(out: Path) -> Iterator[None]:
    """A disk that is full, or goes away, in one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}") from error


def _failure(uri: str, stage: str, error: str) -> str:
    place = "" if uri in error else f" ({uri})"
    return f"failed in {stage}: {error}{place}"


def _which(store: str, version: Version) -> list[str]:
    return ["--store", store, "--dataset", version.dataset, "--version", str(version.number)]


def _audit_command(store: str, version: Version, sql: str) -> str:
    """The command that asks a version, to paste in a shell."""
    return shlex.join(["curate", "audit", *_which(store, version), sql])


def _version(store: Store, dataset: str | None, number: int | None) -> Version:
    names = datasets(store)
    if dataset is None:
        names = [name for name in names if not name.endswith(PROOF)] or names
        if not names:
            raise StoreError(f"{store.root} has no dataset yet; `curate run ... --store {store.root}` makes one")
        if len(names) > 1:
            raise RecipeError(f"{store.root} has the datasets {', '.join(names)}; choose with --dataset")
    return read_version(store, dataset or names[0], number)


def _opened(store: str) -> Store:
    """The store, which need not be there yet."""
    opened = Store(store)
    if opened.is_local:
        try:
            resolve(opened.root, "/")
        except ValueError as error:
            raise StoreError(f"--store {store!r:.200}: {error}") from error
    return opened


def _existing(store: str) -> Store:
    opened = _opened(store)
    if opened.is_local and not Path(opened.root).is_dir():
        raise StoreError(f"no store at {opened.root}")
    return opened


def main() -> None:
    """Run the command; an error that is ours to explain is one line and an exit code."""
    with signals_stop():
        try:
            _main()
        finally:
            if number := stopping.asked():
                complain("curate: stopped; completed units are kept, run the same command to go on")
                sys.exit(128 + number)


def _main() -> None:
    try:
        app()
    except CurateError as error:
        stopping.check()
        complain(f"curate: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)


if __name__ == "__main__":
    main()
