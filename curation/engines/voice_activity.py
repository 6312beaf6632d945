"""Voice activity: 16 kHz sound in, one probability of speech per frame out."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from curation.engines.engine import Engine, loaded


@dataclass(frozen=True)
class VoiceActivity(Engine):
    """Gives the probability of speech in each frame. Where speech begins and ends is decided elsewhere."""

    frame_samples: ClassVar[int]
    """Length of a frame, in samples at 16 kHz."""

    @abstractmethod
    def probabilities(self, blocks: Iterable[NDArray[np.int16]]) -> NDArray[np.float32]:
        """One probability per frame of the recording whose consecutive blocks these are.

        State is carried from block to block, so the result does not depend on where the blocks were cut; besides the
        result, memory is for some blocks only. The last frame is filled up with silence.
        """


@dataclass(frozen=True)
class Silero(VoiceActivity):
    """Silero VAD 6, its sequence model in ONNX: many frames per call, the same bits as `SileroVADSequence`.

    The package's model file is run directly: importing the package would import torch.
    """

    packages: ClassVar[tuple[str, ...]] = ("silero-vad", "onnxruntime")
    extra: ClassVar[str] = "speech"
    code_licence: ClassVar[str] = "MIT"
    weights_licence: ClassVar[str] = "MIT"
    limits: ClassVar[str] = "takes singing and shouting for speech at times, and ends a word some 90 ms late"
    frame_samples: ClassVar[int] = 512
    frames_per_call: ClassVar[int] = 512
    """Frames that one call of the model sees: memory and speed, never the result."""

    engine: Literal["silero"] = "silero"

    def missing(self) -> str | None:
        if reason := super().missing():
            return reason
        if _silero_model() is None:
            return f"engine silero: this silero-vad has no sequence model; pip install 'omni-curation[{self.extra}]'"
        return None

    def load(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(str(_silero_model()), options, providers=["CPUExecutionProvider"])

    def probabilities(self, blocks: Iterable[NDArray[np.int16]]) -> NDArray[np.float32]:
        session = loaded(self)
        hidden = np.zeros((1, 1, _STATE), np.float32)
        cell = np.zeros((1, 1, _STATE), np.float32)
        before = np.zeros(_CONTEXT_SAMPLES, np.float32)
        found = [np.zeros(0, np.float32)]
        for samples in _whole_frames(blocks, self.frame_samples, self.frames_per_call):
            frames = samples.reshape(-1, self.frame_samples).astype(np.float32) / np.float32(2**15)
            contexts = np.concatenate([before[None], frames[:-1, -_CONTEXT_SAMPLES:]])
            before = frames[-1, -_CONTEXT_SAMPLES:]
            heard = {"input": np.concatenate([contexts, frames], axis=1), "h": hidden, "c": cell}
            probabilities, hidden, cell = session.run(["speech_probs", "hn", "cn"], heard)
            found.append(probabilities.reshape(-1))
        return np.concatenate(found)


_STATE = 128
"""Width of silero's LSTM."""

_CONTEXT_SAMPLES = 64
"""The end of the frame before, which silero puts in front of each frame; zeros for the first."""


def _silero_model() -> Path | None:
    spec = find_spec("silero_vad")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    paths = [folder / "data" / "silero_vad_16k_sequence.onnx" for folder in folders]
    return next((path for path in paths if path.exists()), None)


def _whole_frames(
    blocks: Iterable[NDArray[np.int16]], frame_samples: int, frames_per_call: int
) -> Iterator[NDArray[np.int16]]:
    """The samples again in blocks of `frames_per_call` frames; the last has fewer, and its last frame is filled up."""
    size = frame_samples * frames_per_call
    buffer = np.zeros(size, np.int16)
    held = 0
    for block in blocks:
        taken = 0
        while taken < len(block):
            piece = block[taken : taken + size - held]
            buffer[held : held + len(piece)] = piece
            taken += len(piece)
            held += len(piece)
            if held == size:
                yield buffer
                held = 0
    if held:
        whole = -(-held // frame_samples) * frame_samples
        buffer[held:whole] = 0
        yield buffer[:whole]
