"""Forced alignment by a CTC model: its frames' log probabilities, and our own Viterbi over them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from curation.engines.forced_alignment import (
    NO_LETTERS,
    NOT_IN_VOCABULARY,
    AlignedWord,
    AlignmentFailed,
    ForcedAligner,
    PocketSphinxAligner,
)
from curation.engines.open_clip_towers import declare_torchvision_operators
from curation.engines.viterbi import CtcPath, ctc_align
from curation.errors import EngineMissing
from curation.media.clips import SPEECH_RATE_HZ, Clip
from curation.paths import RecipePath
from curation.text.numbers import read_aloud
from curation.text.romanisation import LANGUAGE_PACKAGES, PACKAGES, romanise

_HOW_TO_GET = (
    "for example MMS (CC-BY-NC-4.0): `hf download MahmoudAshraf/mms-300m-1130-forced-aligner --local-dir mms`, then "
    "runtime: transformers, model_path: mms, blank: <blank>, romanise: true; or omniASR_CTC_300M (Apache-2.0) as ONNX: "
    "https://k2-fsa.github.io/sherpa/onnx/omnilingual-asr/models.html, then model_path: model.onnx, "
    "vocabulary_path: tokens.txt, romanise: false"
)


@dataclass(frozen=True)
class CtcAligner(ForcedAligner):
    """A CTC acoustic model over characters, such as MMS (Pratap et al. 2023, section 3.1) or omniASR.

    The model takes [1, samples] float32 at 16 kHz and gives [1, frames, vocabulary] scores. Long audio is heard in
    windows with context on both sides. Words that the vocabulary cannot spell are laid on a wildcard that scores as the
    best token of each frame, so that their neighbours keep their times.
    """

    version: ClassVar[int] = 2
    code_licence: ClassVar[str] = "Apache-2.0"
    limits: ClassVar[str] = (
        "CTC peaks late in a word's first sound and early in its last; times lie on the model's grid."
    )

    engine: Literal["ctc"] = "ctc"
    runtime: Literal["onnx", "transformers"] = "onnx"
    """`onnx`: a file. `transformers`: a folder with config.json and model.safetensors; no code from it is run."""
    model_path: RecipePath = ""
    vocabulary_path: RecipePath = ""
    """vocab.json (token to id, or a list) or tokens.txt (a token a line, perhaps with its id). With `transformers` the
    folder's own vocab.json, if this is empty."""
    licence: str = "unknown"
    """SPDX identifier of the weights, as their publisher states it."""
    blank: str = "<blank>"
    word_delimiter: str = "|"
    """Put between spaced words where the vocabulary has it."""
    romanise: bool = True
    """Whether the vocabulary is a-z and text is romanised to it; else text is spelt as it is, in either case."""
    normalise_waveform: bool = True
    """Zero mean and unit variance over the clip, which wav2vec 2.0 models with layer norm are trained on."""
    window_s: float = 30.0
    context_s: float = 2.0
    """Audio heard on each side of a window and thrown away; a clip no longer than all that is heard at once."""
    band: int = 256
    """Labels that the first search keeps; changes its cost alone."""
    start_shift_s: float = 0.0
    end_shift_s: float = 0.0

    def __post_init__(self) -> None:
        runtime = ("onnxruntime",) if self.runtime == "onnx" else ("torch", "transformers")
        reading = PACKAGES if self.romanise else ("num2words",)
        object.__setattr__(self, "packages", runtime + reading)
        object.__setattr__(self, "optional_packages", LANGUAGE_PACKAGES if self.romanise else ())
        object.__setattr__(self, "extra", "speech" if self.runtime == "onnx" else "ctc")
        object.__setattr__(self, "weights_licence", self.licence)

    def missing(self) -> str | None:
        if reason := super().missing():
            return reason
        absent = [name for name in ("model_path", "vocabulary_path") if name not in self.paths()]
        if absent:
            return f"engine ctc: {absent[0]} is not given; {self.how_to_get()}"
        return None

    def how_to_get(self) -> str:
        return _HOW_TO_GET

    def paths(self) -> dict[str, Path]:
        found = super().paths()
        if self.runtime == "transformers" and "model_path" in found and "vocabulary_path" not in found:
            found["vocabulary_path"] = found["model_path"] / "vocab.json"
        return found

    def load(self) -> "CtcModel":
        paths = self.paths()
        vocabulary = read_vocabulary(paths["vocabulary_path"])
        if self.blank not in vocabulary:
            special = sorted(token for token in vocabulary if len(token) > 1)[:8]
            raise EngineMissing(f"engine ctc: the vocabulary has no blank {self.blank!r}; it has {special or 'none'}")
        score = _onnx(paths["model_path"]) if self.runtime == "onnx" else _transformers(paths["model_path"])
        return CtcModel(score, vocabulary, vocabulary[self.blank])

    def align_one(self, model: "CtcModel", clip: Clip, text: str) -> list[AlignedWord]:
        words = self.spell(model.vocabulary, text, clip.language)
        labels, owners, wildcard = _labels(words, model.vocabulary.get(self.word_delimiter), model.size)
        if not any(word.labels for word in words):
            raise AlignmentFailed("no word of the text can be spelt with the vocabulary" if words else "no words")
        log_probs = self.log_probs(model, clip)
        if wildcard:
            others = np.delete(log_probs, model.blank, axis=1).max(axis=1, keepdims=True)
            log_probs = np.concatenate([log_probs, others], axis=1)
        path = ctc_align(log_probs, labels, model.blank, band=self.band)
        heard = path_scores(log_probs, labels, model.blank, path)
        aligned: list[AlignedWord] = []
        for index, word in enumerate(words):
            if word.untimed:
                aligned.append(AlignedWord(word.text, None, None, None, word.untimed))
                continue
            own = np.flatnonzero(owners == index)
            first, after = int(path.starts[own[0]]), int(path.ends[own[-1]])
            start = _ticks(first * model.hop, self.start_shift_s, clip)
            end = _ticks(after * model.hop, self.end_shift_s, clip)
            aligned.append(AlignedWord(word.text, start, max(start, end), float(heard[first:after].mean()), None))
        return aligned

    def spell(self, vocabulary: dict[str, int], text: str, language: str | None) -> list["SpeltWord"]:
        """Each written word of a text with its labels, or why it has none."""
        read: list[tuple[str, bool, tuple[str, ...]]]
        if self.romanise:
            tokens = romanise(text, language)
            read = [(token.text, token.spaced, (token.letters,) if token.letters else ()) for token in tokens]
        else:
            read = [(word.text, word.spaced, word.spoken) for word in read_aloud(text, language)]
        spelt: list[SpeltWord] = []
        for written, spaced, said in read:
            ids = [_ids(vocabulary, part) for part in said]
            labels = tuple(_joined([part for part in ids if part], vocabulary.get(self.word_delimiter)))
            reason = None if labels else NOT_IN_VOCABULARY if said or _has_digit(written) else NO_LETTERS
            spelt.append(SpeltWord(written, spaced, labels, reason))
        return spelt

    def log_probs(self, model: "CtcModel", clip: Clip) -> NDArray[np.float32]:
        """Log probabilities [frames, vocabulary] of a clip, window by window where it is long.

        Raises:
            AlignmentFailed: the model cannot hear a clip as short as this.
        """
        wave = clip.samples.astype(np.float32) / np.float32(32768)
        if self.normalise_waveform and len(wave):
            wave = ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).astype(np.float32)
        window, context = (max(1, round(s * SPEECH_RATE_HZ / model.hop)) for s in (self.window_s, self.context_s))
        total, pieces, first = len(wave), [], 0
        while True:
            last = total - (first + window) * model.hop <= context * model.hop
            left = min(first, context)
            stop = total if last else (first + window + context) * model.hop
            heard = model.score(wave[(first - left) * model.hop : stop], clip)
            pieces.append(heard[left:] if last else heard[left : left + window])
            if last:
                return np.concatenate(pieces)
            first += window


