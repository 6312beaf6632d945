"""Voice activity against its peers, in one process, on one thread, over the same frames.

Ours is `Silero.probabilities`; the peers are the two that the silero-vad package ships: its streaming ONNX wrapper
(one call per frame) and its sequence model. Runs are interleaved, so that a busy machine slows all of them alike;
figures are medians of CPU seconds. Wants torch, which the peers import.

    python benchmarks/voice_activity.py [--seconds 600] [--rounds 5] [--json]
"""

import argparse
import json
import sys
from collections.abc import Callable
from statistics import median
from time import process_time

import numpy as np
from numpy.typing import NDArray

from curation.engines.voice_activity import Silero
from curation.media.clips import SPEECH_RATE_HZ

BLOCK = 16 * SPEECH_RATE_HZ
"""Samples per block that ours is given, as a decoder would."""


def sound(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    """Bursts of voiced harmonics, tones and silence in noise. What it says does not matter: the work is the same."""
    draw = np.random.default_rng(seed)
    t = np.arange(round(seconds * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    pitch = 2 * np.pi * np.cumsum(130 + 30 * np.sin(2 * np.pi * 0.7 * t)) / SPEECH_RATE_HZ
    voice = sum(np.sin(k * pitch) / k for k in range(1, 16))
    gate = (np.sin(2 * np.pi * 0.21 * t) > 0) * (1 + np.sin(2 * np.pi * 4.1 * t))
    tone = np.sin(2 * np.pi * 1000 * t) * (np.sin(2 * np.pi * 0.05 * t) > 0.9)
    mixed: NDArray[np.int16] = (1500 * voice * gate + 2000 * tone + 200 * draw.standard_normal(len(t))).astype(np.int16)
    return mixed


def contenders(samples: NDArray[np.int16]) -> dict[str, Callable[[], NDArray[np.float32]]]:
    """The three, loaded; each returns one probability per frame."""
    import torch
    from silero_vad import load_silero_vad

    torch.set_num_threads(1)
    wrapper = load_silero_vad(onnx=True)
    sequence = load_silero_vad(sequence=True)
    engine = Silero()
    blocks = [samples[start : start + BLOCK] for start in range(0, len(samples), BLOCK)]
    size = engine.frame_samples

    def ours() -> NDArray[np.float32]:
        return engine.probabilities(blocks)

    def streaming_wrapper() -> NDArray[np.float32]:
        wrapper.reset_states()
        audio = torch.from_numpy(samples.astype(np.float32) / np.float32(2**15))
        audio = torch.nn.functional.pad(audio, (0, -len(audio) % size))
        frames = [wrapper(audio[start : start + size], SPEECH_RATE_HZ).item() for start in range(0, len(audio), size)]
        return np.array(frames, np.float32)

    def sequence_model() -> NDArray[np.float32]:
        found: NDArray[np.float32] = sequence.audio_forward(samples.astype(np.float32) / np.float32(2**15))
        return found

    return {"ours": ours, "streaming_wrapper": streaming_wrapper, "sequence_model": sequence_model}


def measure(seconds: float, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each, and how many times ours each of the peers takes.

    Raises:
        SystemExit: the probabilities are not the same.
    """
    samples = sound(seconds)
    runs = contenders(samples)
    found = {name: run() for name, run in runs.items()}
    if not np.array_equal(found["ours"], found["sequence_model"]):
        sys.exit("ours and the sequence model differ")
    if not np.allclose(found["ours"], found["streaming_wrapper"], rtol=0, atol=1e-3):
        sys.exit("ours and the streaming wrapper differ by more than 1e-3")
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = process_time()
            run()
            spent[name].append(process_time() - start)
    figures = {f"{name}_cpu_s": median(times) for name, times in spent.items()}
    ours = figures["ours_cpu_s"]
    return {
        "audio_s": seconds,
        "frames": len(found["ours"]),
        **figures,
        "wrapper_over_ours": figures["streaming_wrapper_cpu_s"] / ours,
        "ours_over_sequence": ours / figures["sequence_model_cpu_s"],
        "audio_hours_per_core_hour": seconds / ours,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=600, help="length of the sound")
    arguments.add_argument("--rounds", type=int, default=5, help="runs of each, interleaved")
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    chosen = arguments.parse_args()
    figures = measure(chosen.seconds, chosen.rounds)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:10.3f}")
    print("targets: wrapper_over_ours >= 2, ours_over_sequence <= 1.1")


if __name__ == "__main__":
    main()
