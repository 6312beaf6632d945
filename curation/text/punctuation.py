"""Where punctuation ends a fragment of text, and where the same signs do not: in numbers, abbreviations, addresses."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from curation.errors import EngineMissing
from curation.text.normalisation import UNSPACED, base_language

Level = Literal["sentence", "clause"]

SENTENCE_MARKS = ".!?…。！？｡．‼⁇⁈⁉؟۔।॥։።፧။៕༎"
CLAUSE_MARKS = ",;:，、；：､،؛፣፤፥၊៖།—―⸺"
ORDINAL_DOT = frozenset(
    {"bs", "cs", "da", "de", "et", "eu", "fi", "fo", "hr", "hu", "is", "lb", "lv", "nb", "nn", "no"}
    | {"pl", "sk", "sl", "sr", "sq", "tr", "dsb", "hsb"}
)
"""Languages that write 3rd as "3."."""
NUMBERED = frozenset({"no", "nos", "nr", "núm", "num", "fig", "p", "pp", "pag", "pág", "s", "vol", "ch", "art", "op"})
"""Abbreviations that are words of their own, or ends of sentences, unless a number follows."""
MORE_ABBREVIATIONS: dict[str, frozenset[str]] = {
    "en": frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "jr.", "sr.", "etc.", "approx.", "est.", "Jr."})
    | {"Sr.", "Capt.", "Col.", "Lt.", "Maj.", "Sgt.", "Cmdr.", "Hon.", "Fr.", "Mx.", "Mme.", "Ave.", "Rd.", "Dept."},
    "de": frozenset({"Dr.", "usw.", "etc.", "ca.", "vgl.", "St.", "Ing.", "Dipl."}),
    "fr": frozenset({"Mgr.", "env.", "p.", "ex."}),
    "it": frozenset({"dott.", "Dott.", "sig.", "Sig.", "dr.", "Dr."}),
    "pl": frozenset({"ul.", "al.", "pl.", "m.in.", "ok."}),
    "ru": frozenset({"г.", "гг.", "др.", "пр.", "им.", "ул.", "ок.", "руб.", "тыс.", "млн.", "млрд."}),
}
"""What spaCy's lists lack, above all in transcripts without capitals."""

LONGEST_UNLISTED = 5
"""Characters, period included, of a word that is taken for an abbreviation where a small letter follows."""

_STRICT_CLOSERS = ")]}）］｝〕」』】》〉〗”"
_CLOSING = frozenset(_STRICT_CLOSERS + SENTENCE_MARKS + CLAUSE_MARKS)
_SPACED_CLOSER = re.compile(r"[ \u00a0\u202f]?[»)](?=\s|$)")
_QUOTES = "\"'“‘’«»„"
_OPENERS = "([{（［｛〔「『【《〈〖“‘„«»\"'¿¡"
_RUN = re.compile(rf"[{re.escape(SENTENCE_MARKS + CLAUSE_MARKS)}]+|(?<=\s)[-–]+(?=\s)|--+")
_THAI_SPACE = re.compile(r"(?<=[\u0e01-\u0e45\u0e47-\u0e4e\u0e81-\u0edf])\s+(?=[\u0e01-\u0e45\u0e81-\u0edf])")
_CONTENT = re.compile(r"[^\W_]")
_TOKEN_BEFORE = re.compile(rf"[^\s{re.escape(_OPENERS)}]*\Z")
_WORD_AFTER = re.compile(rf"[\s{re.escape(_OPENERS + _STRICT_CLOSERS)}]*([^\W_]*)")
_DOTTED = re.compile(r"(?:-?[^\W\d_]{1,3}\.){2,}")
_INITIAL = re.compile(r"(?:[^\W\d_]+[-'’])?[^\W\d_]\.")
_DASHES = frozenset("—―⸺–-")


@dataclass(frozen=True)
class Orthography:
    """What a language's list of exceptions says."""

    abbreviations: frozenset[str]
    """With their period, in the case in which they are written."""
    stop_words: frozenset[str]
    """Frequent words, in lower case: capitalised, they begin a sentence."""


def fragment_ends(text: str, language: str | None, level: Level = "clause") -> list[int]:
    """Offsets of characters before which a fragment ends, ascending: after the mark and the quotes closed with it.

    Every fragment has a letter or digit. Marks count at `level`: those of sentences, or (as the paper's "punctuation
    marks as delimiters") of clauses as well, dashes among them. Of signs that may mean either:

    - A run ("?!", "...") is one mark. An ellipsis ends a clause; a sentence only if no lower-case letter follows.
    - A sign between digits, and an ASCII mark with a letter right after it (3.5, 10:30, URLs) ends nothing.
    - An abbreviation with capital and small letters ("Mr.", "Nov.") ends nothing. Any other, and a single letter, does
      where a capitalised frequent word follows: "in the U.S. He likes it" ends, "the U.S. Army", "J. K. Jones" do not.
      What is left together by mistake costs a longer fragment; what is cut by mistake costs its sense.
    - A short word before a small letter is taken for an abbreviation, where capitals are in use ("Ок. пяти").
    - "3." is an ordinal in the languages that write it so, by the same rule.
    - Thai and Lao have no marks: a space between two of their letters ends a clause, and no sentence.

    Raises:
        EngineMissing: spaCy, which has the lists of abbreviations, is not installed.
    """
    ends: list[int] = []
    searched = 0
    for start, end in _candidates(text, base_language(language), level):
        if _CONTENT.search(text, searched, start):
            ends.append(end)
        searched = max(searched, end)
    return ends


