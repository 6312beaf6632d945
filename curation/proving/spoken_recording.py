"""One recording of the proving corpus: utterances, pauses and sounds on a time line, and the truth about them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from curation.engines.speech_synthesis import Speech, SpeechSynthesiser
from curation.proving.cues import Line
from curation.proving.faults import faulty_text
from curation.proving.sentences import Grammar, ends_clause
from curation.proving.sounds import EVENTS, FRAME_S, Samples, runs, sound_event, sounding, steady_noise
from curation.proving.truth import FAULTS, Event, Fault, Interval, RecordingTruth, TruePause, TrueWord, UtteranceTruth

RATE_HZ = 22_050
"""What espeak-ng speaks at, and what recordings are mixed at."""

FULL_SCALE = 32_767


@dataclass(frozen=True)
class CorpusSettings:
    """What the corpus is like. Weights need not sum to 1."""

    voices: tuple[str, ...] = ("en-us", "en-gb", "en-us+m3", "en-us+m1", "en-us+f2", "en-us+f5")
    rates_wpm: tuple[int, ...] = (150, 165, 180)
    noises: tuple[tuple[float | None, str], ...] = (
        *[(None, "white")] * 3,
        *[(20.0, "white"), (20.0, "pink")] * 2,
        *[(10.0, "pink"), (10.0, "pink"), (10.0, "white")],
    )
    """SNR in dB (None: no noise at all) and colour; dealt out evenly to recordings."""
    recording_s: tuple[float, float] = (60.0, 240.0)
    pauses: tuple[tuple[float, float, float], ...] = (
        (0.35, 0.2, 0.6),
        (0.42, 0.6, 1.5),
        (0.16, 1.5, 4.0),
        (0.05, 4.0, 9.5),
        (0.02, 10.5, 20.0),
    )
    """Silence between utterances: weight, shortest, longest in seconds."""
    two_sentences: float = 0.2
    """Share of utterances of two sentences."""
    fault_share: float = 0.05
    """Share of cues per kind of fault; about 23 of each in an hour."""
    faults: tuple[Fault, ...] = FAULTS
    event_share: float = 0.06
    """Share of pauses that hold a sound that is not speech."""
    formats: tuple[str, ...] = ("wav", "flac", "opus", "mp3")
    subtitles: tuple[str, ...] = ("srt", "vtt", "json")
    long_pause_s: float = 0.1
    """Silence inside an utterance from this length is not speech."""
    min_pause_s: float = 0.03
    """Shortest silence between two words that counts as a pause."""


Conditions = tuple[str, tuple[float | None, str]]
"""The voice that speaks most, and SNR and colour of the noise."""


@dataclass
class RecordingMaker:
    """Lays utterances, pauses and sounds on the time line of one recording."""

    number: int
    conditions: Conditions
    target_s: float
    seed: int
    settings: CorpusSettings
    synthesiser: SpeechSynthesiser
    cards: Iterator[Fault | None]
    texts: list[str]
    """What is spoken in the corpus so far; grows."""
    utterances: list[UtteranceTruth] = field(default_factory=list)
    speech: list[Interval] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    parts: list[Samples] = field(default_factory=list)
    now: int = 0
    """Samples laid so far."""

    def __post_init__(self) -> None:
        name = f"{self.seed} recording {self.number}"
        self.chance = random.Random(name)
        self.noise_chance = np.random.default_rng(self.chance.getrandbits(64))
        self.grammar = Grammar(name)
        main, (self.snr_db, self.colour) = self.conditions
        self.voices = (main, self.chance.choice(self.settings.voices))
        self.level = 10 ** (self.chance.uniform(-26, -18) / 20)
        self.format = self.settings.formats[self.number % len(self.settings.formats)]
        self.file = f"recording-{self.number:04d}.{self.format}"
        self.squares = [0.0, 0.0]

    def make(self) -> NDArray[np.int16]:
        """The recording's samples; its truth is in the fields afterwards."""
        self._silence(self.chance.uniform(0.5, 2.0))
        while self.now < self.target_s * RATE_HZ:
            fault = next(self.cards)
            if fault == "silence":
                self._lay_silent_cue()
                fault = None
            self._lay_utterance(fault)
            self._lay_pause()
        return self._mixed()

    def truth(self, duration_s: float) -> RecordingTruth:
        noise = None if self.snr_db is None else self.colour
        return RecordingTruth(
            file=self.file,
            duration_s=duration_s,
            speech=tuple(self.speech),
            events=tuple(self.events),
            snr_db=self.snr_db,
            noise=noise,
        )

    def lines(self) -> list[Line]:
        """The subtitles: shown a little before the first word and after the last, never over each other."""
        lines: list[Line] = []
        for i, utterance in enumerate(self.utterances):
            before = utterance.start_s - (self.utterances[i - 1].end_s if i else 0.0)
            later = self.utterances[i + 1].start_s if i + 1 < len(self.utterances) else self.now / RATE_HZ
            start = utterance.start_s - min(self.chance.uniform(0, 0.1), before / 2)
            end = utterance.end_s + min(self.chance.uniform(0, 0.15), (later - utterance.end_s) / 2)
            lines.append((start, end, utterance.cue))
        return lines

    def _lay_utterance(self, fault: Fault | None) -> None:
        text = self._text(fault)
        voice = self.voices[self.chance.random() < 0.25]
        speech = self.synthesiser.speak(text, voice, rate_wpm=self.chance.choice(self.settings.rates_wpm))
        if speech.rate_hz != RATE_HZ:
            raise ValueError(f"the synthesiser speaks at {speech.rate_hz} Hz; the corpus is mixed at {RATE_HZ} Hz")
        cue = text if fault is None else faulty_text(fault, text, self.grammar, self.chance, self.texts)
        self.texts.append(text)
        self._record(text, cue, fault, voice, speech)
        samples = speech.samples.astype(np.float32)
        self.squares[0] += float(np.sum(np.square(samples, dtype=np.float64)))
        self.squares[1] += len(samples)
        self._lay(samples)

    def _text(self, fault: Fault | None) -> str:
        """What is spoken; a wrong pace requires a short utterance or a long one."""
        if fault == "pace":
            if self.chance.random() < 0.5:
                return self.grammar.short_sentence()
            return f"{self.grammar.sentence()} {self.grammar.sentence()}"
        if self.chance.random() < self.settings.two_sentences:
            return f"{self.grammar.sentence()} {self.grammar.sentence()}"
        return self.grammar.sentence()

    def _record(self, text: str, cue: str, fault: Fault | None, voice: str, speech: Speech) -> None:
        """Note when each word sounds and where the clean signal is silent."""
        frame_s = round(FRAME_S * RATE_HZ) / RATE_HZ
        sound = [(first * frame_s, last * frame_s) for first, last in runs(sounding(speech.samples, RATE_HZ))]
        first_s, last_s = sound[0][0], sound[-1][1]
        offset = self.now / RATE_HZ
        words = true_words(text, speech)
        gaps = [(left[1], right[0]) for left, right in pairwise(sound)]
        pauses = []
        for start, end in gaps:
            after = _word_before_gap(words, start, end)
            if after is not None and end - start >= self.settings.min_pause_s:
                pauses.append(TruePause(after_word=after, start_s=_ms(offset + start), end_s=_ms(offset + end)))
        start = first_s
        for gap_start, gap_end in [*gaps, (last_s, last_s + 1)]:
            if gap_end - gap_start >= self.settings.long_pause_s:
                self.speech.append(Interval(start_s=_ms(offset + start), end_s=_ms(offset + gap_start)))
                start = gap_end
        self.utterances.append(
            UtteranceTruth(
                file=self.file,
                start_s=_ms(offset + first_s),
                end_s=_ms(offset + last_s),
                spoken=text,
                cue=cue,
                fault=fault,
                voice=voice,
                words=tuple(_shifted(word, offset) for word in words),
                pauses=tuple(pauses),
            )
        )

    def _lay_silent_cue(self) -> None:
        """A cue where nobody speaks: over silence, or over a sound that is not speech."""
        length_s = self.chance.uniform(1.5, 4.0)
        self._silence(self.chance.uniform(1.0, 2.0))
        start_s = self.now / RATE_HZ
        if self.chance.random() < 0.5:
            self._lay_event(length_s)
        else:
            self._silence(length_s)
        cue = faulty_text("silence", "", self.grammar, self.chance, ())
        self.utterances.append(
            UtteranceTruth(
                file=self.file,
                start_s=_ms(start_s),
                end_s=_ms(self.now / RATE_HZ),
                spoken="",
                cue=cue,
                fault="silence",
            )
        )
        self._silence(self.chance.uniform(1.0, 2.0))

    def _lay_pause(self) -> None:
        weights, shortest, longest = zip(*self.settings.pauses, strict=True)
        (kind,) = self.chance.choices(range(len(weights)), weights)
        length_s = self.chance.uniform(shortest[kind], longest[kind])
        if self.chance.random() < self.settings.event_share:
            self._silence(self.chance.uniform(0.4, 1.0))
            self._lay_event(self.chance.uniform(6, 15) if self.chance.random() < 0.2 else self.chance.uniform(0.5, 4))
            length_s = max(length_s, 0.4)
        self._silence(length_s)

    def _lay_event(self, length_s: float) -> None:
        kind = self.chance.choice(EVENTS)
        start_s = self.now / RATE_HZ
        peak = FULL_SCALE * self.chance.uniform(0.1, 0.5)
        self._lay(peak * sound_event(kind, round(length_s * RATE_HZ), RATE_HZ, self.noise_chance))
        self.events.append(Event(kind=kind, start_s=_ms(start_s), end_s=_ms(self.now / RATE_HZ)))

    def _silence(self, length_s: float) -> None:
        self._lay(np.zeros(round(length_s * RATE_HZ), np.float32))

    def _lay(self, samples: Samples) -> None:
        self.parts.append(samples)
        self.now += len(samples)

    def _mixed(self) -> NDArray[np.int16]:
        """All parts at the recording's level, with its steady noise."""
        clean = np.concatenate(self.parts)
        speech_rms = (self.squares[0] / max(self.squares[1], 1)) ** 0.5
        gain = self.level * FULL_SCALE / max(speech_rms, 1e-9)
        mixed = clean * np.float32(gain)
        for event in self.events:  # their level is absolute
            part = slice(round(event.start_s * RATE_HZ), round(event.end_s * RATE_HZ))
            mixed[part] = clean[part]
        if self.snr_db is not None:
            noise_rms = self.level * FULL_SCALE * 10 ** (-self.snr_db / 20)
            mixed += np.float32(noise_rms) * steady_noise(len(mixed), self.colour, self.noise_chance)
        return np.asarray(np.clip(np.rint(mixed), -FULL_SCALE - 1, FULL_SCALE), np.int16)


