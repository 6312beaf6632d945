"""Speech recognition: clips in, transcripts out, one for each, none depending on its neighbours."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from curation.engines import pocketsphinx_models, whisper
from curation.engines.engine import Engine, loaded
from curation.errors import CurateError, EngineMissing
from curation.hashing import digest, file_digest
from curation.media.clips import Clip
from curation.meter import advance
from curation.paths import HubOrFolder, RecipePath, SizeOrCheckpoint


class NoSidecar(CurateError):
    """There are no subtitles for this clip."""


class LanguageUnknown(CurateError):
    """The recogniser does not know the clip's language."""


class ClipUnfit(CurateError):
    """The clip is empty, or longer than the recogniser hears at once."""


@dataclass(frozen=True)
class Transcript:
    """What a recogniser says of one clip; the fields of `schemas.speech.TRANSCRIPT`."""

    text: str
    language: str | None = None
    confidence: float | None = None
    no_speech: float | None = None
    compression: float | None = None
    recogniser: str | None = None


class SpeechRecogniser(Engine):
    """The protocol of this capability, and what its engines share."""

    def transcribe(self, clips: Sequence[Clip]) -> list[Transcript | Exception]:
        """One entry per clip, in order: its transcript, or the exception that this clip alone raised.

        Raises:
            EngineMissing: the engine cannot be loaded, whatever the clip.
        """
        return [self._attempt(clip) for clip in clips]

    def hear(self, clip: Clip) -> Transcript:
        """The transcript of one clip."""
        raise NotImplementedError(f"engine {self.engine} does not hear clip by clip")

    def _attempt(self, clip: Clip) -> Transcript | Exception:
        advance()
        try:
            return self.hear(clip)
        except (EngineMissing, MemoryError):
            raise
        except Exception as error:
            return error

    def _transcript(self, text: str, **figures: Any) -> Transcript:
        return Transcript(text, compression=whisper_compression_ratio(text), recogniser=self.engine, **figures)


def whisper_compression_ratio(text: str) -> float:
    """Bytes of the text in UTF-8 over those compressed by zlib (Whisper, section 4.5): above 2.4 it goes in loops.

    Whisper's own figure, to the bit. `text.repetition.compression_ratio` differs for scripts of several bytes a letter.
    """
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))


def spoken_language(given: str | None, known: frozenset[str], engine: str) -> str | None:
    """A language as an engine knows it: "en-US" as "en", None as None.

    Raises:
        LanguageUnknown: the engine does not know it.
    """
    if given is None:
        return None
    code = given.replace("_", "-").partition("-")[0].lower()
    if code not in known:
        raise LanguageUnknown(
            f"engine {engine} does not know the language {given!r}; it knows {', '.join(sorted(known))}"
        )
    return code


@dataclass(frozen=True)
class Sidecar(SpeechRecogniser):
    """Reads the subtitles beside a recording as the opinion of their author. It hears nothing."""

    limits: ClassVar[str] = "hears nothing: it reads subtitles, which may be edited, translated or late"

    engine: Literal["sidecar"] = "sidecar"

    def hear(self, clip: Clip) -> Transcript:
        """The clip's subtitle.

        Raises:
            NoSidecar: it has none.
        """
        if clip.subtitle is None:
            raise NoSidecar("no subtitles for this stretch")
        return self._transcript(clip.subtitle, language=clip.language)


