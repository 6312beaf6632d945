"""The few errors that a user meets. Each says what happened, where, and what to do."""


class CurateError(Exception):
    """An error that the command explains: it prints the message, without a traceback."""

    exit_code = 1


class RecipeError(CurateError):
    """A recipe, or a `--set`, is invalid. The message names the key."""

    exit_code = 2


class SourceError(CurateError):
    """The source of a run cannot be listed: it is missing, or holds nothing that can be read."""

    exit_code = 2


class EngineMissing(CurateError):
    """An engine requires a package or weights that are missing. The message says how to get them."""

    exit_code = 3


class ResourceMissing(EngineMissing):
    """A file that the recipe names, or a model, cannot be read where the work is done.

    No row can be decided without it, so it ends the run and is charged to none. The message names host and path.
    """


class LanguageUnsupported(CurateError):
    """A text's language requires a package that is missing. Only that row fails; the message says how to get it."""


class LicenceRefused(CurateError):
    """An engine's licence is not among the recipe's `allow_licences`."""

    exit_code = 3


class StoreError(CurateError):
    """The store cannot be read or written: no space, no permission, or a missing or damaged object."""

    exit_code = 4


class RunFailed(CurateError):
    """A run ended without a result that can be trusted."""

    exit_code = 5


class MediaError(CurateError):
    """A file, or a span of it, cannot be decoded. The message names the file; only that row fails.

    Attributes:
        samples: how many samples cannot be read for it, where that is known and not one.
    """

    def __init__(self, message: str = "", samples: int | None = None) -> None:
        super().__init__(message)
        self.samples = samples


class TooLarge(MediaError):
    """A file unfolds to more than the recipe allows. It fails as a whole; the message says what to raise or split."""


class StageError(CurateError):
    """A stage broke its contract (a row vanished, a column is missing): a defect of the code, not of the data."""

    exit_code = 5


BLAMES_NO_ROW = (RecipeError, SourceError, EngineMissing, LicenceRefused, StoreError, RunFailed, StageError)
"""Errors whose reason lies outside of the rows: they end the run, and are never charged to a row."""
