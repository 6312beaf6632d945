"""Lexicons: which words and phrases count as concepts; how they are written, spaced, made of lists, and stored.

MetaCLIP (Xu et al. 2023, section 3.1) finds a concept in a text as a substring with spaces around it; MetaCLIP 2
(Chuang et al. 2025) does so for all languages, without spaces where a script has none.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.diversity.inflection import forms_by_rule
from curation.errors import SourceError
from curation.hashing import bytes_digest, digest
from curation.text.normalisation import UNSPACED
from schemas.concepts import LEXICON

NORMALISATION = 1
"""Raised by hand when `normalise` or `spaced` would write the same text otherwise."""

Row = tuple[str, str, str, str, tuple[str, ...]]
"""Of a lexicon: entry, language, source, licence, forms."""

_NORMALISATION_KEY = b"normalisation"
_UNSPACED = UNSPACED.pattern[1:-1]
_IGNORED = re.compile("[\u00ad\u180e\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]")
"""Characters that are not seen: soft hyphens, zero-width spaces and joiners, selectors of variants."""
_ASCII_TOKENS = re.compile(r"[a-z0-9]+|[^\w\s]")
"""What `_tokens` finds in ASCII text that is folded, only faster."""
_DISAMBIGUATION = re.compile(r"\s*\([^()]*\)\s*$")
_SHAPE = re.compile(r"(?:[xXd]|[^\w\s])+")
"""How spaCy writes a word's shape ("Xxxxx", "dd.d"); shapes are among a vocabulary's strings."""


def normalise(text: str) -> str:
    """The text as it is compared: NFKC, case folded, without invisible characters, spaces collapsed.

    An underscore is a space, as in names of files and Wikipedia's titles.
    """
    return " ".join(_folded(text).replace("_", " ").split())


def spaced(text: str) -> str:
    """A text, normalised, with spaces at every place where an entry may begin or end in a spaced script.

    They stand at both ends, around each character that is no letter, mark or digit, and between a script that is
    written with spaces and one that is not (Han, kana, Thai, Lao, Burmese, Khmer). So an entry is found by its
    `pattern` as a plain substring.
    """
    return f" {' '.join(_tokens_of(_folded(text)))} "


def pattern(entry: str) -> str:
    """What stands for a normalised entry in a `spaced` text: padded with spaces, but not beside an unspaced script.

    Empty for an entry without a letter, mark or digit.
    """
    tokens = _tokens_of(entry)
    if not any(token[0].isalnum() or UNSPACED.match(token) for token in tokens):
        return ""
    before = "" if UNSPACED.match(tokens[0]) else " "
    after = "" if UNSPACED.match(tokens[-1]) else " "
    return f"{before}{' '.join(tokens)}{after}"


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", text)
    if _IGNORED.search(text):
        text = _IGNORED.sub("", text)
    return unicodedata.normalize("NFKC", text.casefold())


def _tokens_of(text: str) -> list[str]:
    return (_ASCII_TOKENS if text.isascii() else _tokens()).findall(text)


@lru_cache(maxsize=1)
def _tokens() -> re.Pattern[str]:
    """Runs of an unspaced script; words of any other, with their marks, which `\\w` leaves out; each sign.

    Rare marks, beyond the first 2^16 code points, are looked at only where such a character stands: a set of them is
    searched one by one, which would cost more than all the rest.
    """
    marks = UNSPACED.sub("", "".join(c for c in map(chr, range(sys.maxunicode)) if unicodedata.category(c)[0] == "M"))
    common = "".join(c for c in marks if c <= "\uffff")
    rare = "".join(c for c in marks if c > "\uffff")
    mark = rf"(?:[{common}]|[\U00010000-\U000effff](?<=[{rare}]))"
    letter = rf"[^\W_{_UNSPACED}]"
    return re.compile(rf"[{_UNSPACED}]+|{letter}+(?:{mark}+{letter}*)*|[^\w\s]")


def from_words(
    lines: Iterable[str], language: str, source: str, max_characters: int = 50, licence: str = ""
) -> pa.Table:
    """A lexicon of a list, one word or phrase a line; empty lines and lines that begin with "# " are left out.

    Entries get the forms that the rules of their language give (`inflection`).
    """
    words = (normalise(line) for line in lines if not line.lstrip().startswith("# "))
    return lexicon_of(
        (word for word in words if len(word) <= max_characters), language, source, licence, inflected=True
    )


def from_titles(
    lines: Iterable[str],
    language: str,
    source: str,
    min_characters: int = 2,
    max_characters: int = 50,
    max_words: int = 6,
    dropped_prefixes: Sequence[str] = ("list of ", "lists of ", "index of ", "outline of ", "timeline of "),
    dropped_suffixes: Sequence[str] = ("列表", "一覧"),
    licence: str = "",
) -> pa.Table:
    """A lexicon of a dump of Wikipedia's titles, one a line, with underscores.

    Words in brackets at the end, which tell namesakes apart, are dropped. Lists, titles without a letter ("1984") and
    those that are too short or too long are left out. Titles get no inflected forms: most are names.
    """

    def titles() -> Iterator[str]:
        for line in lines:
            if line.strip() == "page_title":
                continue  # the dump's header
            title = normalise(line)
            title = _DISAMBIGUATION.sub("", title) or title
            if not min_characters <= len(title) <= max_characters or title.count(" ") >= max_words:
                continue
            if title.startswith(tuple(dropped_prefixes)) or title.endswith(tuple(dropped_suffixes)):
                continue
            if any(map(str.isalpha, title)):
                yield title

    return lexicon_of(titles(), language, source, licence)


def from_vocabulary(
    strings: Iterable[str],
    language: str,
    source: str,
    min_characters: int = 2,
    max_characters: int = 50,
    licence: str = "",
) -> pa.Table:
    """A lexicon of a spaCy vocabulary (`nlp.vocab.strings`): words of letters, with inner hyphens and apostrophes.

    A vocabulary's strings also hold shapes, prefixes, labels, signs and addresses. Shapes are left out, and so is
    whatever holds an underscore, a digit or another sign; a label in plain letters ("NOUN") stays.
    """
    words = (normalise(text) for text in strings if "_" not in text and not _SHAPE.fullmatch(text))
    wanted = (word for word in words if min_characters <= len(word) <= max_characters and is_word(word))
    return lexicon_of(wanted, language, source, licence, inflected=True)


def is_word(text: str) -> bool:
    """Whether a normalised text is a word of letters, or several, with no more than inner hyphens and apostrophes."""
    if not text or text[0] in "-'" or text[-1] in "-'" or any(map(str.isdigit, text)):
        return False
    return _tokens().fullmatch(text.replace("-", "").replace("'", "").replace(" ", "")) is not None


def lexicon_of(
    entries: Iterable[str], language: str, source: str, licence: str = "", *, inflected: bool = False
) -> pa.Table:
    """A lexicon of normalised entries.

    Args:
        inflected: with the forms that the rules of the language give.
    """
    rows: list[Row] = []
    for entry in entries:
        if _is_text(entry):
            rows.append((entry, language, source, licence, forms_by_rule(entry, language) if inflected else ()))
    return merge([_table(rows)])


def merge(lexicons: Iterable[pa.Table]) -> pa.Table:
    """One lexicon of several. Entries that are found alike are one; the first lexicon that has it names its language.

    Rows are in order of their entries, so the order within the lists does not matter. An entry has the forms that any
    list of its language has for it.
    """
    found: dict[str, Row] = {}
    for lexicon in lexicons:
        for row in sorted(_rows(lexicon)):
            if not (key := pattern(row[0])):
                continue
            first = found.setdefault(key, row)
            if first is not row and first[1] == row[1] and (more := set(row[4]) - set(first[4])):
                found[key] = (*first[:4], tuple(sorted({*first[4], *more})))
    return _table(sorted(found.values()))


def with_forms(lexicon: pa.Table, forms: Mapping[str, Mapping[str, Sequence[str]]], source: str) -> pa.Table:
    """A lexicon whose entries have more forms: by language, by entry.

    Args:
        source: what is added to the source of entries in those languages.
    """
    rows: list[Row] = []
    for entry, language, origin, licence, known in _rows(lexicon):
        more = {normalise(form) for form in forms.get(language, {}).get(entry, ())} - {*known, entry, ""}
        origin = f"{origin}, {source}" if forms.get(language) else origin
        rows.append((entry, language, origin, licence, tuple(sorted({*known, *more}))))
    return _table(rows)


def write_lexicon(lexicon: pa.Table, path: Path) -> None:
    """Store a lexicon as Parquet, with the version of the normalisation that its entries went through.

    Raises:
        SourceError: it cannot be written there.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(lexicon.cast(LEXICON.with_metadata(_metadata())), sink)
    try:
        path.write_bytes(sink.getvalue())  # Arrow itself does not say that a disk is full
    except OSError as error:
        raise SourceError(f"lexicon {path} cannot be written: {error}") from error


