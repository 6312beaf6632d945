"""Inflected forms: in which other ways the words of a lexicon are written, so that "dogs" names "dog".

Forms are found when a lexicon is built, and stored with it. Matching stays one scan of an automaton, in which a form is
one more way to write its entry. Whole words are compared: "Segelboot" names "boot" only where a lexicon says so.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version

from curation.engines.engine import missing_package
from curation.errors import EngineMissing

Forms = Callable[[str], tuple[str, ...]]
"""From a normalised entry to its other forms."""

_IRREGULAR = {
    **{"man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet", "tooth": "teeth"},
    **{"goose": "geese", "mouse": "mice", "ox": "oxen", "die": "dice", "cactus": "cacti", "fungus": "fungi"},
    **{"leaf": "leaves", "loaf": "loaves", "calf": "calves", "half": "halves", "shelf": "shelves", "elf": "elves"},
    **{"wolf": "wolves", "scarf": "scarves", "knife": "knives", "wife": "wives", "life": "lives", "thief": "thieves"},
    **{"hoof": "hooves", "potato": "potatoes", "tomato": "tomatoes", "hero": "heroes", "mango": "mangoes"},
    **{"volcano": "volcanoes", "mosquito": "mosquitoes", "buffalo": "buffaloes"},
}
_IRREGULAR_ENDS = ("man", "child", "foot", "tooth", "leaf", "shelf", "knife", "wife", "wolf")
_VOWELS = "aeiou"


def english_plurals(entry: str) -> tuple[str, ...]:
    """The plural of a noun or of a phrase's last word: -s, -es after a hiss, -ies for -y, some that are irregular."""
    head, _, word = entry.rpartition(" ")
    if len(word) < 2 or not word.isascii() or not word.isalpha():
        return ()
    before = f"{head} " if head else ""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        regular = word + "es"
    elif word[-1] == "y" and word[-2] not in _VOWELS:
        regular = word[:-1] + "ies"
    else:
        regular = word + "s"
    if plural := _IRREGULAR.get(word):
        return (before + plural,)
    # Firemen, but humans: what ends as an irregular word does has both.
    plurals = [word.removesuffix(end) + _IRREGULAR[end] for end in _IRREGULAR_ENDS if word.endswith(end)]
    return tuple(before + plural for plural in (*plurals, regular))


def spanish_plurals(entry: str) -> tuple[str, ...]:
    """The plural of a single word: -s after a vowel, -ces for -z, -ones for -ón, else -es."""
    if " " in entry or len(entry) < 3 or not entry.isalpha():
        return ()
    if entry[-1] in "aeiouáéó":
        return (entry + "s",)
    if entry[-1] == "z":
        return (entry[:-1] + "ces",)
    if entry[-1] == "s":
        return ()
    bare = entry[:-2] + entry[-2:].translate(str.maketrans("áéíóú", "aeiou")) if entry[-1] == "n" else entry
    return (bare + "es",)


def french_plurals(entry: str) -> tuple[str, ...]:
    """The plural of a single word: -x after -eau and -eu, -aux for -al, none after s, x and z, else -s."""
    if " " in entry or len(entry) < 3 or not entry.isalpha() or entry[-1] in "sxz":
        return ()
    if entry.endswith(("eau", "eu")):
        return (entry + "x",)
    return (entry[:-2] + "aux",) if entry.endswith("al") else (entry + "s",)


RULES: Mapping[str, Forms] = {"en": english_plurals, "es": spanish_plurals, "fr": french_plurals}
"""By language. They may make a word that nobody writes, which is never found and does no harm."""


def forms_by_rule(entry: str, language: str) -> tuple[str, ...]:
    """Other forms of an entry by the rules of its language; none where there are no rules."""
    rule = RULES.get(language)
    return rule(entry) if rule else ()


def base_forms(words: Iterable[str], language: str) -> dict[str, str]:
    """The base form of each word by simplemma's tables ("Häuser": "Haus"), where it has tables of the language.

    A word that is a base form, or is not known, is left out.

    Raises:
        EngineMissing: with the command that installs simplemma.
    """
    if reason := missing_package(("simplemma",), "lexicons"):
        raise EngineMissing(f"inflected forms: {reason}")
    from simplemma import lemmatize
    from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

    if language not in SUPPORTED_LANGUAGES:
        return {}
    found = ((word, lemmatize(word, lang=language).casefold()) for word in words)
    return {word: base for word, base in found if base != word}


def tables_of_forms(language: str) -> dict[str, list[str]]:
    """Every base form of simplemma's tables with its other forms, all casefolded; empty without tables.

    Raises:
        EngineMissing: with the command that installs simplemma.
    """
    if reason := missing_package(("simplemma",), "lexicons"):
        raise EngineMissing(f"inflected forms: {reason}")
    from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES, DefaultDictionaryFactory

    if language not in SUPPORTED_LANGUAGES:
        return {}
    forms: dict[str, list[str]] = {}
    for form, base in DefaultDictionaryFactory().get_dictionary(language).items():
        if (form := form.casefold()) != (base := base.casefold()):
            forms.setdefault(base, []).append(form)
    return forms


def tables_version() -> str:
    """How the tables are named in a lexicon's sources."""
    return f"forms by simplemma {version('simplemma')}"
