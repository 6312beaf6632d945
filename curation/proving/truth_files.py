"""Files of planted truth: `corpus.json` for people, and `truth.jsonl`, written last, with one record a line."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

from curation.errors import SourceError
from curation.proving.truth import CORPUS_FILE, FORMAT, TRUTH_FILE

Line = TypeVar("Line", bound=BaseModel)


class Record(BaseModel):
    """One thing that is true; unknown keys are refused. `type` says what it is, and is written always."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError(f"{path!r} is no path inside the corpus")
    return path


InsidePath = Annotated[str, AfterValidator(_inside)]
"""A path in the corpus, with slashes."""


def write_records(records: Iterable[Any], about: dict[str, Any], folder: Path) -> None:
    """Write `corpus.json` and, last and at once, `truth.jsonl`: a folder that has it is whole."""
    text = json.dumps({"format": FORMAT, **about}, indent=2, sort_keys=True) + "\n"
    (folder / CORPUS_FILE).write_text(text, encoding="utf-8")
    unfinished = folder / f"{TRUTH_FILE}.part"
    with unfinished.open("w", encoding="utf-8") as file:
        for record in records:
            said = record.model_dump(exclude_defaults=True) | {"type": record.type}
            file.write(json.dumps(said, ensure_ascii=False) + "\n")
    unfinished.replace(folder / TRUTH_FILE)


def read_records(folder: Path, line: TypeAdapter[Line], pipeline: str) -> tuple[list[Line], dict[str, Any]]:
    """The records of a corpus, made here or elsewhere, and what `corpus.json` says of it.

    Args:
        pipeline: whose corpus it must be; `corpus.json` names one.

    Raises:
        SourceError: a file is missing, or of another format or pipeline, or a line is invalid; it names the line.
    """
    try:
        about = json.loads((folder / CORPUS_FILE).read_text("utf-8"))
        lines = (folder / TRUTH_FILE).read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder} has no truth that can be read: {error}") from error
    if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
        raise SourceError(f"{folder / CORPUS_FILE} is not of format {FORMAT}")
    if about.get("pipeline") != pipeline:
        raise SourceError(f"{folder / CORPUS_FILE}: its pipeline is {about.get('pipeline')!r}, not {pipeline!r}")
    records = []
    for number, text in enumerate(lines, 1):
        if text.strip():
            try:
                records.append(line.validate_json(text))
            except ValidationError as error:
                raise SourceError(f"{folder / TRUTH_FILE}, line {number}: {_reasons(error)}") from None
    return records, about


def _reasons(error: ValidationError) -> str:
    parts = [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in error.errors()]
    return "; ".join(f"{where}: {what}" if where else what for where, what in parts)