@dataclass(frozen=True)
class PocketSphinx(SpeechRecogniser):
    """CMU pocketsphinx with a language model or a grammar of the domain: small, embedded, English by default.

    Its acoustic model was trained on rooms: speech without any noise (synthetic, or gated) loses words (WER .34
    where white noise 30 dB below the speech gives .02; measured on espeak speech), so that noise is added.
    Confidence is the mean log posterior of the words.
    """

    packages: ClassVar[tuple[str, ...]] = ("pocketsphinx",)
    extra: ClassVar[str] = "speech"
    code_licence: ClassVar[str] = "BSD-2-Clause"
    weights_licence: ClassVar[str] = "BSD-2-Clause"
    limits: ClassVar[str] = (
        "no open recogniser: with its own language model most words are wrong (WER .3 on clear short clips, .8 on "
        "synthetic speech); give a language model or a grammar of the domain; English unless other models are given"
    )

    engine: Literal["pocketsphinx"] = "pocketsphinx"
    language_model_path: RecipePath | None = None
    """An n-gram model, ARPA or binary. Words that the dictionary lacks are never heard."""
    grammar_path: RecipePath | None = None
    """A JSGF grammar, instead of a language model. Speech that does not fit it gives an empty transcript."""
    dictionary_path: RecipePath | None = None
    """Pronunciations; None is the CMU dictionary, whose 134,000 words take seconds to load (a domain's take none)."""
    acoustic_model_path: RecipePath | None = None
    """The folder of an acoustic model; None is en-us."""
    language: str = "en"
    """ISO 639-1 code of what these models speak."""
    noise_floor_db: float | None = 30.0
    """Level of the white noise that is added, in dB below the clip's own; None adds none."""
    beam: pydantic.PositiveFloat = 1e-48
    phone_beam: pydantic.PositiveFloat = 1e-48
    word_beam: pydantic.PositiveFloat = 7e-29
    """Paths less likely than the best by more than this factor are dropped: of states, at ends of phones, of words."""
    language_weight: pydantic.PositiveFloat = 6.5
    """Power of the language model's probabilities against the acoustic ones."""
    word_insertion: pydantic.PositiveFloat = 0.65
    """Factor per word: lower hears fewer words."""

    def __post_init__(self) -> None:
        if self.language_model_path and self.grammar_path:
            raise ValueError("give a language model or a grammar, not both")

    @property
    def languages(self) -> tuple[str, ...]:
        """What these models speak, and nothing else."""
        return (self.language,)

    def load(self) -> Any:
        """A decoder that can be used for any number of utterances."""
        return pocketsphinx_models.recognising_decoder(
            lm=self.language_model_path,
            jsgf=self.grammar_path,
            dict=self.dictionary_path,
            hmm=self.acoustic_model_path,
            beam=self.beam,
            pbeam=self.phone_beam,
            wbeam=self.word_beam,
            lw=self.language_weight,
            wip=self.word_insertion,
        )

    def hear(self, clip: Clip) -> Transcript:
        """The words of the clip, in the dictionary's spelling, without case and punctuation."""
        decoder = loaded(self)
        language = spoken_language(clip.language, frozenset({self.language}), self.engine)
        _check_length(clip, None)
        samples = clip.samples
        if self.noise_floor_db is not None:
            samples = pocketsphinx_models.with_noise_floor(samples, self.noise_floor_db)
        heard = pocketsphinx_models.recognise(decoder, samples)
        return self._transcript(heard.text, language=language or self.language, confidence=heard.mean_log_posterior)


@dataclass(frozen=True)
class WhisperRecogniser(SpeechRecogniser):
    """What the engines that run Whisper share: temperature 0 without fallback, one window of 30 s per clip."""

    extra: ClassVar[str] = "whisper"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "MIT"
    limits: ClassVar[str] = "writes fluent text for noise and silence too; clips of at most 30 s"

    model: str = "large-v3"
    device: Literal["cpu", "cuda"] = "cpu"
    language: str | None = None
    """ISO 639-1 code of all clips; None is each clip's own, or else is detected."""
    beam_size: pydantic.PositiveInt = 5

    @property
    def repeatable(self) -> bool:  # type: ignore[override]
        """Whether two calls give the same: on a CPU with one thread they do."""
        return self.device == "cpu"

    @property
    def label(self) -> str:
        """Engine and model."""
        return f"{self.engine}:{Path(self.model).stem if self.model.endswith('.pt') else Path(self.model).name}"

    def missing(self) -> str | None:
        """As for every engine; for weights the command that downloads them, which nothing here does."""
        if (reason := super().missing()) or self.paths():
            return reason
        return f"engine {self.engine}: the model {self.model} is not here; {self.how_to_get()}"

    def fingerprint(self) -> str:
        """Of the parameters and of the weights' content, wherever these lie."""
        contents = {name: file_digest(path) for name, path in self.paths().items() if path.exists()}
        return digest([Engine.fingerprint(replace(self, model="")), contents or self.model])

    def _request(self, clip: Clip, known: frozenset[str]) -> whisper.Request:
        _check_length(clip, whisper.WINDOW_S)
        return clip.samples, spoken_language(self.language or clip.language, known, self.engine)

    def _heard(self, heard: whisper.Heard) -> Transcript:
        return self._transcript(
            heard.text, language=heard.language, confidence=heard.mean_log_probability, no_speech=heard.no_speech
        )