def read_lexicon(path: Path) -> pa.Table:
    """Load a lexicon: one that `write_lexicon` stored, or any Parquet table with text columns entry and language.

    Entries of a table that has no `forms` get those of the rules.

    Raises:
        SourceError: it is not there, or has no such columns.
    """
    try:
        table = pq.read_table(path)
        missing = [name for name in ("entry", "language") if name not in table.column_names]
        if missing:
            raise SourceError(f"lexicon {path}: no column {' and '.join(missing)}; a lexicon has entry and language")
        current = (table.schema.metadata or {}).get(_NORMALISATION_KEY) == _metadata()[_NORMALISATION_KEY]
        if current and set(LEXICON.names) <= set(table.column_names):
            return table.select(LEXICON.names).cast(LEXICON.with_metadata(_metadata())).combine_chunks()
        texts = [name for name in LEXICON.names if name != "forms"]
        for name in set(texts) - set(table.column_names):
            table = table.append_column(name, pa.repeat(path.name if name == "source" else "", table.num_rows))
        rows = table.select(texts).cast(pa.schema([(name, pa.string()) for name in texts])).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"lexicon {path} cannot be read: {error}") from error
    parts: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row["entry"]:
            of = (row["language"] or "", row["source"] or "", row["licence"] or "")
            parts.setdefault(of, []).append(normalise(row["entry"]))
    return merge(lexicon_of(entries, *of, inflected=True) for of, entries in parts.items())


