"""Forced alignment: a clip and what is said in it in, the times of its words out."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

from curation.engines.engine import Engine, loaded
from curation.errors import CurateError, EngineMissing
from curation.media.clips import SPEECH_RATE_HZ, Clip
from curation.meter import advance
from curation.paths import RecipePath
from curation.text.normalisation import base_language
from curation.text.numbers import WrittenWord, read_aloud

NO_LETTERS = "no_letters"
NOT_IN_DICTIONARY = "not_in_dictionary"
NOT_IN_VOCABULARY = "not_in_vocabulary"

STAND_IN = "?"
"""Begins the dictionary entry of a word that nobody can pronounce; no word of a text does."""
MAX_STAND_INS = 10_000
"""Decoders whose dictionaries have grown by so many are remade (a tenth of a second)."""
_LETTER_PHONES = {
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K",
    "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V",
    "w": "W", "x": "K", "y": "Y", "z": "Z",
}  # fmt: skip


class AlignmentFailed(CurateError):
    """A text cannot be laid over its audio: it has nothing that can be timed, does not fit, or no path exists."""


class LanguageNotAligned(CurateError):
    """The aligner does not know the clip's language, whatever is said in it."""


@dataclass(frozen=True)
class AlignedWord:
    """A word of the text, with its punctuation, and where it is heard; or why it has no times."""

    text: str
    start: int | None
    """First tick at 16 kHz, from the start of the clip."""
    end: int | None
    """Tick after the last."""
    score: float | None
    """Mean log likelihood per frame; engines differ in scale."""
    untimed: str | None
    """`no_letters`, `not_in_dictionary` or `not_in_vocabulary`; None where it has times."""


