"""The sound of a sample, encoded once; packing copies these bytes."""

from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BeforeValidator

from curation.errors import RecipeError
from curation.media.audio import RATES_HZ
from curation.media.audio_encoding import OPUS_RATES_HZ, AudioFormat, check_audio_format, encode_audio
from curation.media.clips import SPEECH_RATE_HZ
from curation.media.spans import spans_in_turn
from curation.stage import Stage, fail, with_column


@dataclass(frozen=True)
class EncodeAudio(Stage):
    """Encode each sample's span as mono audio. Levels are as recorded: nothing is normalised.

    Attributes:
        format: flac (exact), opus (small) or wav. AAC is refused: it shifts speech by 64 ms.
        rate_hz: of the output; spans stay in ticks of 16 kHz.
    """

    format: Annotated[AudioFormat, BeforeValidator(check_audio_format)] = "flac"
    rate_hz: int = SPEECH_RATE_HZ

    reads = ("span",)
    writes = ("payload", "payload_bytes", "payload_rate_hz")
    locators = ("uri",)
    packages = ("av",)
    version = 2

    def __post_init__(self) -> None:
        check_audio_format(self.format)
        lowest, highest = RATES_HZ
        if not lowest <= self.rate_hz <= highest or (self.format == "opus" and self.rate_hz not in OPUS_RATES_HZ):
            raise RecipeError(f"audio.rate_hz: {self.format} is not written at {self.rate_hz} Hz")

    def __call__(self, samples: pa.Table) -> pa.Table:
        payloads, errors = self._encoded(samples.select(["uri", "span"]).to_pylist())
        sizes = [None if data is None else len(data) for data in payloads]
        samples = with_column(samples, "payload", payloads, pa.large_binary())
        samples = with_column(samples, "payload_bytes", sizes, pa.int64())
        samples = with_column(samples, "payload_rate_hz", [self.rate_hz] * len(payloads), pa.int32())
        return fail(samples, errors) if any(errors) else samples

    def _encoded(self, rows: list[dict[str, Any]]) -> tuple[list[bytes | None], list[BaseException | None]]:
        files: dict[tuple[str, str, int | None], list[int]] = {}
        for i, row in enumerate(rows):
            files.setdefault((row["uri"], row["span"]["source"], row["span"]["channel"]), []).append(i)
        payloads: list[bytes | None] = [None] * len(rows)
        errors: list[BaseException | None] = [None] * len(rows)
        for (uri, source, channel), places in files.items():
            spans = [self._ticks(rows[i]["span"]) for i in places]
            waiting = set(places)
            try:
                for number, samples in spans_in_turn(uri, source, spans, channel, rate_hz=self.rate_hz):
                    place = places[number]
                    waiting.remove(place)
                    try:
                        payloads[place] = encode_audio(samples, self.rate_hz, self.format)
                    except Exception as error:
                        errors[place] = error
            except Exception as error:
                for place in waiting:
                    errors[place] = error
        return payloads, errors

    def _ticks(self, span: dict[str, Any]) -> tuple[int, int]:
        """A span in ticks of the output's rate.

        Of its last tick only the beginning counts: a recording rarely ends on a tick, and at another rate the end of
        that tick may lie beyond the last sample.
        """
        start, last = span["start"], span["end"] - 1
        return start * self.rate_hz // SPEECH_RATE_HZ, last * self.rate_hz // SPEECH_RATE_HZ + 1
