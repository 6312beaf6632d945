"""What the proving corpus says: a small grammar of English sentences, drawn from a seed.

The words are long and unlike each other, and all stand in the CMU pronouncing dictionary, so that a small recogniser
with this grammar's language model hears them well. Sentences hold what trips a splitter of text: abbreviations
("Mr.", "U.S."), decimals ("3.5") and quotes.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

PEOPLE = ("captain", "engineer", "gardener", "professor", "musician", "photographer", "president", "neighbor")
NAMES = ("Mr. Anderson", "Mrs. Campbell", "Mr. Robinson", "Dr. Johnson")
VERBS = ("carried", "delivered", "borrowed", "repaired", "discovered", "purchased", "protected", "remembered")
ADJECTIVES = ("yellow", "broken", "wooden", "silver", "enormous", "expensive", "ancient", "electric")
THINGS = ("umbrella", "telescope", "necklace", "package", "camera", "manuscript", "bicycle", "violin")
PLACES = ("harbor", "library", "museum", "kitchen", "railway station", "mountain", "village", "U.S. embassy")
WHERE = ("near the", "behind the", "beside the", "outside the")
WHEN = ("on Monday morning", "yesterday afternoon", "before breakfast", "every Thursday", "last winter")
LINKS = ("and", "but", "because", "while")
AMOUNTS = ("seven", "twelve", "forty", "hundred", "3.5", "2.7", "6.4")
UNITS = ("kilometers", "minutes", "gallons")
STATES = ("empty", "valuable", "dangerous", "beautiful", "forgotten", "complicated")

ABBREVIATIONS = frozenset({"Mr.", "Mrs.", "Dr.", "U.S."})
"""Tokens whose full stop ends nothing."""

SPOKEN_NUMERALS = {"3.5": "three point five", "2.7": "two point seven", "6.4": "six point four"}

SLOTS: Mapping[str, tuple[str, ...]] = {
    "people": PEOPLE,
    "verbs": VERBS,
    "adjectives": ADJECTIVES,
    "things": THINGS,
    "states": STATES,
    "units": UNITS,
}
"""Single words that may stand for each other; a swapped word is drawn from the same slot."""


@dataclass
class Grammar:
    """Sentences from a seed; two grammars of one seed say the same."""

    seed: int | str
    numerals: float = 0.06
    """Share of sentences with a decimal number."""
    quotes: float = 0.08
    """Share of sentences with direct speech."""
    short: float = 0.12
    """Share of short sentences."""
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def sentence(self) -> str:
        """One sentence of 6 to 17 words, with its punctuation."""
        kind = self._random.random()
        if kind < self.numerals:
            return self._measured()
        if kind < self.numerals + self.quotes:
            return self._quoted()
        if kind > 1 - self.short:
            return self.short_sentence()
        return self._random.choice((self._plain, self._opened, self._joined, self._listed))()

    def short_sentence(self) -> str:
        """One sentence of 6 to 9 words, without a comma."""
        where = f" {self._where()}" if self._random.random() < 0.5 else ""
        return _capital(f"{self._person()} {self._act()}{where}.")

    def words(self, count: int) -> list[str]:
        """Words as the domain's sentences begin: what a recogniser might go on to invent."""
        words: list[str] = []
        while len(words) < count:
            words += self.sentence().split()
        return words[:count]

    def _plain(self) -> str:
        return _capital(f"{self._person()} {self._act()} {self._where()} {self._pick(WHEN)}.")

    def _opened(self) -> str:
        return _capital(f"{self._pick(WHEN)}, {self._person()} {self._act()} {self._where()}.")

    def _joined(self) -> str:
        first = f"{self._person()} {self._act()} {self._where()}"
        return _capital(f"{first}, {self._pick(LINKS)} {self._person()} {self._act()}.")

    def _listed(self) -> str:
        things = [f"the {self._pick(ADJECTIVES)} {thing}" for thing in self._random.sample(THINGS, 3)]
        return _capital(f"{self._person()} {self._pick(VERBS)} {things[0]}, {things[1]}, and {things[2]}.")

    def _quoted(self) -> str:
        return _capital(f'{self._person()} said, "The {self._pick(THINGS)} {self._where()} is {self._pick(STATES)}."')

    def _measured(self) -> str:
        way = f"{self._pick(AMOUNTS)} {self._pick(UNITS)}"
        return _capital(f"{self._person()} {self._act()} {way} {self._where()}, {self._pick(WHEN)}.")

    def _act(self) -> str:
        return f"{self._pick(VERBS)} the {self._pick(ADJECTIVES)} {self._pick(THINGS)}"

    def _where(self) -> str:
        return f"{self._pick(WHERE)} {self._pick(PLACES)}"

    def _person(self) -> str:
        return self._pick(NAMES) if self._random.random() < 0.25 else f"the {self._pick(PEOPLE)}"

    def _pick(self, choices: tuple[str, ...]) -> str:
        return self._random.choice(choices)


def ends_clause(word: str) -> bool:
    """Whether the punctuation at a word's end closes a clause or a sentence, rather than an abbreviation."""
    bare = word.rstrip("\"'”’)")
    return bool(bare) and bare[-1] in ".,;:?!" and bare not in ABBREVIATIONS


def spoken_words(text: str) -> list[str]:
    """The words of a text as the language model knows them: lower case, numerals spelled, without punctuation."""
    words: list[str] = []
    for token in text.replace('"', " ").split():
        bare = token if token in ABBREVIATIONS else token.rstrip(".,;:?!")
        words += SPOKEN_NUMERALS.get(bare, bare.lower()).split()
    return words


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