def lexicon_languages(lexicon: pa.Table) -> dict[str, int]:
    """How many entries a lexicon has of each language, by its code."""
    counted = lexicon.group_by("language").aggregate([([], "count_all")]).sort_by("language").to_pylist()
    return {row["language"]: row["count_all"] for row in counted}


def lexicon_sources(lexicon: pa.Table) -> list[tuple[str, str, int]]:
    """The lists that a lexicon was made of: name, licence ("" where nobody said one), entries."""
    counted = lexicon.group_by(["source", "licence"]).aggregate([([], "count_all")])
    rows = counted.sort_by([("source", "ascending"), ("licence", "ascending")]).to_pylist()
    return [(row["source"], row["licence"], row["count_all"]) for row in rows]


def lexicon_version(lexicon: pa.Table) -> str:
    """The name of what a lexicon finds: a hash of its entries, languages, forms, and how texts are normalised."""
    columns = ("\n".join(lexicon[name].to_pylist()).encode() for name in ("entry", "language"))
    forms = "\n".join("\t".join(forms) for forms in lexicon["forms"].to_pylist()).encode()
    return digest([NORMALISATION, unicodedata.unidata_version, *map(bytes_digest, (*columns, forms))])


def _rows(lexicon: pa.Table) -> Iterator[Row]:
    columns = [lexicon[name].to_pylist() for name in LEXICON.names]
    columns[-1] = list(map(tuple, columns[-1]))
    return zip(*columns, strict=True)


def _table(rows: Sequence[Row]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(LEXICON)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, LEXICON, strict=True)]
    return pa.Table.from_arrays(arrays, schema=LEXICON.with_metadata(_metadata()))


def _metadata() -> dict[bytes, bytes]:
    return {_NORMALISATION_KEY: f"{NORMALISATION}/{unicodedata.unidata_version}".encode()}


def _is_text(entry: str) -> bool:
    """Whether it can be stored: what was read from a damaged list may hold halves of characters."""
    return not any("\ud800" <= c <= "\udfff" for c in entry) if not entry.isascii() else True
