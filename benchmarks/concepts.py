"""Concept matching against a bare scan of its automaton, and against the loop that it replaces, in one run.

A lexicon of 200,000 Chinese and 200,000 English entries, made up and seeded; captions that mix its entries with other
words, as strings. *Ours* is everything from captions to an Arrow column of entries: normalising, spacing, scanning,
making sets. *Bare* only scans texts that are spaced already, with an automaton of characters as one would build it,
and forgets what it found; *own scan* does so with ours, which is of bytes. *Naive* asks of each entry whether it is a
substring, over a few captions. Rounds are interleaved; figures are medians of CPU seconds. Building the lexicon and its
automaton, and loading it from Parquet, are told apart.

    python benchmarks/concepts.py [--captions 20000] [--rounds 5] [--json]
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, TypeVar

import ahocorasick
import pyarrow as pa

from curation.diversity.concept_matching import ConceptMatcher
from curation.diversity.lexicon import from_words, merge, pattern, read_lexicon, spaced, write_lexicon

ENTRIES = 200_000
"""Of each language."""
NAIVE_CAPTIONS = 20
Result = TypeVar("Result")
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
SYLLABLES = [first + second for first in "bcdfghklmnprstvwz" for second in "aeiou"]


def entries(chance: random.Random, words: list[str]) -> tuple[list[str], list[str]]:
    """English phrases of one to three words, Chinese ones of two to four characters; all different."""
    english: dict[str, None] = {}
    while len(english) < ENTRIES:
        english[" ".join(chance.choices(words, k=chance.choice((1, 1, 2, 2, 3))))] = None
    chinese: dict[str, None] = {}
    while len(chinese) < ENTRIES:
        chinese["".join(chance.choices(HAN, k=chance.choice((2, 2, 3, 3, 4))))] = None
    return list(english), list(chinese)


def captions(chance: random.Random, words: list[str], english: list[str], chinese: list[str], count: int) -> list[str]:
    """Half of them English, half Chinese; about half of each is entries, with capitals and full stops."""
    made = []
    for number in range(count):
        if number % 2:
            parts = [chance.choice(english) if chance.random() < 0.4 else chance.choice(words) for _ in range(8)]
            made.append(" ".join(parts).capitalize() + chance.choice((".", "", ", 2019!")))
        else:
            parts = []
            for _ in range(8):
                parts.append(chance.choice(chinese) if chance.random() < 0.5 else "".join(chance.choices(HAN, k=3)))
            parts.insert(chance.randrange(8), chance.choice(("，", "", " Ｎew ")))
            made.append("".join(parts) + "。")
    return made


def measure(count: int, rounds: int) -> dict[str, float]:
    """Captions per CPU second of each, and the ratios.

    Raises:
        SystemExit: the naive loop finds other entries.
    """
    chance = random.Random(0)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(60_000)]
    english, chinese = entries(chance, words)
    texts = captions(chance, words, english, chinese, count)
    figures: dict[str, float] = {"entries": 2 * ENTRIES, "captions": count}

    lexicon, figures["lexicon_cpu_s"] = _timed(
        lambda: merge([from_words(english, "en", "made up"), from_words(chinese, "zh", "made up")])
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lexicon.parquet"
        write_lexicon(lexicon, path)
        lexicon, figures["load_cpu_s"] = _timed(lambda: read_lexicon(path))
    matcher, figures["automaton_cpu_s"] = _timed(lambda: ConceptMatcher(lexicon))
    keys = [(entry, pattern(entry)) for entry in lexicon["entry"].to_pylist()]
    ready = [spaced(text) for text in texts]
    automaton = _automaton([key for _, key in keys])
    ready_bytes = [_bytes_of(text) for text in ready]
    own = _automaton([_bytes_of(key) for _, key in keys])

    def ours() -> pa.Array:
        return matcher.match_all(texts)

    def bare() -> None:
        for text in ready:
            for _ in automaton.iter(text):
                pass

    def own_scan() -> None:
        for text in ready_bytes:
            for _ in own.iter(text):
                pass

    def naive() -> list[list[str]]:
        return [[entry for entry, key in keys if key in text] for text in ready[:NAIVE_CAPTIONS]]

    found, expected = ours(), naive()
    if found[:NAIVE_CAPTIONS].to_pylist() != expected:
        sys.exit("the naive loop finds other entries")
    figures["matches_per_caption"] = len(found.values) / count
    spent: dict[str, list[float]] = {"ours": [], "bare": [], "own_scan": [], "naive": []}
    for _ in range(rounds):
        for name, run in (("ours", ours), ("bare", bare), ("own_scan", own_scan), ("naive", naive)):
            spent[name].append(_timed(run)[1])
    for name, times in spent.items():
        figures[f"{name}_captions_per_s"] = (NAIVE_CAPTIONS if name == "naive" else count) / median(times)
    figures["ours_over_bare"] = figures["ours_captions_per_s"] / figures["bare_captions_per_s"]
    figures["ours_over_own_scan"] = figures["ours_captions_per_s"] / figures["own_scan_captions_per_s"]
    figures["ours_over_naive"] = figures["ours_captions_per_s"] / figures["naive_captions_per_s"]
    return figures


def _bytes_of(text: str) -> str:
    return text.encode().decode("latin-1")


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    start = process_time()
    result = run()
    return result, process_time() - start


def _automaton(keys: list[str]) -> Any:
    automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
    for place, key in enumerate(keys):
        automaton.add_word(key, place)
    automaton.make_automaton()
    return automaton


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--captions", type=int, default=20_000, help="captions to match")
    arguments.add_argument("--rounds", type=int, default=5, help="runs of each, interleaved")
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    chosen = arguments.parse_args()
    figures = measure(chosen.captions, chosen.rounds)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:14.3f}")
    print("target: ours_over_bare >= 0.7")


if __name__ == "__main__":
    main()
