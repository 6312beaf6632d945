"""Lexicons from packages: jieba's dictionary of Chinese, wordfreq's lists of more than 40 languages.

What goes into them:

- **Names** stay: people, places and works are concepts, as they are among the Wikipedia titles of MetaCLIP's metadata.
- **Function words** go: those of `function_words/`, and in jieba whatever its part of speech says (pronouns, numerals,
  measure words, particles, adverbs, conjunctions, prepositions). In a language without a list, the `RANKS_WITHOUT` most
  frequent words go instead.
- **Single characters** go, and so does whatever is no word of letters: numbers, signs, emoji, addresses.
- **Inflected forms** of wordfreq ("dogs") are forms of their base form ("dog") where simplemma's tables know it and the
  list has it.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import distribution, version
from pathlib import Path

import pyarrow as pa

from curation.diversity.inflection import base_forms, tables_version
from curation.diversity.lexicon import is_word, lexicon_of, normalise, with_forms
from curation.engines.engine import missing_package
from curation.errors import EngineMissing, RecipeError

RANKS_WITHOUT = 100
FUNCTION_WORDS = Path(__file__).parent / "function_words"
FUNCTION_TAGS = (
    *("c", "d", "df", "dg", "e", "f", "h", "k", "m", "mg", "mq", "o", "p", "q", "r", "rg", "rr", "rz"),
    *("u", "ud", "ug", "uj", "ul", "uv", "uz", "vd", "vq", "x", "y", "zg"),
)
"""jieba's parts of speech without content; its tags are those of ICTCLAS."""
WORDFREQ_LICENCE = "CC-BY-SA-4.0"
"""Of wordfreq's data, as its README says; its code is Apache-2.0."""


def jieba_dictionary(language: str = "zh") -> pa.Table:
    """A lexicon of jieba's dictionary (MIT).

    Raises:
        EngineMissing: with the command that installs jieba.
    """
    _require("jieba")
    if language != "zh":
        raise RecipeError(f"--package jieba={language}: jieba's dictionary is of Chinese, zh")
    path = Path(str(distribution("jieba").locate_file("jieba/dict.txt")))
    function = function_words("zh")
    words: dict[str, None] = {}
    for line in path.read_text("utf-8").splitlines():
        word, _, rest = line.partition(" ")
        word = normalise(word)
        if rest.rpartition(" ")[2] not in FUNCTION_TAGS and _is_entry(word) and word not in function:
            words[word] = None
    return lexicon_of(words, "zh", f"jieba {version('jieba')}", "MIT")


def wordfreq_words(language: str) -> pa.Table:
    """A lexicon of wordfreq's largest list of a language (CC-BY-SA-4.0).

    Raises:
        EngineMissing: with the command that installs wordfreq and simplemma.
        RecipeError: wordfreq has no list of that language.
    """
    _require("wordfreq", "simplemma")
    from wordfreq import available_languages, top_n_list

    known = available_languages("best")
    if language not in known:
        raise RecipeError(f"--package wordfreq={language}: wordfreq has lists of {', '.join(sorted(known))}")
    ranked = [normalise(word) for word in top_n_list(language, 10_000_000, wordlist="best")]
    function = function_words(language) or frozenset(ranked[:RANKS_WITHOUT])
    words = dict.fromkeys(word for word in ranked if _is_entry(word) and word not in function)
    bases = {word: base for word, base in base_forms(words, language).items() if base in words}
    forms: dict[str, list[str]] = {}
    for word, base in bases.items():
        # "does" is a form of "doe" for nobody: a base form that is a form itself is none.
        if base not in bases:
            forms.setdefault(base, []).append(word)
    folded = {word for several in forms.values() for word in several}
    source = f"wordfreq {version('wordfreq')}"
    lexicon = lexicon_of((word for word in words if word not in folded), language, source, WORDFREQ_LICENCE)
    return with_forms(lexicon, {language: forms}, tables_version())


PACKAGES: dict[str, Callable[[str], pa.Table]] = {"jieba": jieba_dictionary, "wordfreq": wordfreq_words}


def package_lexicons(request: str) -> list[pa.Table]:
    """The lexicons of a request as the command takes it: "jieba", "wordfreq=en,es,de".

    Raises:
        RecipeError: it is none.
        EngineMissing: the package is not installed.
    """
    name, equals, languages = request.partition("=")
    build = PACKAGES.get(name)
    codes = [code.strip() for code in languages.split(",") if code.strip()]
    if build is None or (equals and not codes) or (name == "wordfreq" and not codes):
        raise RecipeError(f"--package {request}: write jieba, or wordfreq=LANG,LANG such as wordfreq=en,es,de")
    return [build(code) for code in codes or ["zh"]]


@lru_cache(maxsize=16)
def function_words(language: str) -> frozenset[str]:
    """Articles, pronouns, prepositions and the like of a language, normalised; empty where there is no list."""
    path = FUNCTION_WORDS / f"{language}.txt"
    return frozenset(map(normalise, path.read_text("utf-8").split())) if path.is_file() else frozenset()


def _is_entry(word: str) -> bool:
    return 1 < len(word) <= 50 and is_word(word)


def _require(*packages: str) -> None:
    if reason := missing_package(packages, "lexicons"):
        raise EngineMissing(f"lexicon: {reason}")
