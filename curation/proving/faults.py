"""Faults planted in subtitles: what a careless transcriber, a hallucinating recogniser or a shifted file writes."""

import random
from collections.abc import Callable, Sequence
from math import ceil

from curation.proving.sentences import SLOTS, Grammar
from curation.proving.truth import Fault

OPENING = "\"'"


def faulty_text(fault: Fault, spoken: str, grammar: Grammar, chance: random.Random, others: Sequence[str]) -> str:
    """The subtitle with one fault. `silence` and `wrong_text` do not look at what is spoken.

    Args:
        grammar: where further words come from.
        others: what is spoken in other segments.
    """
    if fault == "silence":
        return grammar.sentence()
    if fault == "wrong_text":
        different = [text for text in others if text != spoken]
        return chance.choice(different) if different else _another(grammar, spoken)
    return _CORRUPTIONS[fault](spoken.split(), grammar, chance)


def _swap_a_word(words: list[str], grammar: Grammar, chance: random.Random) -> str:
    """One word replaced by another of its slot, keeping its punctuation."""
    places = [(i, slot) for i, word in enumerate(words) for slot in SLOTS.values() if _bare(word) in slot]
    place, slot = chance.choice(places)
    bare = _bare(words[place])
    other = chance.choice([word for word in slot if word != bare])
    words[place] = words[place].replace(bare, other)
    return " ".join(words)


def _delete_a_fifth(words: list[str], grammar: Grammar, chance: random.Random) -> str:
    """At least a fifth of the words taken out, wherever they stand."""
    gone = set(chance.sample(range(len(words)), ceil(len(words) / 5)))
    return " ".join(word for i, word in enumerate(words) if i not in gone)


def _add_a_tail(words: list[str], grammar: Grammar, chance: random.Random) -> str:
    """3 to 8 words that nobody said, at the end."""
    return " ".join([*words, *grammar.words(chance.randint(3, 8))])


def _loop(words: list[str], grammar: Grammar, chance: random.Random) -> str:
    """A run of 1 to 4 words said 4 to 7 times in all."""
    length = chance.randint(1, min(4, len(words)))
    first = chance.randrange(len(words) - length + 1)
    run = words[first : first + length]
    return " ".join([*words[:first], *run * chance.randint(4, 7), *words[first + length :]])


def _change_the_pace(words: list[str], grammar: Grammar, chance: random.Random) -> str:
    """Twice to three times as many words as fit, or a fifth of them: a pace that nobody speaks at."""
    if len(words) > LONG:
        return " ".join(words[: max(2, len(words) // 6)])
    text = " ".join(words)
    while len(text.split()) < 2.5 * len(words):
        text += " " + grammar.sentence()
    return text


LONG = 16
"""Words: what is longer gets a text that is too short, what is not one that is too long."""

_CORRUPTIONS: dict[Fault, Callable[[list[str], Grammar, random.Random], str]] = {
    "swapped_word": _swap_a_word,
    "deleted": _delete_a_fifth,
    "tail": _add_a_tail,
    "loop": _loop,
    "pace": _change_the_pace,
}


def _another(grammar: Grammar, spoken: str) -> str:
    while (text := grammar.sentence()) == spoken:
        continue
    return text


def _bare(word: str) -> str:
    return word.lstrip(OPENING).rstrip(".,;:?!" + OPENING)
