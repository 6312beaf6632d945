"""A corpus of long recordings whose truth is known, because espeak-ng speaks it.

Recordings hold utterances of several voices and rates, pauses of 0.2 s to 20 s, steady noise at known levels, sounds
that are not speech, and subtitles with planted faults. A seed gives the same bytes each time.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from curation.engines.engine import Engine
from curation.engines.speech_synthesis import Espeak, Speech, SpeechSynthesiser
from curation.proving.cues import SUBTITLES, Line
from curation.proving.domain_language import write_domain
from curation.proving.faults import faulty_text
from curation.proving.sentences import Grammar, ends_clause
from curation.proving.sounds import EVENTS, Samples, runs, sound_event, sounding, steady_noise
from curation.proving.truth import (
    FAULTS,
    Event,
    Fault,
    Interval,
    RecordingTruth,
    TruePause,
    TrueWord,
    Truth,
    UtteranceTruth,
    write_truth,
)

RATE_HZ = 22_050
"""What espeak-ng speaks at, and what recordings are mixed at."""

ENCODINGS: dict[str, tuple[str, str, int, int | None]] = {
    "wav": ("wav", "pcm_s16le", 22_050, None),
    "flac": ("flac", "flac", 16_000, None),
    "opus": ("ogg", "libopus", 48_000, 48_000),
    "mp3": ("mp3", "libmp3lame", 44_100, 96_000),
}
"""Per extension: container, codec, rate in Hz, bits per second. None of them shifts times (measured: under 1 ms)."""


@dataclass(frozen=True)
class CorpusSettings:
    """What the corpus is like. Weights need not sum to 1."""

    voices: tuple[str, ...] = ("en-us", "en-gb", "en-us+m3", "en-us+m1", "en-us+f2", "en-us+f5")
    rates_wpm: tuple[int, ...] = (150, 165, 180)
    noises: tuple[tuple[float | None, str], ...] = (
        *[(None, "white")] * 2,
        *[(20.0, "white"), (20.0, "pink")] * 2,
        *[(10.0, "pink"), (10.0, "white")],
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
    fault_share: float = 0.055
    """Share of cues per kind of fault; about 30 of each in an hour."""
    faults: tuple[Fault, ...] = FAULTS
    event_share: float = 0.06
    """Share of pauses that hold a sound that is not speech."""
    formats: tuple[str, ...] = ("wav", "flac", "opus", "mp3")
    subtitles: tuple[str, ...] = ("srt", "vtt", "json")
    long_pause_s: float = 0.1
    """Silence inside an utterance from this length is not speech."""
    min_pause_s: float = 0.03
    """Shortest silence between two words that counts as a pause."""


def make_corpus(
    folder: Path | str,
    *,
    seed: int = 0,
    hours: float = 0.25,
    recordings: int | None = None,
    settings: CorpusSettings = CorpusSettings(),
    synthesiser: SpeechSynthesiser = Espeak(),
) -> Truth:
    """Write recordings, subtitles, truth, and the language's model and dictionary to a folder.

    Args:
        hours: length of all recordings together, about.
        recordings: their number; None leaves it to `recording_s`.

    Raises:
        EngineMissing: espeak-ng, or pocketsphinx (for its dictionary), is not installed.
        FileExistsError: the folder holds files already.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; a corpus wants a folder of its own")
    cards = _cards(settings, seed)
    texts: list[str] = []
    truths: list[RecordingTruth] = []
    utterances: list[UtteranceTruth] = []
    for number, target_s in enumerate(_lengths(settings, seed, hours, recordings)):
        maker = _RecordingMaker(number, target_s, seed, settings, synthesiser, cards, texts)
        samples = maker.make()
        _write(folder, maker, samples)
        truths.append(maker.truth(len(samples) / RATE_HZ))
        utterances += maker.utterances
    write_domain(folder)
    fingerprint = synthesiser.fingerprint() if isinstance(synthesiser, Engine) else None
    about = {"seed": seed, "hours": hours, "settings": asdict(settings), "synthesiser": fingerprint}
    truth = Truth(recordings=tuple(truths), utterances=tuple(utterances), about=about)
    write_truth(truth, folder)
    return truth


def _lengths(settings: CorpusSettings, seed: int, hours: float, recordings: int | None) -> Iterator[float]:
    """Lengths of recordings in seconds; all that is left goes to the last."""
    shortest, longest = settings.recording_s
    left = hours * 3600
    if recordings is not None:
        yield from [left / recordings] * recordings
        return
    chance = random.Random(f"{seed} lengths")
    while left > longest:
        length = min(chance.uniform(shortest, longest), left - shortest)
        yield length
        left -= length
    yield left