AnyAligner = Annotated[PocketSphinxAligner | CtcAligner, pydantic.Discriminator("engine")]
"""The type of a recipe's key that holds an aligner."""


@dataclass(frozen=True)
class SpeltWord:
    """A written word, the labels that spell it, and why it has none."""

    text: str
    spaced: bool
    labels: tuple[int, ...]
    untimed: str | None


class CtcModel:
    """A loaded model with its vocabulary; `hop` is the number of samples from one frame to the next."""

    def __init__(
        self, scores: Callable[[NDArray[np.float32]], NDArray[np.float32]], vocabulary: dict[str, int], blank: int
    ) -> None:
        self._scores, self.vocabulary, self.blank = scores, vocabulary, blank
        short, long = (scores(np.zeros(s * SPEECH_RATE_HZ, np.float32)).shape for s in (1, 3))
        frames = long[0] - short[0]
        if frames <= 0 or 2 * SPEECH_RATE_HZ % frames:
            raise EngineMissing(f"engine ctc: the model gives {short[0]} and {long[0]} frames for 1 and 3 s of audio")
        self.hop, self.size = 2 * SPEECH_RATE_HZ // frames, short[1]
        if max(vocabulary.values()) >= self.size:
            raise EngineMissing(
                f"engine ctc: the vocabulary counts to {max(vocabulary.values())}, the model has {self.size} outputs"
            )

    def score(self, wave: NDArray[np.float32], clip: Clip) -> NDArray[np.float32]:
        """Log softmax of the model's scores, [frames, vocabulary]."""
        try:
            scores = self._scores(wave)
        except Exception as error:
            raise AlignmentFailed(f"the model cannot hear this clip of {clip.duration_s:.3f} s: {error}") from error
        scores = scores - scores.max(axis=1, keepdims=True)
        normalised: NDArray[np.float32] = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return normalised


