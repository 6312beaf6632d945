"""The command `curate`."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from curation.audit.verification import verify as verified
from curation.audit.views import ask, open_views, why as reasons_of
from curation.errors import CurateError, RunFailed
from curation.runtime.inline import InlineRunner
from curation.runtime.nodes import Listing, Pinned
from curation.runtime.progress import LiveProgress
from curation.runtime.publishing import funnel_rows
from curation.runtime.ray_runner import RayRunner
from curation.runtime.run import Run, Runner
from curation.store.objects import Store
from curation.store.runs import runs
from curation.store.versions import Version, datasets, read_version, version_numbers
from dags.dag import Job, missing_engines, read_job, refused_licences, run_job
from dags.proof import proof_of

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turns raw media into versioned training shards, and answers for every sample.",
)
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)


class RunnerName(StrEnum):
    """Where units of work are done."""

    ray = "ray"
    inline = "inline"


RecipeArgument = Annotated[str, typer.Argument(help="A recipe's name, or a .yaml file.")]
SetOption = Annotated[list[str], typer.Option("--set", help="Set a key: --set source.path=/data. May be repeated.")]
StoreOption = Annotated[str, typer.Option("--store", envvar="CURATE_STORE", help="Folder or URL of the store.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Take this many source files.")]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Which dataset, if the store has several.")]
VersionOption = Annotated[int | None, typer.Option("--version", help="Which version; the newest by default.")]


@app.command()
def plan(recipe: RecipeArgument, set_: SetOption = [], store: StoreOption = "store", limit: LimitOption = None) -> None:  # noqa: B006
    """Show the nodes of a run, what is done already, engines and licences. Opens no media."""
    job = read_job(recipe, set_, limit)
    run = Run(job.pipeline, Store(store))
    run.check()
    table = Table("node", "units done", "units to do", "rows to do", title=f"{job.pipeline.dataset} in {store}")
    for planned in run.plan():
        if isinstance(planned.node, Listing):
            table.add_row(planned.node.name, "", "", f"{planned.node.rows.num_rows} files")
        elif isinstance(planned.node, Pinned):
            table.add_row(planned.node.name, "pinned", "", f"version {planned.node.version}")
        elif planned.done is None or planned.todo is None:
            table.add_row(planned.node.name, "?", "?", "known when the nodes before it are done")
        else:
            rows = sum(task.rows for task in planned.todo)
            table.add_row(planned.node.name, str(len(planned.done)), str(len(planned.todo)), str(rows))
    console.print(table)
    _show_engines(job)
    problems = [reason for _, reason in missing_engines(job)] + refused_licences(job)
    for problem in problems:
        errors.print(problem, style="bold red", highlight=False, soft_wrap=True, markup=False)
    if problems:
        raise typer.Exit(3)


@app.command()
def run(
    recipe: RecipeArgument,
    set_: SetOption = [],  # noqa: B006
    store: StoreOption = "store",
    limit: LimitOption = None,
    runner: Annotated[RunnerName, typer.Option(help="ray, or inline: in this process.")] = RunnerName.ray,
    workers: Annotated[int | None, typer.Option(min=1, help="Slots; one per CPU by default.")] = None,
    address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="Of a Ray cluster; local by default.")
    ] = None,
    unit_timeout_s: Annotated[float, typer.Option(min=1, help="A unit that takes longer counts as dead.")] = 3600.0,
) -> None:
    """Run a recipe to a version. What is done is not done again."""
    job = read_job(recipe, set_, limit)
    chosen: Runner = InlineRunner(unit_timeout_s)
    if runner is RunnerName.ray:
        chosen = RayRunner(workers=workers, address=address, unit_timeout_s=unit_timeout_s)
    with LiveProgress(console) as progress:
        version, is_new = run_job(job, Store(store), chosen, progress)
    show_funnel(version)
    say = "new version" if is_new else "nothing changed since version"
    console.print(
        f"{say} [bold]{version.name}[/bold]: {Store(store).root}/{version.name}", soft_wrap=True, highlight=False
    )
    if not version.accepted:
        raise RunFailed(f"version {version.name} is marked as not accepted: {version.verdict}")


@app.command()
def status(store: StoreOption = "store") -> None:
    """List the versions of a store, and the runs."""
    opened = Store(store)
    table = Table("version", "from", "samples", "shards", "size (MB)", "kept / seen", "accepted")
    for dataset in datasets(opened):
        for number in version_numbers(opened, dataset):
            version = read_version(opened, dataset, number)
            samples = sum(shard.samples for shard in version.shards)
            size = sum(shard.size for shard in version.shards) / 1e6
            seen = sum(node.rows_in + sum(node.made.values()) for node in version.nodes if node.counts)
            kept = sum(node.verdicts("kept") for node in version.nodes)
            note = "yes" if version.accepted else version.verdict
            if version.limit:
                note += f" (limit {version.limit})"
            table.add_row(
                version.name, str(version.parent or ""), str(samples), str(len(version.shards)), f"{size:.1f}",
                f"{kept} / {seen}", note,
            )  # fmt: skip
    console.print(table)
    table = Table("run", "recipe", "began", "ended", "outcome")
    for dataset in datasets(opened):
        for record in runs(opened, dataset):
            outcome = record.outcome or "going on, or killed: run it again to go on"
            table.add_row(f"{dataset} {record.number}", record.recipe, record.began, record.ended, outcome)
    console.print(table)


@app.command()
def verify(store: StoreOption = "store", dataset: DatasetOption = None, version: VersionOption = None) -> None:
    """Read everything that a version lists and compare it with its hashes; damage is told by the sample."""
    opened = Store(store)
    chosen = _version(opened, dataset, version)
    checked = damaged = 0
    for _, found in verified(opened, chosen):
        checked += 1
        damaged += bool(found)
        for line in found:
            errors.print(line, style="red", highlight=False, soft_wrap=True, markup=False)
    console.print(f"{chosen.name}: {checked} objects read, {damaged} damaged", highlight=False)
    if damaged:
        raise typer.Exit(1)


@app.command()
def audit(
    sql: Annotated[str | None, typer.Argument(help="A question; views are listed without one.")] = None,
    why: Annotated[str | None, typer.Option(help="Tell everything that was decided about this row.")] = None,
    store: StoreOption = "store",
    dataset: DatasetOption = None,
    version: VersionOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask a version in SQL, or why a row is in it or not."""
    opened = Store(store)
    connection = open_views(opened, _version(opened, dataset, version))
    if why is not None:
        rows = [{k: v for k, v in row.items() if k != "steps"} for row in reasons_of(connection, why)]
    else:
        question = sql or "select view_name as view, column_count as columns from duckdb_views() where not internal"
        rows = ask(connection, question).to_pylist()
    if as_json:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        return
    _show_rows(rows)