@dataclass(frozen=True)
class FasterWhisper(WhisperRecogniser):
    """Whisper on CTranslate2 (faster-whisper).

    On a CPU, clip by clip, the same clip gives the same bytes; a GPU, or batches, take sums in another order.
    """

    packages: ClassVar[tuple[str, ...]] = ("faster-whisper", "ctranslate2", "tokenizers")

    engine: Literal["faster-whisper"] = "faster-whisper"
    model: HubOrFolder = "large-v3"
    """A folder with a converted model; or a size, or `owner/name`, that is in the hub's local cache."""
    compute_type: str = "int8"
    """Of the weights as CTranslate2 names it: int8, float32; on a GPU also float16, int8_float16, bfloat16."""
    batch_size: pydantic.PositiveInt = 1
    """Clips that are decoded together; the last batch is filled up with silence."""

    @property
    def repeatable(self) -> bool:  # type: ignore[override]
        """Whether two calls give the same: on a CPU with one thread, clip by clip."""
        return self.device == "cpu" and self.batch_size == 1

    def paths(self) -> dict[str, Path]:
        """The model's files; none where the model is not here."""
        folder = whisper.converted_folder(self.model) if self.model else None
        return whisper.converted_files(folder) if folder else {}

    def how_to_get(self) -> str:
        """The command that downloads the model, or where its name is a path the usual one."""
        repository = whisper.converted_repository(self.model)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            repository = whisper.CONVERTED["large-v3"]
        return f"`hf download {repository} --local-dir DIR` brings it, then `model: DIR`"

    def load(self) -> whisper.ConvertedWhisper:
        """The model, in this process."""
        return whisper.ConvertedWhisper(self.paths()["model.bin"].parent, self.device, self.compute_type)

    def transcribe(self, clips: Sequence[Clip]) -> list[Transcript | Exception]:
        """As the protocol says, `batch_size` clips at a time; where a batch fails, they are tried one by one."""
        model: whisper.ConvertedWhisper = loaded(self)
        known = model.languages()
        heard: dict[int, Transcript | Exception] = {}
        requests: dict[int, whisper.Request] = {}
        for i, clip in enumerate(clips):
            try:
                requests[i] = self._request(clip, known)
            except CurateError as refusal:
                heard[i] = refusal
        answers = model.decode_each(list(requests.values()), self.beam_size, self.batch_size)
        for i, answer in zip(requests, answers, strict=True):
            heard[i] = answer if isinstance(answer, Exception) else self._heard(answer)
        return [heard[i] for i in range(len(clips))]


@dataclass(frozen=True)
class OpenAIWhisper(WhisperRecogniser):
    """Whisper on torch, from a checkpoint as OpenAI publishes it; nothing that the checkpoint holds is executed."""

    packages: ClassVar[tuple[str, ...]] = ("openai-whisper", "torch")

    engine: Literal["openai-whisper"] = "openai-whisper"
    model: SizeOrCheckpoint = "large-v3"
    """A .pt file; or a size whose file is in openai-whisper's cache."""

    def paths(self) -> dict[str, Path]:
        """The checkpoint; nothing where it is not here."""
        checkpoint = whisper.checkpoint_file(self.model)
        return {"checkpoint": checkpoint} if checkpoint.is_file() else {}

    def how_to_get(self) -> str:
        """The command that downloads the model, or where its name is a path the usual one."""
        size = self.model if self.model in (*whisper.SIZES, *whisper.OTHER_NAMES) else "large-v3"
        return f"`python -c \"import whisper; whisper.load_model('{size}')\"` brings it, then `model: {size}`"

    def load(self) -> whisper.TorchWhisper:
        """The model, in this process."""
        return whisper.TorchWhisper(self.paths()["checkpoint"], self.device)

    def hear(self, clip: Clip) -> Transcript:
        """The transcript of one clip."""
        model: whisper.TorchWhisper = loaded(self)
        return self._heard(model.decode(self._request(clip, model.languages()), self.beam_size))


AnyRecogniser = Annotated[Sidecar | PocketSphinx | FasterWhisper | OpenAIWhisper, pydantic.Discriminator("engine")]
"""The type of a recipe's key that holds a recogniser."""


def _check_length(clip: Clip, longest_s: float | None) -> None:
    if len(clip.samples) == 0:
        raise ClipUnfit("the clip holds no samples")
    if longest_s is not None and clip.duration_s > longest_s:
        raise ClipUnfit(
            f"the clip is {clip.duration_s:.1f} s long, and Whisper hears {longest_s} s at once; cut segments shorter"
        )