def read_vocabulary(path: Path) -> dict[str, int]:
    """Tokens and their ids, from JSON (a mapping or a list) or from text (a token a line, perhaps with its id).

    Raises:
        EngineMissing: the file is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            tokens = json.loads(text)
            return {str(t): int(i) for t, i in (tokens.items() if isinstance(tokens, dict) else zip(tokens, count()))}
        lines = [line for line in text.split("\n") if line]
        split = [line.rsplit(maxsplit=1) if line[0] != " " else [" ", line.strip()] for line in lines]
        if all(len(parts) == 2 and parts[1].isdecimal() for parts in split):
            return {token: int(number) for token, number in split}
        return {line.strip(): index for index, line in enumerate(lines)}
    except (UnicodeDecodeError, ValueError, TypeError) as error:
        raise EngineMissing(f"engine ctc: {path} is not a vocabulary: {error}") from error


def path_scores(
    log_probs: NDArray[np.float32], labels: NDArray[np.int64], blank: int, path: CtcPath
) -> NDArray[np.float32]:
    """The log probability of what the path emits in each frame, [frames]."""
    scores = log_probs[:, blank].copy()
    for label, start, end in zip(labels, path.starts, path.ends, strict=True):
        scores[start:end] = log_probs[start:end, label]
    return scores


def _labels(
    words: list[SpeltWord], delimiter: int | None, wildcard: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """The labels of a text, the word that owns each (-1: none), and whether the wildcard is among them."""
    labels: list[int] = []
    owners: list[int] = []
    for index, word in enumerate(words):
        if word.untimed == NO_LETTERS:
            continue
        own = word.labels or (wildcard,)
        if own == (wildcard,) and labels and labels[-1] == wildcard:
            continue
        if word.spaced and delimiter is not None and labels:
            labels.append(delimiter)
            owners.append(-1)
        labels += own
        owners += [index] * len(own)
    return np.array(labels, np.int64), np.array(owners, np.int64), wildcard in labels


def _ids(vocabulary: dict[str, int], word: str) -> list[int]:
    """The ids of a word's characters; a character that no case of it is in the vocabulary is left out."""
    cases = ((char, char.upper(), char.lower()) for char in word)
    return [vocabulary[known[0]] for forms in cases if (known := [form for form in forms if form in vocabulary])]


def _joined(parts: list[list[int]], delimiter: int | None) -> list[int]:
    labels: list[int] = []
    for part in parts:
        labels += [delimiter] if labels and delimiter is not None else []
        labels += part
    return labels


def _has_digit(word: str) -> bool:
    return any(c.isdecimal() for c in word)


def _ticks(samples: int, shift_s: float, clip: Clip) -> int:
    return min(max(samples + round(shift_s * SPEECH_RATE_HZ), 0), len(clip.samples))


def _onnx(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """An ONNX model as a function of a waveform, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised; its log would only repeat it
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineMissing(f"engine ctc: {path} is not an ONNX model that can be run: {error}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 2:
        shapes = {i.name: i.shape for i in inputs}
        raise EngineMissing(f"engine ctc: {path} must take one input [1, samples], it takes {shapes}")

    def scores(wave: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = session.run(None, {inputs[0].name: wave[None]})[0][0]
        return output

    return scores


def _transformers(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A checkpoint folder as a function of a waveform, on one thread; only its safetensors are read."""
    import torch

    if find_spec("torchvision"):  # transformers imports it, and it may have been built for another torch
        declare_torchvision_operators()
    from transformers import AutoModelForCTC  # type: ignore[import-untyped,import-not-found,unused-ignore]

    torch.set_num_threads(1)
    try:
        model: Any = AutoModelForCTC.from_pretrained(
            str(path), local_files_only=True, use_safetensors=True, trust_remote_code=False, torch_dtype=torch.float32
        )
    except Exception as error:
        raise EngineMissing(f"engine ctc: {path} is not a CTC checkpoint in safetensors: {error}") from error
    model.eval()

    def scores(wave: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: NDArray[np.float32] = model(torch.from_numpy(wave[None].copy())).logits[0].numpy()
        return output

    return scores
