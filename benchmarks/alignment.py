"""CTC alignment of 300 s: the banded Viterbi of `curation.engines.viterbi` against a plain numpy trellis.

    python benchmarks/alignment.py [--json] [--seconds 300] [--rounds 3] [--seed 0]

Both align the same labels to the same seeded log probabilities, and must find the same path. CPU time is the least of
interleaved rounds; memory is the peak that each allocates, inputs apart, in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.engines.viterbi import CtcPath, ctc_align

FRAMES_PER_S, LABELS_PER_S, VOCABULARY, BLANK = 50, 13.3, 32, 0
"""Of wav2vec 2.0, of brisk English, of MMS."""

Align = Callable[[NDArray[np.float32], NDArray[np.int64]], CtcPath]


def emissions(seconds: float, seed: int, contrast: float = 6.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Log probabilities [frames, vocabulary] with peaks where a random text is said, and that text's labels."""
    rng = np.random.default_rng(seed)
    frames, count = round(seconds * FRAMES_PER_S), round(seconds * LABELS_PER_S)
    labels = rng.integers(1, VOCABULARY, count)
    places = np.sort(rng.choice(frames // 2, count, replace=False)) * 2
    scores = rng.normal(size=(frames, VOCABULARY))
    scores[:, BLANK] += contrast
    scores[places, BLANK] -= contrast
    scores[places, labels] += contrast
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32), labels


def banded(log_probs: NDArray[np.float32], labels: NDArray[np.int64]) -> CtcPath:
    return ctc_align(log_probs, labels, BLANK)


def plain(log_probs: NDArray[np.float32], labels: NDArray[np.int64]) -> CtcPath:
    """The textbook trellis: a score for every frame and state, and a walk back that asks again where each came from."""
    frames, states = len(log_probs), 2 * len(labels) + 1
    extended = np.full(states, BLANK)
    extended[1::2] = labels
    skips = np.zeros(states, bool)
    skips[3::2] = labels[1:] != labels[:-1]
    trellis = np.full((frames, states), -np.inf, np.float32)
    trellis[0, :2] = log_probs[0, extended[:2]]
    for t in range(1, frames):
        best = trellis[t - 1].copy()
        best[1:] = np.maximum(best[1:], trellis[t - 1, :-1])
        best[2:] = np.maximum(best[2:], np.where(skips[2:], trellis[t - 1, :-2], -np.inf))
        trellis[t] = best + log_probs[t, extended]
    state = states - 1 if trellis[-1, -1] > trellis[-1, -2] else states - 2
    score = float(trellis[-1, state])
    path = np.empty(frames, np.int64)
    path[-1] = state
    for t in range(frames - 1, 0, -1):
        came_from = [state] + [state - 1] * (state >= 1) + [state - 2] * bool(skips[state])
        state = max(came_from, key=lambda s: float(trellis[t - 1, s]))
        path[t - 1] = state
    places = 2 * np.arange(len(labels)) + 1
    return CtcPath(np.searchsorted(path, places), np.searchsorted(path, places, side="right"), score)


ALIGNERS: dict[str, Align] = {"banded": banded, "plain": plain}


def peak_bytes(name: str, seconds: float, seed: int) -> int:
    """What one alignment allocates at its peak, measured in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", name, "--seconds", str(seconds), "--seed", str(seed)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measured(seconds: float, rounds: int, seed: int) -> dict[str, Any]:
    """CPU seconds, peak bytes and their ratios.

    Raises:
        SystemExit: the two paths differ.
    """
    log_probs, labels = emissions(seconds, seed)
    times: dict[str, list[float]] = {name: [] for name in ALIGNERS}
    paths: dict[str, CtcPath] = {}
    for _ in range(rounds):
        for name, align in ALIGNERS.items():
            start = time.process_time()
            paths[name] = align(log_probs, labels)
            times[name].append(time.process_time() - start)
    ours, theirs = paths["banded"], paths["plain"]
    if not ((ours.starts == theirs.starts).all() and (ours.ends == theirs.ends).all()):
        raise SystemExit("the two paths differ")
    result: dict[str, Any] = {"seconds": seconds, "frames": len(log_probs), "labels": len(labels), "same_path": True}
    for name in ALIGNERS:
        result[name] = {"cpu_s": min(times[name]), "peak_mb": peak_bytes(name, seconds, seed) / 1e6}
    result["times_faster"] = result["plain"]["cpu_s"] / result["banded"]["cpu_s"]
    result["times_smaller"] = result["plain"]["peak_mb"] / result["banded"]["peak_mb"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=300.0, help="length of the audio")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peak-of", choices=sorted(ALIGNERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        log_probs, labels = emissions(options.seconds, options.seed)
        tracemalloc.start()
        ALIGNERS[options.peak_of](log_probs, labels)
        print(tracemalloc.get_traced_memory()[1])
        return
    result = measured(options.seconds, options.rounds, options.seed)
    if options.json:
        print(json.dumps(result))
        return
    print(f"CTC alignment of {result['seconds']:g} s: {result['frames']} frames, {result['labels']} labels, same path")
    for name in ALIGNERS:
        print(f"  {name:7} {result[name]['cpu_s']:8.3f} CPU-s {result[name]['peak_mb']:9.1f} MB")
    print(f"  banded is {result['times_faster']:.1f}x faster and {result['times_smaller']:.0f}x smaller")


if __name__ == "__main__":
    main()
