"""Which pipelines there are, and the running of one from a recipe to a version."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from curation.engines.engine import Engine
from curation.errors import CurateError, EngineMissing, LicenceRefused, RecipeError, StageError, StoreError
from curation.paths import resources_of
from curation.recipe import Recipe, check_recipe, read_recipe
from curation.runtime import stopping
from curation.runtime.nodes import Listing, Pipeline
from curation.runtime.publishing import run_and_publish
from curation.runtime.run import Run, Runner, Watcher
from curation.stage import Stage
from curation.store.leases import run_lease
from curation.store.objects import Store
from curation.store.runs import begin_run, end_run
from curation.store.versions import Version
from curation.store.withdrawals import withdrawn_from
from curation.text.normalisation import base_language
from pipelines.captions import CaptionsRecipe, captions
from pipelines.documents import DocumentsRecipe, documents
from pipelines.speech import SpeechRecipe, speech


@dataclass(frozen=True)
class Kind:
    """A pipeline: the model of its recipe, and the function from a recipe to nodes."""

    recipe: type[Recipe]
    build: Callable[[Any, int | None], Pipeline]


PIPELINES = {
    "speech": Kind(SpeechRecipe, speech),
    "captions": Kind(CaptionsRecipe, captions),
    "documents": Kind(DocumentsRecipe, documents),
}


@dataclass(frozen=True)
class Job:
    """A recipe that was read and checked, and the pipeline that it makes."""

    name: str
    recipe: Recipe
    pipeline: Pipeline
    limit: int | None = None

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default written out, as a version keeps it."""
        return self.recipe.model_dump(mode="json")


def read_job(name: str, sets: Sequence[str] = (), limit: int | None = None) -> Job:
    """Read a recipe and build its pipeline. Opens no media.

    Raises:
        RecipeError, SourceError: what is wrong, by its key; or an engine that knows the language of no file.
    """
    value = read_recipe(name, sets)
    kind = PIPELINES.get(str(value.get("pipeline")))
    if kind is None:
        raise RecipeError(f"recipe {name}: pipeline: {value.get('pipeline')!r} is not one of {', '.join(PIPELINES)}")
    recipe = check_recipe(kind.recipe, value, name)
    pipeline = replace(kind.build(recipe, limit), resources=tuple(resources_of(recipe)))
    job = Job(name, recipe, pipeline, limit)
    if strangers := strange_languages(job):
        raise RecipeError("\n".join(f"recipe {name}: {sentence}" for sentence in strangers))
    return job


def strange_languages(job: Job) -> list[str]:
    """Engines that know the language of none of the listed files. Where they know some, rows in others are rejected."""
    tables = [node.rows for node in job.pipeline.nodes if isinstance(node, Listing)]
    codes = [rows["language"].unique().to_pylist() for rows in tables if "language" in rows.column_names]
    listed = sorted({base_language(code) for known in codes for code in known if code})
    return [
        f"{stage.name} knows {', '.join(engine.languages)}, and the files are in {', '.join(listed)}: "
        "choose another engine, or say with source.language what they are in"
        for stage in job.pipeline.stages()
        for engine in stage.engines()
        if engine.languages is not None and listed and not set(engine.languages) & set(listed)
    ]


def refused_licences(job: Job) -> list[str]:
    """Engines whose licences `allow_licences` does not name, with those licences."""
    allowed = job.recipe.allow_licences
    if allowed is None:
        return []
    return [
        f"engine {engine.label}: {what} is under {licence}, which allow_licences does not name"
        for engine in job.pipeline.engines()
        for what, licence in (("its code", engine.code_licence), ("its weights", engine.weights_licence))
        if licence and licence not in allowed
    ]


def missing_engines(job: Job) -> list[tuple[Engine | Stage, str]]:
    """Engines that need something that is not here, then stages, each with how to get it."""
    needing: list[Engine | Stage] = [*job.pipeline.engines(), *job.pipeline.stages()]
    return [(needs, reason) for needs in needing if (reason := needs.missing())]


def check_columns(run: Run, name: str) -> None:
    """Make sure that every stage finds the columns that it reads, before anything runs.

    Raises:
        RecipeError: a key of the recipe names a column that nothing before it writes.
    """
    try:
        run.check()
    except StageError as error:
        raise RecipeError(f"recipe {name}: {error}") from error


def run_job(
    job: Job,
    store: Store,
    runner: Runner,
    watcher: Watcher,
    *,
    retry_failed: bool = False,
    waits: Callable[[str], None] | None = None,
) -> tuple[Version, bool]:
    """Run a job to a version; whatever is done already is used. Returns the version and whether it is new.

    Args:
        waits: is told, in a sentence, what the run waits for before it begins.

    Raises:
        LicenceRefused, EngineMissing: before anything runs.
        RunFailed: when no result can be had; what is done stays done.
    """
    if refused := refused_licences(job):
        raise LicenceRefused("\n".join(refused))
    if missing := missing_engines(job):
        raise EngineMissing("\n".join(reason for _, reason in missing))
    store.sweep()
    dataset = job.pipeline.dataset
    run = Run(job.pipeline, store, retry_failed, withdrawn_from(store, dataset))
    check_columns(run, job.name)
    record = begin_run(store, dataset, job.name)
    folders = [f"parts/{node.fingerprint()}" for node in job.pipeline.nodes]
    try:
        with run_lease(store, folders, waits or (lambda sentence: None)) as lease:
            version, is_new = run_and_publish(
                run,
                runner,
                watcher,
                job.resolved(),
                job.recipe.max_failed_share,
                job.recipe.max_defect_share,
                limit=job.limit,
                before=lease.check,
            )
    except BaseException as error:
        outcome = str(error).partition("\n")[0]
        if number := stopping.asked():
            outcome = stopping.reason(number)
        elif not isinstance(error, (CurateError, KeyboardInterrupt)):
            outcome = f"{type(error).__name__}: {outcome}"
        with suppress(StoreError):  # a full disk, say: the error that ended the run is the one to tell
            end_run(store, dataset, record, outcome or "stopped")
        raise
    finally:
        runner.close()
    end_run(store, dataset, record, f"version {version.number}" if version.accepted else version.verdict)
    return version, is_new
