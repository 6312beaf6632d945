"""Concept matching against a bare scan of its automaton, and against the loop that it replaces, in one run.

By default, a lexicon of 200,000 Chinese and 200,000 English entries, made up and seeded; captions that mix its entries
with other words, as strings.
*Ours* is everything from captions to an Arrow column of entries: normalising, spacing, scanning,
making sets. *Bare* only scans texts that are spaced already, with an automaton of characters as one would build it,
and forgets what it found; *own scan* does so with ours, which is of bytes. *Naive* asks of each entry whether it is a
substring, over a few captions. Rounds are interleaved; figures are medians of CPU seconds. Building the lexicon and its
automaton, and loading it from Parquet, are told apart.

With `--lexicon` and `--text` it takes a lexicon of yours and real captions, one a line, and also says what share of the
captions of each language names an entry (`coverage`), and an entry of that language (`own_coverage`).

    python benchmarks/concepts.py [--captions 20000] [--rounds 5] [--json]
    curate lexicon lexicon.parquet --package jieba --package wordfreq=en,es,de
    python benchmarks/concepts.py --lexicon lexicon.parquet --text en=captions.en.txt --text zh=captions.zh.txt
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
import pyarrow.compute as pc

from curation.diversity.concept_matching import ConceptMatcher
from curation.diversity.lexicon import (
    from_words,
    lexicon_languages,
    merge,
    pattern,
    read_lexicon,
    spaced,
    write_lexicon,
)

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
    """Captions per CPU second of each, and the ratios, on what is made up.

    Raises:
        SystemExit: the naive loop finds other entries.
    """
    chance = random.Random(0)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(60_000)]
    english, chinese = entries(chance, words)
    texts = captions(chance, words, english, chinese, count)
    lexicon, spent = _timed(lambda: merge([from_words(english, "en", "made up"), from_words(chinese, "zh", "made up")]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lexicon.parquet"
        write_lexicon(lexicon, path)
        return {"lexicon_cpu_s": spent, **compare(path, texts, rounds)}


def measure_real(path: Path, texts: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """The same of a lexicon and captions that are given, with what it covers of each language."""
    lexicon = read_lexicon(path)
    matcher = ConceptMatcher(lexicon)
    languages = pc.take(lexicon["language"], pa.array(range(lexicon.num_rows)))
    figures: dict[str, float] = {f"{code}.entries": n for code, n in lexicon_languages(lexicon).items()}
    for code, some in texts.items():
        found = matcher.match_all(some)
        named = pc.greater(pc.list_value_length(found), 0)
        of = pc.take(languages, pc.index_in(found.values, lexicon["entry"].combine_chunks()))
        own = pc.list_parent_indices(found).filter(pc.equal(of, code))
        figures[f"{code}.captions"] = len(some)
        figures[f"{code}.coverage"] = pc.mean(named.cast(pa.float64())).as_py()
        figures[f"{code}.own_coverage"] = len(pc.unique(own)) / len(some)
    return figures | compare(path, [text for some in texts.values() for text in some], rounds)


def compare(path: Path, texts: list[str], rounds: int) -> dict[str, float]:
    """Ours, the bare scan, its own scan and the naive loop, interleaved."""
    lexicon, load_cpu_s = _timed(lambda: read_lexicon(path))
    matcher, automaton_cpu_s = _timed(lambda: ConceptMatcher(lexicon))
    keys = _keys(lexicon)
    figures: dict[str, float] = {"entries": lexicon.num_rows, "written_forms": len(keys), "captions": len(texts)}
    figures |= {"load_cpu_s": load_cpu_s, "automaton_cpu_s": automaton_cpu_s}
    ready = [spaced(text) for text in texts]
    automaton = _automaton(keys)
    ready_bytes = [_bytes_of(text) for text in ready]
    own = _automaton({_bytes_of(key): place for key, place in keys.items()})
    names = lexicon["entry"].to_pylist()

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
        named = ({place for key, place in keys.items() if key in text} for text in ready[:NAIVE_CAPTIONS])
        return [[names[place] for place in sorted(places)] for places in named]

    found, expected = ours(), naive()
    if found[:NAIVE_CAPTIONS].to_pylist() != expected:
        sys.exit("the naive loop finds other entries")
    figures["matches_per_caption"] = len(found.values) / len(texts)
    spent: dict[str, list[float]] = {"ours": [], "bare": [], "own_scan": [], "naive": []}
    for _ in range(rounds):
        for name, run in (("ours", ours), ("bare", bare), ("own_scan", own_scan), ("naive", naive)):
            spent[name].append(_timed(run)[1])
    for name, times in spent.items():
        figures[f"{name}_captions_per_s"] = (NAIVE_CAPTIONS if name == "naive" else len(texts)) / median(times)
    figures["ours_over_bare"] = figures["ours_captions_per_s"] / figures["bare_captions_per_s"]
    figures["ours_over_own_scan"] = figures["ours_captions_per_s"] / figures["own_scan_captions_per_s"]
    figures["ours_over_naive"] = figures["ours_captions_per_s"] / figures["naive_captions_per_s"]
    return figures


def _keys(lexicon: pa.Table) -> dict[str, int]:
    """All written forms, each with the place of its entry; an entry's own goes before another's form."""
    keys: dict[str, int] = {}
    for place, entry in enumerate(lexicon["entry"].to_pylist()):
        keys[pattern(entry)] = place
    for place, forms in enumerate(lexicon["forms"].to_pylist()):
        for form in forms:
            keys.setdefault(pattern(form), place)
    return keys


def _bytes_of(text: str) -> str:
    return text.encode().decode("latin-1")


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    start = process_time()
    result = run()
    return result, process_time() - start


def _automaton(keys: dict[str, int]) -> Any:
    automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
    for key, place in keys.items():
        automaton.add_word(key, place)
    automaton.make_automaton()
    return automaton


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--captions", type=int, default=20_000, help="captions to match")
    arguments.add_argument("--rounds", type=int, default=5, help="runs of each, interleaved")
    arguments.add_argument("--lexicon", type=Path, help="a lexicon to use instead of one that is made up")
    arguments.add_argument("--text", action="append", default=[], help="LANG=FILE: real captions, one a line")
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    chosen = arguments.parse_args()
    if chosen.lexicon:
        files = dict(text.split("=", 1) for text in chosen.text)
        texts = {
            code: [line for line in Path(path).read_text("utf-8").splitlines() if line.strip()]
            for code, path in files.items()
        }
        figures = measure_real(chosen.lexicon, texts, chosen.rounds)
    else:
        figures = measure(chosen.captions, chosen.rounds)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:14.3f}")
    print("target: ours_over_bare >= 0.9")


if __name__ == "__main__":
    main()
