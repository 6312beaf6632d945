"""pocketsphinx as a recogniser: a decoder for a language model or a grammar, and what it hears in one utterance."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import EngineMissing

LEAST_PROBABILITY = 1e-12
"""What a posterior of zero, which only means too small to be held, counts as in a logarithm."""


@dataclass(frozen=True)
class Hearing:
    """What a decoder heard, and how sure it is."""

    text: str
    mean_log_posterior: float | None
    """Mean over the words of the logarithm of each one's posterior in the lattice; None where no word was heard."""


def recognising_decoder(**settings: Any) -> Any:
    """A decoder with the given settings of pocketsphinx (None: its own default), which logs nothing.

    Raises:
        EngineMissing: with the decoder's own words about the file that it cannot use.
    """
    from pocketsphinx import Decoder

    given = {name: value for name, value in settings.items() if value is not None}
    try:
        return Decoder(**given, loglevel="FATAL", logfn="/dev/null")
    except (RuntimeError, ValueError) as error:
        raise EngineMissing(f"engine pocketsphinx: {_complaint(given) or error}") from error


def recognise(decoder: Any, samples: NDArray[np.int16]) -> Hearing:
    """Decode one utterance (mono, 16 kHz), whatever the decoder heard before."""
    decoder.reinit_feat()  # forgets the cepstral mean and the noise of earlier utterances
    decoder.start_utt()
    try:
        decoder.process_raw(samples.tobytes(), full_utt=True)
    finally:
        decoder.end_utt()
    hypothesis = decoder.hyp()
    if hypothesis is None or not hypothesis.hypstr:
        return Hearing("", None)
    words = [segment for segment in decoder.seg() if not segment.word.startswith(("<", "[", "("))]
    log_posteriors = [math.log(max(word.prob, LEAST_PROBABILITY)) for word in words]
    return Hearing(hypothesis.hypstr, sum(log_posteriors) / len(words) if words else None)


def with_noise_floor(samples: NDArray[np.int16], floor_db: float) -> NDArray[np.int16]:
    """The samples with white noise `floor_db` below their own level, but at least one step; the same for every clip."""
    level = math.sqrt(float(np.mean(np.square(samples, dtype=np.float64)))) * 10 ** (-floor_db / 20)
    noise = np.random.default_rng(0).standard_normal(len(samples)) * max(level, 1.0)
    return np.clip(np.rint(samples + noise), -32768, 32767).astype(np.int16)


def _complaint(settings: dict[str, Any]) -> str:
    """The errors that pocketsphinx logs while it refuses these settings."""
    from pocketsphinx import Decoder

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        try:
            Decoder(**settings, loglevel="ERROR", logfn=str(log))
        except (RuntimeError, ValueError):
            lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
            return "; ".join(line.partition(": ")[2].strip() or line for line in lines[:3])
    return ""
