"""Lexicons from files: word lists, dumps of Wikipedia's titles, spaCy vocabularies, other lexicons."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from curation.diversity.lexicon import from_titles, from_vocabulary, from_words
from curation.errors import SourceError
from curation.hashing import file_digest


class Builder(Protocol):
    """Makes a lexicon of the lines of a list."""

    def __call__(self, lines: Iterable[str], language: str, source: str, /, *, licence: str) -> pa.Table: ...


def words_file(path: Path, language: str, licence: str = "") -> pa.Table:
    """A lexicon of a text file, one word or phrase a line; `.gz` is unpacked."""
    return _from_lines(from_words, path, language, licence)


def titles_file(path: Path, language: str, licence: str = "") -> pa.Table:
    """A lexicon of a dump of Wikipedia's titles (`enwiki-latest-all-titles-in-ns0.gz`), packed or not."""
    return _from_lines(from_titles, path, language, licence)


def vocabulary_file(path: Path, language: str, licence: str = "") -> pa.Table:
    """A lexicon of a spaCy vocabulary: `vocab/strings.json` in the folder of a pipeline, or that folder.

    Raises:
        SourceError: not there, or not a JSON list of texts.
    """
    file = path / "vocab" / "strings.json" if path.is_dir() else path
    with _explained(file):
        strings: Any = json.loads(file.read_text("utf-8"))
        if not isinstance(strings, list) or not all(isinstance(text, str) for text in strings):
            raise ValueError("not a JSON list of texts")
        return from_vocabulary(strings, language, _source(file), licence=licence)


def _from_lines(build: Builder, path: Path, language: str, licence: str) -> pa.Table:
    with _explained(path):
        unpack: Any = gzip.open if path.suffix == ".gz" else open
        with unpack(path, "rt", encoding="utf-8") as lines:
            return build((line.rstrip("\r\n") for line in lines), language, _source(path), licence=licence)


def _source(path: Path) -> str:
    """Names the list in the lexicon: by its file and its content, since lists of one name differ."""
    return f"{path.name} {file_digest(path)[:12]}"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read as a list of UTF-8 texts: {error}") from error
