"""The language of the proving corpus for a small recogniser: an n-gram model and a dictionary.

They are made of the grammar, with a seed of their own, and never of a corpus: a model of the corpus's subtitles would
contain the faults that it should find.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from math import log10
from pathlib import Path

from curation.errors import EngineMissing
from curation.proving.sentences import Grammar, spoken_words

LANGUAGE_MODEL_FILE = "domain.arpa"
DICTIONARY_FILE = "domain.dict"

LEAST_MASS = 1e-6
"""Probability left to unseen words under which there are none."""

ABBREVIATION_SOUNDS = {"mr.": "M IH S T ER", "mrs.": "M IH S IH Z", "dr.": "D AA K T ER", "u.s.": "Y UW EH S"}
"""In the CMU phone set; the dictionary lacks them."""


def write_domain(folder: Path, *, order: int = 3, utterances: int = 4000, seed: str = "language model") -> None:
    """Write `domain.arpa` and `domain.dict`, for a pocketsphinx with its English acoustic model.

    Args:
        order: length of the n-grams.
        utterances: how many the model is estimated from; of one to three sentences each, because a stretch of speech
            may hold several.

    Raises:
        EngineMissing: pocketsphinx, whose dictionary is used, is not installed.
    """
    grammar, chance = Grammar(seed), random.Random(seed)
    lines = [
        [word for _ in range(chance.choice((1, 1, 2, 3))) for word in spoken_words(grammar.sentence())]
        for _ in range(utterances)
    ]
    vocabulary = {word for line in lines for word in line}
    (folder / LANGUAGE_MODEL_FILE).write_text(arpa(lines, order), encoding="ascii")
    (folder / DICTIONARY_FILE).write_text(dictionary(vocabulary), encoding="ascii")


def dictionary(vocabulary: Iterable[str]) -> str:
    """The vocabulary's pronunciations, from the CMU dictionary that comes with pocketsphinx.

    Raises:
        EngineMissing: pocketsphinx is not installed.
        ValueError: a word has no pronunciation.
    """
    try:
        from pocketsphinx import get_model_path
    except ImportError as error:
        raise EngineMissing("the proving corpus needs pocketsphinx; pip install 'omni-curation[speech]'") from error
    wanted = set(vocabulary)
    sounds = {word: [ABBREVIATION_SOUNDS[word]] for word in wanted & ABBREVIATION_SOUNDS.keys()}
    for line in Path(get_model_path("en-us"), "cmudict-en-us.dict").read_text("utf-8").splitlines():
        word, _, phones = line.partition(" ")
        base = word.partition("(")[0]
        if base in wanted and base not in ABBREVIATION_SOUNDS:
            sounds.setdefault(base, []).append(phones.strip())
    if wanted - sounds.keys():
        raise ValueError(f"no pronunciation for {', '.join(sorted(wanted - sounds.keys()))}")
    lines = [
        f"{word}{f'({place})' if place > 1 else ''} {phones}"
        for word in sorted(sounds)
        for place, phones in enumerate(sounds[word], 1)
    ]
    return "\n".join(lines) + "\n"


def arpa(lines: Iterable[Sequence[str]], order: int, discount: float = 0.5) -> str:
    """An n-gram language model of tokenised lines, in ARPA format.

    Back-off with absolute discounting (Ney, Essen and Kneser 1994): P(w|h) = (c(hw) − d) / c(h) for what was seen, and
    the mass that is left goes to the shorter history. Unigrams are counts plus one, so every word can follow any.
    """
    counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order)]
    for line in lines:
        tokens = ("<s>", *line, "</s>")
        for n in range(order):
            counts[n].update(tokens[i : i + n + 1] for i in range(len(tokens) - n))
    del counts[0][("<s>",)]
    total = sum(counts[0].values()) + len(counts[0])
    probability = {gram: (count + 1) / total for gram, count in counts[0].items()}
    backoff: dict[tuple[str, ...], float] = {}
    for n in range(1, order):
        seen: Counter[tuple[str, ...]] = Counter()
        for gram, count in counts[n].items():
            seen[gram[:-1]] += count
        left = dict.fromkeys(seen, 1.0)
        lower = dict.fromkeys(seen, 1.0)
        for gram, count in counts[n].items():
            probability[gram] = (count - discount) / seen[gram[:-1]]
            left[gram[:-1]] -= probability[gram]
            lower[gram[:-1]] -= probability[gram[1:]]
        full = {history for history in seen if lower[history] < LEAST_MASS}  # every word follows
        for gram in counts[n]:
            if gram[:-1] in full:
                probability[gram] /= 1 - left[gram[:-1]]
        backoff |= {history: left[history] / lower[history] for history in seen if history not in full}
    grams = [[("<s>",), *counts[0]], *counts[1:]]
    head = [f"ngram {n + 1}={len(grams[n])}" for n in range(order)]
    text = ["\\data\\", *head]
    for n in range(order):
        text += ["", f"\\{n + 1}-grams:"]
        for gram in sorted(grams[n]):
            weight = f" {log10(backoff[gram]):.4f}" if gram in backoff and n + 1 < order else ""
            text.append(f"{log10(probability.get(gram, 1e-99)):.4f} {' '.join(gram)}{weight}")
    return "\n".join([*text, "", "\\end\\", ""])