@dataclass(frozen=True)
class ForcedAligner(Engine):
    """What every engine of this capability does. Subclasses align one clip at a time, so neighbours do not matter."""

    def align(self, clips: Sequence[Clip], texts: Sequence[str]) -> list[list[AlignedWord] | Exception]:
        """For each clip the words of its text as `written_words` cuts them, or the error that this clip met.

        Raises:
            EngineMissing: a package or a file is not here; no clip can be aligned.
        """
        model = loaded(self)
        aligned: list[list[AlignedWord] | Exception] = []
        for clip, text in zip(clips, texts, strict=True):
            advance()
            try:
                aligned.append(self.align_one(model, clip, text))
            except EngineMissing:
                raise
            except Exception as error:
                aligned.append(error)
        return aligned

    def align_one(self, model: Any, clip: Clip, text: str) -> list[AlignedWord]:
        """The words of one text in one clip.

        Raises:
            AlignmentFailed: no word can be timed, or the text does not fit the audio.
            LanguageNotAligned: the engine does not know the clip's language.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class PocketSphinxAligner(ForcedAligner):
    """PocketSphinx's state aligner with its English model: every word's pronunciations, optional pauses between words.

    A word that is not in the dictionary gets no times; a phone per letter stands in for it, so that its sound does not
    go to its neighbours (the next start is 22 ms off on average, against 36 without). On espeak-ng speech word starts
    are 14 ms off on average, and 4 ms early (1,152 words, four voices).
    """

    packages: ClassVar[tuple[str, ...]] = ("pocketsphinx", "num2words")
    extra: ClassVar[str] = "speech"
    code_licence: ClassVar[str] = "BSD-2-Clause"
    weights_licence: ClassVar[str] = "BSD-2-Clause"
    limits: ClassVar[str] = "English only, and only words of its 130,000-word dictionary; times on a 10 ms grid."

    engine: Literal["pocketsphinx"] = "pocketsphinx"
    beams: tuple[float, ...] = (1e-120, 0.0)
    """Pruning thresholds, tried in turn until the whole text is found; 0 prunes nothing. The library's own 1e-48 loses
    one utterance in seven where there are long pauses, and saves little time."""
    dictionary_path: RecipePath = ""
    """More words and pronunciations in CMU notation, one a line: `word P H O N E S`."""
    start_shift_s: float = 0.0
    """Added to every start."""
    end_shift_s: float = 0.0
    """Added to every end."""

    @property
    def languages(self) -> tuple[str, ...]:
        """English, as its models are."""
        return ("en",)

    def load(self) -> "SphinxModel":
        return SphinxModel(self.beams, self.dictionary_path)

    def align_one(self, model: "SphinxModel", clip: Clip, text: str) -> list[AlignedWord]:
        if base_language(clip.language) != "en":
            raise LanguageNotAligned(f"pocketsphinx aligns English (en); this clip's language is {clip.language}")
        words = read_aloud(text, "en")
        entries = [model.entries(word) for word in words]
        known = [bool(found) and not any(entry.startswith(STAND_IN) for entry in found) for found in entries]
        if not any(known):
            raise AlignmentFailed("no word of the text is in the dictionary" if words else "the text has no words")
        times = iter(model.times(clip, [entry for found in entries for entry in found]))
        aligned: list[AlignedWord] = []
        for word, found, timed in zip(words, entries, known, strict=True):
            parts = [next(times) for _ in found]
            if not timed:
                reason = NOT_IN_DICTIONARY if word.spoken else NO_LETTERS
                aligned.append(AlignedWord(word.text, None, None, None, reason))
                continue
            start = _ticks(parts[0].first / model.frames_per_s + self.start_shift_s, clip)
            end = _ticks(parts[-1].after / model.frames_per_s + self.end_shift_s, clip)
            score = sum(p.log_likelihood for p in parts) / sum(p.after - p.first for p in parts)
            aligned.append(AlignedWord(word.text, start, max(end, start), score, None))
        return aligned


@dataclass(frozen=True)
class _HeardWord:
    """A dictionary word on the frames [first, after), with its log likelihood against the best senones there."""

    entry: str
    first: int
    after: int
    log_likelihood: float


class SphinxModel:
    """A decoder per beam, made when it is needed first, and the dictionary that they share."""

    frames_per_s = 100
    """The acoustic model's frame rate."""

    def __init__(self, beams: tuple[float, ...], dictionary_path: str) -> None:
        self._beams = beams
        self._extra = read_dictionary(Path(dictionary_path)) if dictionary_path else []
        self._decoders: dict[float, Any] = {}
        self._decoder(beams[0])  # what is wrong with the dictionary is said now
        self._stand_ins = 0

    def entries(self, word: WrittenWord) -> list[str]:
        """The dictionary's entries for a written word: itself, or each word that is said for it.

        A word that it lacks is given by its letters with the mark STAND_IN, or left out where it has none of a-z.
        """
        if not word.spoken:
            return []
        for entry in _spellings(word):
            if self._lookup(entry):
                return [entry]
        found: list[str] = []
        for said in word.spoken:
            plain = "".join(c for c in unicodedata.normalize("NFKD", said) if unicodedata.category(c)[0] != "M")
            known = [entry for entry in (said, plain, plain.strip("'")) if entry and self._lookup(entry)]
            letters = "".join(c for c in plain if c in _LETTER_PHONES)
            found += known[:1] or ([STAND_IN + letters] if letters else [])
        return found

    def times(self, clip: Clip, entries: list[str]) -> list[_HeardWord]:
        """Where each entry is heard, with the first beam that finds them all.

        Raises:
            AlignmentFailed: no beam does.
        """
        for beam in self._beams if len(clip.samples) else ():
            try:
                heard = self._align(self._decoder(beam), clip, entries)
            except Exception:
                del self._decoders[beam]  # it may stand in mid-utterance, and would fail whatever comes next
                raise
            if self._stand_ins > MAX_STAND_INS:
                self._decoders, self._stand_ins = {}, 0
            if [word.entry for word in heard] == entries:
                return heard
        raise AlignmentFailed(
            f"no alignment of {len(entries)} words to {clip.duration_s:.2f} s of audio at beams {list(self._beams)}"
        )

    def _align(self, decoder: Any, clip: Clip, entries: list[str]) -> list[_HeardWord]:
        for entry in entries:
            if entry.startswith(STAND_IN) and decoder.lookup_word(entry) is None:
                phones = [_LETTER_PHONES[letter] for letter, _ in groupby(entry[len(STAND_IN) :])]
                decoder.add_word(entry, " ".join(phones), update=False)
                self._stand_ins += 1
        decoder.reinit_feat()  # else the cepstral means of the last utterance would enter into this one
        decoder.set_align_text(" ".join(entries))
        decoder.start_utt()
        decoder.process_raw(clip.samples.astype("<i2").tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return []
        return [
            _HeardWord(_entry(s.word), s.start_frame, s.end_frame + 1, _nats(s.ascore))
            for s in decoder.seg()
            if not s.word.startswith(("<", "["))
        ]

    def _lookup(self, entry: str) -> str | None:
        phones: str | None = self._decoder(self._beams[0]).lookup_word(entry)
        return phones

    def _decoder(self, beam: float) -> Any:
        if beam not in self._decoders:
            from pocketsphinx import Config, Decoder, get_model_path  # type: ignore[import-untyped,unused-ignore]

            config = Config(
                hmm=get_model_path("en-us/en-us"),
                dict=get_model_path("en-us/cmudict-en-us.dict"),
                lm=None,
                bestpath=False,
                beam=beam,
                pbeam=beam,
                wbeam=beam,
                loglevel="FATAL",
            )
            decoder = Decoder(config)
            for word, phones in self._extra:
                _add_pronunciation(decoder, word, phones)
            self._decoders[beam] = decoder
        return self._decoders[beam]


def read_dictionary(path: Path) -> list[tuple[str, str]]:
    """Words and their phones from a dictionary in CMU notation; `;;;` begins a comment, `word(2)` is a variant.

    Raises:
        EngineMissing: a line has no phones, or the file is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise EngineMissing(f"engine pocketsphinx: {path} is not UTF-8") from error
    entries: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;;"):
            continue
        word, *phones = line.split()
        if not phones:
            raise EngineMissing(f"engine pocketsphinx: {path}, line {number}: {word!r} has no phones")
        entries.append((_entry(word.lower()), " ".join(phones)))
    return entries


def _add_pronunciation(decoder: Any, word: str, phones: str) -> None:
    """Add a word, or one more pronunciation of it, to a decoder's dictionary."""
    variant, number = word, 1
    while (known := decoder.lookup_word(variant)) is not None:
        if known == phones:
            return
        number += 1
        variant = f"{word}({number})"
    try:
        decoder.add_word(variant, phones, update=True)
    except RuntimeError as error:
        raise EngineMissing(f"engine pocketsphinx: {word}: {phones!r} is not a pronunciation") from error


def _spellings(word: WrittenWord) -> list[str]:
    """How the dictionary may spell a written word as a whole: "well-known", "u.s.", "'em"; never a number."""
    plain = unicodedata.normalize("NFKC", word.text).lower().replace("’", "'")
    bare = plain.strip('"“”‘()[]{}<>*_~,;:!?…—–-')
    if not any(c in "-.'" for c in bare.strip(".")):
        return []  # an ordinary word; an abbreviation's point ("dr.") is the reading's business
    return [spelling for spelling in (bare, bare.rstrip("."), bare.strip("'")) if re.search("[a-z]", spelling)]


def _entry(word: str) -> str:
    """A pronunciation variant's entry: "the(2)" is "the"."""
    return re.sub(r"\(\d+\)$", "", word)


def _nats(ascore: float) -> float:
    """A segment's acoustic score, which the library gives as a likelihood to the power of 2^-10, in nats."""
    return math.log(max(ascore, 1e-300)) * 1024


def _ticks(time_s: float, clip: Clip) -> int:
    return min(max(round(time_s * SPEECH_RATE_HZ), 0), len(clip.samples))