@app.command()
def prove(
    pipeline: Annotated[str, typer.Argument(help="Which pipeline: speech.")],
    store: StoreOption = "store",
    corpus: Annotated[Path | None, typer.Option(help="A corpus with its truth; made where it is not.")] = None,
    seed: Annotated[int, typer.Option(help="Of a corpus that is made.")] = 0,
    hours: Annotated[float, typer.Option(min=0.01, help="Of a corpus that is made.")] = 0.5,
    recipe: Annotated[str | None, typer.Option(help="Another recipe than the embedded engines'.")] = None,
    set_: SetOption = [],  # noqa: B006
    runner: Annotated[RunnerName, typer.Option(help="ray, or inline: in this process.")] = RunnerName.ray,
    workers: Annotated[int | None, typer.Option(min=1, help="Slots; one per CPU by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Run a pipeline on a corpus whose truth is known, and score what it kept and dropped."""
    proof = proof_of(pipeline)
    folder = corpus or Path(Store(store).local_path(f"corpora/{pipeline}-{seed}-{hours:g}h"))
    if not as_json and not proof.is_there(folder):
        console.print(f"making {hours:g} h of speech with planted faults in {folder}", highlight=False)
    proof.ensure(folder, seed, hours)
    job = read_job(recipe or proof.recipe, [*proof.settings(folder), *set_])
    chosen: Runner = RayRunner(workers=workers) if runner is RunnerName.ray else InlineRunner()
    with LiveProgress(errors if as_json else console) as progress:
        version, _ = run_job(job, Store(store), chosen, progress)
    result = proof.score(folder, open_views(Store(store), version))
    if as_json:
        sys.stdout.write(result.json() + "\n")
        return
    show_funnel(version)
    console.print(result.table())


def show_funnel(version: Version) -> None:
    """The funnel of a version: per node what came in, was made, and what became of it."""
    table = Table(title=version.name)
    for heading in ("node: rows", "in", "made", "kept", "rejected", "failed"):
        table.add_column(heading, no_wrap=True)
    table.add_column("reasons", overflow="fold")
    for row in (row for node in version.nodes for row in funnel_rows(node)):
        reasons = ", ".join(f"{reason} {count}" for reason, count in row.rejected.items())
        rejected = sum(row.rejected.values())
        numbers = (row.came_in, row.made, row.kept, rejected, row.failed)
        table.add_row(row.node, *(str(number or "") for number in numbers), reasons)
    for subset in sorted({shard.subset for shard in version.shards}):
        shards = [shard for shard in version.shards if shard.subset == subset]
        table.add_row(f"→ {subset}", "", "", str(sum(s.samples for s in shards)), "", "", f"{len(shards)} shards")
    console.print(table)


def _show_engines(job: Job) -> None:
    table = Table("engine", "code", "weights", "here", "limits")
    for engine in job.pipeline.engines():
        here = "no" if engine.missing() else "yes"
        table.add_row(engine.label, engine.code_licence, engine.weights_licence or "-", here, engine.limits)
    console.print(table)


def _show_rows(rows: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("no rows")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table, markup=False)


def _version(store: Store, dataset: str | None, number: int | None) -> Version:
    names = datasets(store)
    if dataset is None and len(names) != 1:
        raise CurateError(
            f"{store.root} has {len(names)} datasets ({', '.join(names) or 'none'}); choose with --dataset"
        )
    return read_version(store, dataset or names[0], number)


def main() -> None:
    """Run the command; an error that is ours to explain is one line and an exit code."""
    try:
        app()
    except CurateError as error:
        errors.print(f"curate: {error}", style="bold red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == 130:  # typer's word for Ctrl-C
            errors.print("curate: stopped; what is done is kept, run the same command to go on", soft_wrap=True)
        raise
    except BrokenPipeError:
        sys.exit(141)


if __name__ == "__main__":
    main()
