"""What the command prints. Names and texts come from strangers: they are shown as text, never obeyed as markup."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from curation.runtime.publishing import funnel_rows
from curation.store.runs import RunRecord
from curation.store.versions import Version
from dags.dag import Job

WIDE = 10_000
"""Columns where nobody looks through a window: what is piped or logged must not be cut."""
MOST_LINES = 20

console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)


def shown(value: Any) -> Text:
    """A value as text, its control characters written out: a file name may hold some that a terminal obeys."""
    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def say(*words: Any) -> None:
    """A line of plain words."""
    console.print(*(shown(word) for word in words), soft_wrap=True)


def complain(message: str) -> None:
    """A line on standard error."""
    errors.print(shown(message), style="bold red", soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table whose cells are folded on a terminal, and never cut elsewhere."""
    table = Table(title=None if title is None else shown(title), title_justify="left")
    for heading in headings:
        table.add_column(shown(heading), overflow="fold")
    for row in rows:
        table.add_row(*(shown(value) for value in row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Rows as a table, without the columns that are empty in all of them."""
    filled = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    if not filled:
        say("no rows")
        return
    print_table(filled, ([row[name] for name in filled] for row in rows))


def print_funnel(version: Version) -> None:
    """The funnel of a version: per node what came in, was made, and what became of it."""
    lines: list[Sequence[Any]] = []
    for row in (row for node in version.nodes for row in funnel_rows(node)):
        reasons = ", ".join(f"{reason} {count}" for reason, count in row.rejected.items())
        numbers = (row.came_in, row.made, row.kept, sum(row.rejected.values()), row.sampled_out, row.failed)
        lines.append([row.node, *(number or "" for number in numbers), reasons])
    for subset in sorted({shard.subset for shard in version.shards}):
        shards = [shard for shard in version.shards if shard.subset == subset]
        samples = sum(shard.samples for shard in shards)
        lines.append([f"→ {subset}", "", "", samples, "", "", "", f"{len(shards)} shards"])
    headings = ("node: rows", "in", "made", "kept", "rejected", "sampled out", "failed", "reasons")
    print_table(headings, lines, title=version.name)


def print_engines(job: Job) -> None:
    """The engines of a job with their licences and limits."""
    rows = []
    for engine in job.pipeline.engines():
        role = next(stage.name for stage in job.pipeline.stages() if engine in stage.engines())
        licences = (engine.code_licence or "-", engine.weights_licence or "-")
        rows.append((role, engine.label, *licences, "no" if engine.missing() else "yes", engine.limits))
    print_table(("for", "engine", "code", "weights", "here", "limits"), rows)


def print_resources(job: Job) -> None:
    """What the recipe names by its path, as it was resolved."""
    rows = [(resource.key, resource.path) for resource in job.pipeline.resources]
    print_table(("key", "path"), rows)


def print_references(job: Job) -> None:
    """The lists that rows are judged by, with their licences and what they cover."""
    stages = job.pipeline.stages()
    rows = [(stage.name, ref.name, ref.licence, ref.covers) for stage in stages for ref in stage.references()]
    if rows:
        print_table(("for", "list", "licence", "covers"), rows)


def print_versions(versions: Sequence[Version]) -> None:
    """Versions with what is in them."""
    rows = []
    for version in versions:
        samples = sum(shard.samples for shard in version.shards)
        sources = next((node.rows_in for node in version.nodes if node.rows_in), 0)
        megabytes = sum(shard.size for shard in version.shards) / 1e6
        note = "yes" if version.accepted else version.verdict
        note += f" (limit {version.limit})" if version.limit else ""
        rows.append((version.name, version.parent, sources, samples, len(version.shards), f"{megabytes:.1f}", note))
    print_table(("version", "after", "files", "samples", "shards", "MB", "accepted"), rows)


def print_runs(dataset: str, records: Sequence[RunRecord]) -> None:
    """Runs with how they ended."""
    going = "running or killed; run it again to continue"
    rows = [(f"{dataset} {r.number}", r.recipe, r.began, r.ended, r.outcome or going) for r in records]
    print_table(("run", "recipe", "began", "ended", "outcome"), rows)


def complain_of_some(lines: Sequence[str], all_of_them: str, most: int | None = MOST_LINES) -> None:
    """The first of many lines; then how many more there are, and the command that shows them."""
    for line in lines[:most]:
        complain(line)
    if most is not None and len(lines) > most:
        complain(f"… and {len(lines) - most} more: {all_of_them}")
