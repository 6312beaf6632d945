"""Whisper (Radford et al. 2022) on two runtimes: CTranslate2 (faster-whisper) and torch (openai-whisper).

Nothing here downloads: weights are files that are there. Each window of 30 s is decoded once, at temperature 0,
without time stamps and without the text of its neighbours, so a transcript depends on its clip alone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import EngineMissing
from curation.media.clips import SPEECH_RATE_HZ
from curation.meter import advance

WINDOW_S = 30
"""What Whisper's encoder hears at once; shorter audio is padded with zeros."""
NO_SAMPLES = np.zeros(0, np.int16)

Request = tuple[NDArray[np.int16], str | None]
"""At most 30 s of samples, and their language where that is known."""

ENGLISH_SIZES = ("tiny.en", "base.en", "small.en", "medium.en")
SIZES = ("tiny", "base", "small", "medium", "large-v1", "large-v2", "large-v3", "large-v3-turbo", *ENGLISH_SIZES)
OTHER_NAMES = {"large": "large-v3", "turbo": "large-v3-turbo"}
CONVERTED = {size: f"Systran/faster-whisper-{size}" for size in SIZES} | {
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
"""Where the weights of each size lie, converted to CTranslate2, on the Hugging Face hub."""

CONVERTED_FILES = ("model.bin", "config.json", "tokenizer.json")
"""Without its own tokenizer.json the library would ask the hub for one."""
OPTIONAL_FILES = ("preprocessor_config.json", "vocabulary.json", "vocabulary.txt")


@dataclass(frozen=True)
class Heard:
    """What Whisper says of one window."""

    text: str
    language: str
    mean_log_probability: float
    """Sum of the tokens' log probabilities over their number, the end of text counted as one of them."""
    no_speech: float
    """Probability of the token that stands for no speech."""


def window(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """At most 30 s of samples as Whisper's encoder requires them: 480,000 floats in [-1, 1), zeros after the end."""
    padded = np.zeros(WINDOW_S * SPEECH_RATE_HZ, np.float32)
    padded[: len(samples)] = samples.astype(np.float32) / 32768
    return padded


def converted_repository(model: str) -> str:
    """The repository on the hub that a size stands for; any other name stands for itself."""
    size = OTHER_NAMES.get(model, model)
    return CONVERTED.get(size, size)


def converted_folder(model: str) -> Path | None:
    """The folder of a CTranslate2 model: `model` itself, or the hub's local cache of it; None where neither is."""
    if Path(model).is_dir():
        return Path(model)
    try:
        from faster_whisper.utils import download_model
    except ImportError:
        return None
    try:
        return Path(download_model(converted_repository(model), local_files_only=True))
    except (OSError, ValueError):  # not in the cache; or no name that could be
        return None


def converted_files(folder: Path) -> dict[str, Path]:
    """The files of a CTranslate2 model that a transcript depends on: those it must have, and those it may have."""
    optional = {name: folder / name for name in OPTIONAL_FILES if (folder / name).exists()}
    return {name: folder / name for name in CONVERTED_FILES} | optional


def checkpoint_file(model: str) -> Path:
    """Where the checkpoint of a torch model lies, or would lie: `model` itself, or a size in openai-whisper's cache."""
    if model.endswith(".pt") or "/" in model:
        return Path(model)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "whisper" / f"{OTHER_NAMES.get(model, model)}.pt"


class ConvertedWhisper:
    """A Whisper model on CTranslate2, with one thread."""

    def __init__(self, folder: Path, device: str, compute_type: str) -> None:
        from faster_whisper import WhisperModel
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        try:
            self.model = WhisperModel(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=1,
                num_workers=1,
                local_files_only=True,
            )
            self.multilingual: bool = self.model.model.is_multilingual
            self.tokenizer = Tokenizer(self.model.hf_tokenizer, self.multilingual, "transcribe", "en")
            self.suppressed = list(get_suppressed_tokens(self.tokenizer, [-1]))
            bands = self.model.feat_kwargs.get("feature_size", 80)
            if bands != self.model.model.n_mels:
                raise ValueError(f"preprocessor_config.json gives {bands} mel bands, not {self.model.model.n_mels}")
        except Exception as error:  # three libraries read these files, each with errors of its own
            raise EngineMissing(f"the Whisper model in {folder} cannot be loaded: {_first_line(error)}") from error

    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes of the languages that it knows."""
        known = self.model.supported_languages
        return frozenset(code for code in known if not self.multilingual or self._token(f"<|{code}|>") is not None)

    def decode_each(self, requests: Sequence[Request], beam_size: int, batch_size: int) -> list[Heard | Exception]:
        """What is heard in each window, `batch_size` at a time; where a batch fails, they are tried one by one."""
        heard: list[Heard | Exception] = []
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            try:
                # Always the same shape, so that how many clips there are changes nothing.
                silence = [(NO_SAMPLES, "en")] * (batch_size - len(batch))
                heard += self.decode([*batch, *silence], beam_size)[: len(batch)]
                advance(len(batch))
            except MemoryError:
                raise
            except Exception as error:
                heard += [error] if batch_size == 1 else self.decode_each(batch, beam_size, 1)
        return heard

    def decode(self, requests: Sequence[Request], beam_size: int) -> list[Heard]:
        """Transcribe windows as one batch; a language that is None is detected."""
        from faster_whisper.transcribe import get_ctranslate2_storage

        features = [self.model.feature_extractor(window(samples), padding=0) for samples, _ in requests]
        encoded = self.model.model.encode(get_ctranslate2_storage(np.stack(features)))
        languages = self._settled([language for _, language in requests], encoded)
        answers = self.model.model.generate(
            encoded,
            [self._prompt(language) for language in languages],
            beam_size=beam_size,
            length_penalty=1,
            suppress_tokens=self.suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [self._heard(answer, language) for answer, language in zip(answers, languages, strict=True)]

    def _settled(self, languages: Sequence[str | None], encoded: Any) -> list[str]:
        if not self.multilingual:
            return ["en"] * len(languages)
        detected: list[str | None] = list(languages)
        if None in languages:
            detected = [
                ranked[0][0].removeprefix("<|").removesuffix("|>")
                for ranked in self.model.model.detect_language(encoded)
            ]
        return [given or str(found) for given, found in zip(languages, detected, strict=True)]

    def _prompt(self, language: str) -> list[int]:
        start = [self._token("<|startoftranscript|>")]
        if self.multilingual:
            start += [self._token(f"<|{language}|>"), self._token("<|transcribe|>")]
        return [*start, self._token("<|notimestamps|>")]

    def _heard(self, answer: Any, language: str) -> Heard:
        tokens = answer.sequences_ids[0]
        # The score is the sum over the number of tokens, to the power of the length penalty, which is 1.
        mean_log_probability = answer.scores[0] * len(tokens) / (len(tokens) + 1)
        return Heard(self.tokenizer.decode(tokens).strip(), language, mean_log_probability, answer.no_speech_prob)

    def _token(self, name: str) -> Any:
        return self.model.hf_tokenizer.token_to_id(name)


class TorchWhisper:
    """A Whisper model on torch, from a checkpoint as OpenAI publishes them, with one thread."""

    def __init__(self, checkpoint: Path, device: str) -> None:
        import torch
        from whisper.model import ModelDimensions, Whisper

        torch.set_num_threads(1)
        try:
            # A checkpoint is a pickle of a stranger: only tensors and plain values are taken from it, no code.
            stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
            self.model = Whisper(ModelDimensions(**stored["dims"]))
            self.model.load_state_dict(stored["model_state_dict"])
        except Exception as error:  # a damaged pickle raises whatever it likes
            raise EngineMissing(
                f"{checkpoint} is damaged, or no Whisper checkpoint (`dims` and `model_state_dict`, of plain values "
                f"and tensors alone): {type(error).__name__}"
            ) from error
        try:
            self.model.to(device).eval()
        except (AssertionError, RuntimeError) as error:
            raise EngineMissing(f"torch cannot use the device {device}: {_first_line(error)}") from error
        self.device = device
        self.multilingual: bool = self.model.is_multilingual

    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes of the languages that it knows."""
        from whisper.tokenizer import LANGUAGES

        return frozenset(list(LANGUAGES)[: self.model.num_languages]) if self.multilingual else frozenset({"en"})

    def decode(self, request: Request, beam_size: int) -> Heard:
        """Transcribe a window; a language that is None is detected."""
        from whisper import DecodingOptions, decode, log_mel_spectrogram

        samples, language = request
        options = DecodingOptions(
            language=language if self.multilingual else "en",
            temperature=0.0,
            beam_size=beam_size if beam_size > 1 else None,
            without_timestamps=True,
            fp16=self.device != "cpu",
        )
        mel = log_mel_spectrogram(window(samples), self.model.dims.n_mels, device=self.device)
        result = decode(self.model, mel, options)
        return Heard(result.text, result.language, result.avg_logprob, result.no_speech_prob)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
