"""A clip: decoded speech on its way to an engine."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPEECH_RATE_HZ = 16_000
"""Every speech engine here hears mono at this rate; spans of utterances count its ticks."""


@dataclass(frozen=True)
class Clip:
    """One utterance as engines hear it: mono int16 samples at 16 kHz, with what is known of it beforehand."""

    samples: NDArray[np.int16]
    language: str | None = None
    subtitle: str | None = None
    """The text of the subtitles for this stretch, or None."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SPEECH_RATE_HZ
