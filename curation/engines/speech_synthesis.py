"""Speech synthesis: text and a voice in, samples with the start of each word out."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from curation.engines.engine import Engine, loaded
from curation.engines.espeak_server import frame, read_frame
from curation.errors import CurateError

VOICE_NAME = re.compile(r"[A-Za-z0-9-]{1,32}(\+[A-Za-z0-9-]{1,32})?")
"""A language and perhaps a variant; nothing that espeak-ng could take for a path."""


class SynthesisError(CurateError):
    """An utterance that cannot be spoken. The message says why."""


@dataclass(frozen=True)
class SpokenWord:
    """A stretch of the text (in characters from 0) and when its sound starts. Merged words share one stretch."""

    text_start: int
    text_length: int
    start_s: float


@dataclass(frozen=True, eq=False)
class Speech:
    """A spoken text: mono int16 samples, their rate, and its words in the order of their sound."""

    samples: NDArray[np.int16]
    rate_hz: int
    words: tuple[SpokenWord, ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


class SpeechSynthesiser(Engine):
    """The protocol of this capability."""

    def speak(self, text: str, voice: str, *, rate_wpm: int = 175, pitch: int = 50) -> Speech:
        """Speak a text. The same arguments give the same samples, whatever was spoken before.

        Raises:
            SynthesisError: this text cannot be spoken with this voice.
        """
        raise NotImplementedError(f"engine {self.engine} does not speak")


@dataclass(frozen=True)
class Espeak(SpeechSynthesiser):
    """espeak-ng, a formant synthesiser of a hundred languages, in a process of its own (it is GPL).

    Voices are a language with, perhaps, a variant: `en-us`, `en-gb`, `en-us+f3`, `cmn`. Each utterance is spoken by a
    process forked for it (see `espeak_server`), so results do not depend on what was spoken before.
    """

    packages: ClassVar[tuple[str, ...]] = ("espeakng-loader",)
    extra: ClassVar[str] = "espeak"
    code_licence: ClassVar[str] = "GPL-3.0-or-later"
    limits: ClassVar[str] = "Intelligible but plainly synthetic speech; word starts are its own, to the millisecond."

    engine: Literal["espeak-ng"] = "espeak-ng"
    pitch_range: int = 50
    """Liveliness of the melody, 0 to 100."""
    volume: int = 100
    """100 is the library's full range; more may clip."""
    word_gap: int = 0
    """Pause between words, in units of 10 ms at the default rate."""
    limit_s: float = 60.0
    """An utterance that takes longer to compute is given up."""

    def speak(self, text: str, voice: str, *, rate_wpm: int = 175, pitch: int = 50) -> Speech:
        """Speak a text.

        Args:
            text: plain text; markup is not interpreted.
            voice: a language with, perhaps, `+variant`.
            rate_wpm: 80 to 450 words per minute.
            pitch: base pitch, 0 to 100.

        Raises:
            SynthesisError: the voice does not exist, or the text makes no sound, hangs or crashes the library.
        """
        if not VOICE_NAME.fullmatch(voice):
            raise SynthesisError(f"{voice!r} is not the name of a voice, such as en-us or en-us+f3")
        if not 80 <= rate_wpm <= 450 or not 0 <= pitch <= 100:
            raise SynthesisError(f"rate {rate_wpm} wpm or pitch {pitch} is outside 80-450 and 0-100")
        request = {
            "text": text.replace("\0", " "),
            "voice": voice,
            "rate_wpm": rate_wpm,
            "pitch": pitch,
            "pitch_range": self.pitch_range,
            "volume": self.volume,
            "word_gap": self.word_gap,
            "limit_s": self.limit_s,
        }
        header, pcm = loaded(self).ask(request)
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.int16)
        if not samples.any():
            raise SynthesisError(f"espeak-ng makes no sound of {text[:80]!r}")
        words = tuple(SpokenWord(first, length, ms / 1000) for first, length, ms in header["words"])
        return Speech(samples, header["rate_hz"], words)

    def load(self) -> "EspeakServer":
        return EspeakServer()


class EspeakServer:
    """The helper process of this process, started on the first request and again if it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """One utterance: the header and the samples' bytes.

        Raises:
            SynthesisError: the request failed, or the helper process ended before it answered.
        """
        with self._lock:
            process = self._running()
            try:
                body, pcm = _exchange(process, frame(json.dumps(request).encode()))
            except BaseException:
                _ended(process)  # an answer that nobody took must not meet the next request
                raise
            if body is None:
                raise SynthesisError(f"the espeak-ng process ended with code {_ended(process)}")
        if "error" in body:
            raise SynthesisError(f"{body['error']}, at {request['text'][:80]!r}")
        return body, pcm

    def close(self) -> None:
        """End the helper process, if it runs."""
        with self._lock:
            if self._process is not None and self._owner == os.getpid():
                _ended(self._process)
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; a fork of ours must not share its parent's, whose pipes would interleave."""
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is not None:
            _ended(self._process)
            self._process = None
        if self._process is None or self._owner != os.getpid():
            self._owner = os.getpid()
            root = Path(__file__).resolve().parents[2]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "curation.engines.espeak_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=root,
            )
        return self._process


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Header and samples that answer a request; None where the process ended before it had answered."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except BrokenPipeError:
        return None, b""
    answer = read_frame(process.stdout)
    if answer is None:
        return None, b""
    header = json.loads(answer)
    pcm = process.stdout.read(header.get("bytes", 0))
    return (header, pcm) if len(pcm) == header.get("bytes", 0) else (None, b"")


def _ended(process: subprocess.Popen[bytes]) -> int:
    """End a process if it runs, close its pipes, and return its exit code."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was not sent has nobody left to read it
                pipe.close()
    return process.wait()