def _candidates(text: str, language: str, level: Level) -> Iterator[tuple[int, int]]:
    """Where a mark that ends something starts, and where what belongs to it is over; ascending."""
    found = [(run.start(), _closed(text, run.end())) for run in _RUN.finditer(text)]
    found = [(start, end) for start, end in found if _is_end(text, start, end, language, level)]
    if level == "clause":
        found += [(space.start(), space.start()) for space in _THAI_SPACE.finditer(text)]
    yield from sorted(found)


def _closed(text: str, end: int) -> int:
    """The offset after the brackets and quotes that close behind a mark, and after any mark right behind those.

    The quotes that open in one language close in another: right behind a mark they close unless a letter follows.
    """
    while end < len(text):
        spaced = _SPACED_CLOSER.match(text, end)  # French has a space before »
        if spaced:
            end = spaced.end()
        elif text[end] in _CLOSING or (text[end] in _QUOTES and not text[end + 1 : end + 2].isalnum()):
            end += 1
        else:
            break
    return end


def _is_end(text: str, start: int, end: int, language: str, level: Level) -> bool:
    marks = text[start:end]
    before, after = text[max(0, start - 4) : start].rstrip()[-1:], text[end : end + 4].lstrip()[:1]
    following = text[end : end + 1]
    if before.isdigit() and after.isdigit() and (following == after or marks[0] in _DASHES):
        return False
    if marks[0] in _DASHES:
        return level == "clause"
    if level == "sentence" and not any(mark in SENTENCE_MARKS for mark in marks):
        return False
    if marks[0].isascii() and not (following in ("", *_OPENERS, *_DASHES - {"-"}) or following.isspace()):
        return bool(UNSPACED.match(following)) and not "\u0e00" <= following <= "\u0eff"  # Thai: an abbreviation
    if marks.startswith(("...", "…")):
        return level == "clause" or not after.islower()
    return marks[0] != "." or not after or not _is_inner_period(text, start, language)


def _is_inner_period(text: str, period: int, language: str) -> bool:
    """Whether a period before a space belongs to the word before it, and the fragment goes on."""
    found = _TOKEN_BEFORE.search(text, max(0, period - 40), period)
    token = (found[0] if found else "") + "."
    following = _WORD_AFTER.match(text, period + 1)
    word = following[1] if following else ""
    if token[:-1].isdigit():
        if language not in ORDINAL_DOT or len(token) > 3:
            return False
    elif token[:-1].lower() in NUMBERED and word[:1].isdigit():
        return True
    else:
        orthography = language_data(language)
        if not (token in orthography.abbreviations or _DOTTED.fullmatch(token) or _INITIAL.fullmatch(token)):
            nearby = text[max(0, period - 200) : period + 200]
            return len(token) <= LONGEST_UNLISTED and word[:1].islower() and any(map(str.isupper, nearby))
        if token[0].isupper() and any(map(str.islower, token)) and token.count(".") == 1:
            return True
    return not (word[:1].isupper() and word.lower() in language_data(language).stop_words)


@lru_cache(maxsize=128)
def language_data(language: str) -> Orthography:
    """Abbreviations and stop words of a language, from spaCy's data files.

    An unknown language is read as English; one that spaCy lacks has no data, and dotted words and initials alone count.

    The files are read as text and never run: importing any of spaCy imports thinc and with it torch, which costs each
    worker two seconds and 280 MB for a few lists of words.
    """
    package = find_spec("spacy")
    if package is None or package.origin is None:
        raise EngineMissing("spaCy's lists of abbreviations are not installed; pip install 'omni-curation[speech]'")
    code = {"no": "nb", "": "en"}.get(language, language)
    folder = Path(package.origin).parent / "lang"
    names = {path.name for path in folder.iterdir()}
    more = MORE_ABBREVIATIONS.get(code, frozenset())
    if code not in names:  # a language comes from strangers' files: it is looked up, never joined to a path
        return Orthography(more, frozenset())
    exceptions = _strings(folder / code / "tokenizer_exceptions.py")
    listed = frozenset(s for s in exceptions if s.endswith(".") and not s.endswith("..") and _CONTENT.search(s))
    stop_words = frozenset(word for s in _strings(folder / code / "stop_words.py") for word in s.split())
    return Orthography(listed | more, stop_words)


def _strings(path: Path) -> list[str]:
    """The string literals of a Python file; none where the file is absent."""
    if not path.exists():
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
