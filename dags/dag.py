"""Which pipelines there are, and the running of one from a recipe to a version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from curation.engines.engine import Engine
from curation.errors import CurateError, EngineMissing, LicenceRefused, RecipeError
from curation.recipe import Recipe, check_recipe, read_recipe
from curation.runtime.nodes import Pipeline
from curation.runtime.publishing import publish_run
from curation.runtime.run import Run, Runner, Watcher
from curation.store.objects import Store
from curation.store.runs import begin_run, end_run
from curation.store.versions import Version
from pipelines.speech import SpeechRecipe, speech


@dataclass(frozen=True)
class Kind:
    """A pipeline: the model of its recipe, and the function from a recipe to nodes."""

    recipe: type[Recipe]
    build: Callable[[Any, int | None], Pipeline]


PIPELINES = {"speech": Kind(SpeechRecipe, speech)}


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
        RecipeError, SourceError: what is wrong, by its key.
    """
    value = read_recipe(name, sets)
    kind = PIPELINES.get(str(value.get("pipeline")))
    if kind is None:
        raise RecipeError(f"recipe {name}: pipeline: {value.get('pipeline')!r} is none of {', '.join(PIPELINES)}")
    recipe = check_recipe(kind.recipe, value, name)
    return Job(name, recipe, kind.build(recipe, limit), limit)


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


def missing_engines(job: Job) -> list[tuple[Engine, str]]:
    """Engines that need something that is not here, and how to get it."""
    return [(engine, reason) for engine in job.pipeline.engines() if (reason := engine.missing())]


def run_job(job: Job, store: Store, runner: Runner, watcher: Watcher) -> tuple[Version, bool]:
    """Run a job to a version; whatever is done already is used. Returns the version and whether it is new.

    Raises:
        LicenceRefused, EngineMissing: before anything runs.
        RunFailed: when no result can be had; what is done stays done.
    """
    if refused := refused_licences(job):
        raise LicenceRefused("\n".join(refused))
    if missing := missing_engines(job):
        raise EngineMissing("\n".join(reason for _, reason in missing))
    store.sweep()
    run = Run(job.pipeline, store)
    run.check()
    dataset = job.pipeline.dataset
    record = begin_run(store, dataset, job.name)
    try:
        receipts = run.run(runner, watcher)
        version, is_new = publish_run(
            job.pipeline, job.resolved(), job.recipe.max_failed_share, receipts, store, limit=job.limit
        )
    except (CurateError, KeyboardInterrupt) as error:
        end_run(store, dataset, record, str(error).partition("\n")[0] or "stopped")
        raise
    finally:
        runner.close()
    end_run(store, dataset, record, f"version {version.number}" if version.accepted else version.verdict)
    return version, is_new
