"""A corpus of long recordings whose truth is known, because espeak-ng speaks it.

Recordings hold utterances of several voices and rates, pauses of 0.2 s to 20 s, steady noise at known levels, sounds
that are not speech, and subtitles with planted faults. A seed gives the same bytes each time.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from curation.engines.speech_synthesis import Espeak, SpeechSynthesiser
from curation.errors import SourceError
from curation.proving.cues import SUBTITLES
from curation.proving.domain_language import write_domain
from curation.proving.spoken_recording import RATE_HZ, CorpusSettings, RecordingMaker
from curation.proving.truth import Fault, RecordingTruth, Truth, UtteranceTruth, write_truth

ENCODINGS: dict[str, tuple[str, str, int, int | None]] = {
    "wav": ("wav", "pcm_s16le", 22_050, None),
    "flac": ("flac", "flac", 16_000, None),
    "opus": ("ogg", "libopus", 48_000, 48_000),
    "mp3": ("mp3", "libmp3lame", 44_100, 96_000),
}
"""Per extension: container, codec, rate in Hz, bits per second. None of them shifts times (measured: under 1 ms)."""


Card = TypeVar("Card")
PACK = 100
"""Cues after which every kind of fault has had its share."""

ESPEAK = Espeak()
DEFAULTS = CorpusSettings()


def make_corpus(
    folder: Path | str,
    *,
    seed: int = 0,
    hours: float = 0.25,
    recordings: int | None = None,
    settings: CorpusSettings = DEFAULTS,
    synthesiser: SpeechSynthesiser = ESPEAK,
) -> Truth:
    """Write recordings, subtitles, truth, and the language's model and dictionary to a folder.

    Args:
        hours: length of all recordings together, about.
        recordings: their number; None leaves it to `recording_s`.

    Raises:
        EngineMissing: espeak-ng, or pocketsphinx (for its dictionary), is not installed.
        SourceError: the folder holds files already.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SourceError(f"{folder} is not empty; a corpus requires a folder of its own")
    planted = [fault for fault in settings.faults for _ in range(round(PACK * settings.fault_share))]
    faults: Iterator[Fault | None] = _dealt([*planted, *[None] * max(0, PACK - len(planted))], f"{seed} faults")
    voices, noises = _dealt(settings.voices, f"{seed} voices"), _dealt(settings.noises, f"{seed} noises")
    texts: list[str] = []
    truths: list[RecordingTruth] = []
    utterances: list[UtteranceTruth] = []
    for number, target_s in enumerate(_lengths(settings, seed, hours, recordings)):
        maker = RecordingMaker(
            number, (next(voices), next(noises)), target_s, seed, settings, synthesiser, faults, texts
        )
        samples = maker.make()
        _write(folder, maker, samples)
        truths.append(maker.truth(len(samples) / RATE_HZ))
        utterances += maker.utterances
    write_domain(folder)
    about = {"seed": seed, "hours": hours, "settings": asdict(settings), "synthesiser": synthesiser.fingerprint()}
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


def _dealt(cards: Sequence[Card], seed: str) -> Iterator[Card]:
    """Without end, as from a pack shuffled each time it is used up; so each card has its share in a long run."""
    chance = random.Random(seed)
    while True:
        yield from chance.sample(cards, len(cards))


def _write(folder: Path, maker: RecordingMaker, samples: NDArray[np.int16]) -> None:
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
