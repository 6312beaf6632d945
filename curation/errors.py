"""The few errors that a user meets. Each says what, where, and what to do about it."""


class CurateError(Exception):
    """Any error that is ours to explain. The command prints its message alone, without a traceback."""

    exit_code = 1


class RecipeError(CurateError):
    """A recipe, or a `--set`, that cannot be meant. The message names the key."""

    exit_code = 2


class SourceError(CurateError):
    """The source of a run cannot be listed: nothing there, or nothing that can be read."""

    exit_code = 2


class EngineMissing(CurateError):
    """An engine needs a package or weights that are not here. The message is the way to get them."""

    exit_code = 3


class ResourceMissing(EngineMissing):
    """A file that the recipe names, or a model, cannot be read where the work is done.

    No row can be decided without it, so it ends the run and is charged to none. The message names host and path.
    """


class LanguageUnsupported(CurateError):
    """A text's language needs a package that is not here. It fails that row alone; the message is the way to get it."""


class LicenceRefused(CurateError):
    """An engine's licence is not among the recipe's `allow_licences`."""

    exit_code = 3


class StoreError(CurateError):
    """The store cannot be read or written: no space, no permission, a missing or damaged object."""

    exit_code = 4


class RunFailed(CurateError):
    """A run that ended, or was ended, without a result that can be trusted."""

    exit_code = 5


class MediaError(CurateError):
    """A file, or a span of it, cannot be decoded. The message names the file; it fails that row alone.

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
