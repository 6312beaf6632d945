"""A handful of spoken recordings, and the command on them: what tests of whole runs share."""

import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from curation.engines.speech_synthesis import Espeak
from curation.media.audio_encoding import encode_audio
from curation.media.clips import SPEECH_RATE_HZ
from dags.cli import main

READ_ALONG = ("--set", "second_opinion={engine: sidecar}")
"""Both opinions are the subtitles: for tests in which recognition is not the point."""

TEXTS = (
    "The harbour was quiet in the morning, and nobody had seen the boat.",
    "Seven men carried the heavy table down the stairs.",
    "She opened the letter, read it twice, and put it in the fire.",
    "Winter came early that year; the river froze before Christmas.",
)


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


def curate(*arguments: str) -> Answer:
    """The command, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", ["curate", *arguments]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ending:
            code = int(ending.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def run(source: Path | str, store: Path | str, *more: str, recipe: str = "speech-embedded") -> Answer:
    """`curate run` on the inline runner."""
    return curate("run", recipe, "--set", f"source.path={source}", "--store", str(store), "--runner", "inline", *more)


def audit(store: Path | str, sql: str, *more: str) -> list[dict[str, Any]]:
    """The rows that `curate audit` answers."""
    answer = curate("audit", "--store", str(store), "--json", *more, sql)
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


def spoken(texts: Sequence[str], pause_s: float = 0.5, *, lead_s: float = 0.4) -> NDArray[np.int16]:
    """Texts spoken with silence between, before and after, at 16 kHz."""
    pieces = [np.zeros(round(lead_s * SPEECH_RATE_HZ), np.int16)]
    for number, text in enumerate(texts):
        if number:
            pieces.append(np.zeros(round(pause_s * SPEECH_RATE_HZ), np.int16))
        speech = Espeak().speak(text, "en-us", rate_wpm=150)
        assert speech.rate_hz == 22050
        pieces.append(resampled(speech.samples, speech.rate_hz))
    return np.concatenate([*pieces, np.zeros(round(lead_s * SPEECH_RATE_HZ), np.int16)])


def resampled(samples: NDArray[np.int16], rate_hz: int) -> NDArray[np.int16]:
    """Speech at 16 kHz, by linear interpolation: good enough to be heard."""
    places = np.arange(len(samples) * SPEECH_RATE_HZ // rate_hz) * (rate_hz / SPEECH_RATE_HZ)
    between: NDArray[np.int16] = np.interp(places, np.arange(len(samples)), samples).astype(np.int16)
    return between


def write_sound(path: Path, samples: NDArray[np.int16], rate_hz: int = SPEECH_RATE_HZ) -> Path:
    """Samples as a file; its name says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_audio(samples, rate_hz, path.suffix.removeprefix(".")))
    return path


def write_subtitles(path: Path, cues: Sequence[tuple[float, float, str]]) -> Path:
    """Cues (start, end, text) as SubRip."""
    path.write_text("".join(f"{i}\n{_stamp(a)} --> {_stamp(b)}\n{text}\n\n" for i, (a, b, text) in enumerate(cues, 1)))
    return path


def _stamp(time_s: float) -> str:
    minutes, milliseconds = divmod(round(time_s * 1000), 60_000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"00:{minutes:02d}:{seconds:02d},{milliseconds:03d}"


def speak_corpus(folder: Path, count: int = len(TEXTS), suffix: str = ".wav") -> Path:
    """Recordings of one sentence each, with the sentence beside them as plain text."""
    for number, text in enumerate(TEXTS[:count]):
        write_sound(folder / f"good-{number}{suffix}", spoken([text]))
        (folder / f"good-{number}.txt").write_text(text)
    return folder