def _cards(settings: CorpusSettings, seed: int) -> Iterator[Fault | None]:
    """Faults as from a shuffled pack of cards, so that each kind has its share in any long run."""
    chance = random.Random(f"{seed} faults")
    size = 200
    while True:
        planted = [fault for fault in settings.faults for _ in range(round(size * settings.fault_share))]
        pack: list[Fault | None] = [*planted, *[None] * max(0, size - len(planted))]
        chance.shuffle(pack)
        yield from pack


@dataclass
class _RecordingMaker:
    """Lays utterances, pauses and sounds on the time line of one recording."""

    number: int
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
        self.noise_chance = np.random.default_rng([self.seed, self.number])
        self.grammar = Grammar(name)
        self.voices = self.chance.sample(self.settings.voices, min(2, len(self.settings.voices)))
        self.snr_db, self.colour = self.settings.noises[self.number % len(self.settings.noises)]
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
        """What is spoken; a wrong pace wants a short utterance or a long one."""
        if fault == "pace":
            if self.chance.random() < 0.5:
                return self.grammar.short_sentence()
            return f"{self.grammar.sentence()} {self.grammar.sentence()}"
        if self.chance.random() < self.settings.two_sentences:
            return f"{self.grammar.sentence()} {self.grammar.sentence()}"
        return self.grammar.sentence()

    def _record(self, text: str, cue: str, fault: Fault | None, voice: str, speech: Speech) -> None:
        """Note when each word sounds and where the clean signal is silent."""
        frame_s = 0.005
        sound = [(first * frame_s, last * frame_s) for first, last in runs(sounding(speech.samples, RATE_HZ, frame_s=frame_s))]
        first_s, last_s = sound[0][0], sound[-1][1]
        offset = self.now / RATE_HZ
        words = true_words(text, speech)
        gaps = [(left[1], right[0]) for left, right in zip(sound, sound[1:], strict=False)]
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
                words=tuple(
                    word.model_copy(update={"start_s": _ms(offset + word.start_s)}) if word.start_s is not None else word
                    for word in words
                ),
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
        peak = 32_767 * self.chance.uniform(0.1, 0.5)
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
        gain = self.level * 32_767 / max(speech_rms, 1e-9)
        mixed = clean * np.float32(gain)
        for event in self.events:  # their level is absolute
            part = slice(round(event.start_s * RATE_HZ), round(event.end_s * RATE_HZ))
            mixed[part] = clean[part]
        if self.snr_db is not None:
            noise_rms = self.level * 32_767 * 10 ** (-self.snr_db / 20)
            mixed += np.float32(noise_rms) * steady_noise(len(mixed), self.colour, self.noise_chance)
        return np.clip(np.rint(mixed), -32_768, 32_767).astype(np.int16)


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


def _ms(seconds: float) -> float:
    """Seconds to the tenth of a millisecond, so that truth files read well."""
    return round(seconds, 4)


def _write(folder: Path, maker: _RecordingMaker, samples: NDArray[np.int16]) -> None:
    kind = maker.settings.subtitles[maker.number % len(maker.settings.subtitles)]
    (folder / maker.file).write_bytes(encoded(samples, RATE_HZ, maker.format))
    (folder / maker.file).with_suffix(f".{kind}").write_text(SUBTITLES[kind](maker.lines()), encoding="utf-8")


def encoded(samples: NDArray[np.int16], rate_hz: int, extension: str) -> bytes:
    """A recording's file, at the rate of its kind in `ENCODINGS`; the same samples give the same bytes."""
    container_name, codec, out_rate_hz, bit_rate = ENCODINGS[extension]
    options = {"flags": "+bitexact"} | ({"b": str(bit_rate)} if bit_rate else {})
    buffer = BytesIO()
    with av.open(buffer, "w", format=container_name, options={"fflags": "+bitexact"}) as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=out_rate_hz, options=options, layout="mono"))
        stream.codec_context.thread_count = 1
        resampler = AudioResampler(stream.codec_context.format.name, "mono", out_rate_hz)
        frame = AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        pieces: list[Any] = [*resampler.resample(frame), *resampler.resample(None)]
        for piece in pieces:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return buffer.getvalue()