def true_words(text: str, speech: Speech) -> list[TrueWord]:
    """The words of a text as they stand there, each with the start of the first sound in its stretch of the text.

    espeak-ng says "of the" as one word; then the second has no time. Times count from the speech's start.
    """
    words = []
    place = 0
    events = sorted((word.text_start, word.start_s) for word in speech.words)
    for token in text.split():
        first = text.index(token, place)
        place = first + len(token)
        starts = [start_s for position, start_s in events if first <= position < place]
        words.append(TrueWord(text=token, start_s=min(starts, default=None), mark=ends_clause(token)))
    return words


def _word_before_gap(words: list[TrueWord], start_s: float, end_s: float, slack_s: float = 0.03) -> int | None:
    """The word that a silence follows: it lies at the start of the next word. None inside a word (a stop's closure)."""
    for i, word in enumerate(words[1:]):
        if word.start_s is not None and start_s - slack_s <= word.start_s <= end_s + slack_s:
            return i
    return None


def _shifted(word: TrueWord, offset_s: float) -> TrueWord:
    return word if word.start_s is None else word.model_copy(update={"start_s": _ms(offset_s + word.start_s)})


def _ms(seconds: float) -> float:
    """Seconds to the tenth of a millisecond, so that truth files read well."""
    return round(seconds, 4)
