"""CTC forced alignment: the best path of a text through a model's frames, exactly, without the whole lattice.

The lattice is that of Graves et al. 2006 (section 4.1): blank, l_1, blank, l_2, …, l_L, blank; a frame stays, steps to
the next state, or skips the blank between two different labels. Every frame's scores are first lowered by the best
score that any label of the text has in that frame, so a path's score only falls from zero. A band of labels about the
best state is searched. Where the path found scores no less than anything that was dropped had when it was dropped, no
path outside the band can be better, and it is the best of the full lattice. Else a second pass drops only what has
already fallen below that path, so that its own best path is the best of all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.engines.forced_alignment import AlignmentFailed

NEVER = -np.inf
BLOCK_FRAMES = 32
"""Frames between two looks for states to drop; meanwhile the window is wide enough for all that can be reached."""


@dataclass(frozen=True)
class CtcPath:
    """The best path: for each label the frames [starts[i], ends[i]) that emit it, and the path's log probability."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    score: float


def ctc_align(
    log_probs: NDArray[np.float32],
    labels: NDArray[np.int64],
    blank: int,
    *,
    band: int | None = 256,
    max_bytes: int = 2**30,
) -> CtcPath:
    """Lay `labels` over frames so that the sum of log probabilities is greatest. Equal paths: the one that stays.

    Args:
        log_probs: [frames, vocabulary], natural logarithms.
        labels: [labels], indices into the vocabulary, none of them `blank`.
        band: labels kept by the first pass; None keeps all. Changes the cost, not the result.
        max_bytes: room for back pointers (three bits per label kept and frame).

    Raises:
        AlignmentFailed: there are fewer frames than labels and blanks between repeats, no path has a probability, or
            `max_bytes` is used up (a long text that hardly fits).
        ValueError: a label is out of range or blank, or a score is not a number.
    """
    frames, vocabulary = log_probs.shape
    labels = np.asarray(labels, dtype=np.int64)
    if len(labels) == 0:
        raise AlignmentFailed("nothing to align: the text has no labels")
    if labels.min() < 0 or labels.max() >= vocabulary or (labels == blank).any():
        raise ValueError(f"labels lie outside the vocabulary of {vocabulary}, or are the blank {blank}")
    needed = len(labels) + int(np.count_nonzero(labels[1:] == labels[:-1]))
    if frames < needed:
        raise AlignmentFailed(f"the text needs {needed} frames (labels and repeats), the audio has {frames}")
    if np.isnan(log_probs).any():
        raise ValueError("log probabilities contain NaN")

    used, columns = np.unique(np.append(labels, blank), return_inverse=True)
    costs = log_probs[:, used].astype(np.float64)
    ceiling = costs.max(axis=1, keepdims=True)
    if not np.isfinite(ceiling).all():
        raise AlignmentFailed(f"frame {int(np.argmin(np.isfinite(ceiling)))} gives no label of the text a probability")
    costs -= ceiling
    lattice = _Lattice(costs, columns[:-1], int(columns[-1]), max_bytes)
    score, dropped = lattice.forward(NEVER, band)
    if dropped >= score and dropped > NEVER:
        score, _ = lattice.forward(score - 1e-9 * (1 + abs(score)) if score > NEVER else NEVER, None)
    if score == NEVER:
        raise AlignmentFailed("no path through the audio gives the text a probability")
    starts, ends = lattice.trace()
    return CtcPath(starts, ends, score + float(ceiling.sum()))


class _Lattice:
    """The two rows of states (labels, and blanks before each of them and at the end) and how each was reached."""

    def __init__(self, costs: NDArray[np.float64], labels: NDArray[np.int64], blank: int, max_bytes: int) -> None:
        self.costs, self.labels, self.blank, self.max_bytes = costs, labels, blank, max_bytes
        self.skip = np.zeros(len(labels))
        self.skip[0] = NEVER
        self.skip[1:][labels[1:] == labels[:-1]] = NEVER
        self.firsts: list[int] = []
        self.steps: list[NDArray[np.uint8]] = []
        """Per frame from the second three rows of bits, one per label from `firsts`: it was entered from the blank
        before it; from the label before it (which outdoes the first); that blank was entered from the label before."""
        self.last_blank: list[bool] = []
        """Per frame from the second: the blank at the end was entered from the last label."""
        self.ends_in_blank = False

    def forward(self, limit: float, width: int | None) -> tuple[float, float]:
        """Run over all frames, dropping what scores below `limit` or lies outside `width` labels about the best.

        Returns the best final score, and the best score of anything outside `width` when it was dropped.
        """
        frames, count = len(self.costs), len(self.labels)
        self.steps, self.firsts, self.last_blank = [], [], []
        label = np.full(count + 1, NEVER)  # label[j + 1] is the score of label j; label[0] is never reached
        blank = np.full(count + 1, NEVER)  # blank[j] precedes label j; blank[count] ends the path
        label[1], blank[0] = self.costs[0, self.labels[0]], self.costs[0, self.blank]
        first, after, dropped, kept_bytes = 0, 1, NEVER, 0
        for begin in range(1, frames, BLOCK_FRAMES):
            block = self.costs[begin : begin + BLOCK_FRAMES]
            stop = min(after + len(block), count)
            kept_bytes += len(block) * 3 * -(-(stop - first) // 8)
            if kept_bytes > self.max_bytes:
                raise AlignmentFailed(
                    f"{frames} frames and {count} labels need more than {self.max_bytes} bytes of back pointers: "
                    "the text hardly fits the audio, or the audio is too long for one alignment"
                )
            self._block(label, blank, first, stop, block)
            frames_left = frames - begin - len(block)
            first, after, lost = self._prune(label, blank, first, stop, frames_left, limit, width)
            dropped = max(dropped, lost)
        self.ends_in_blank = bool(blank[count] > label[count])
        return float(max(blank[count], label[count])), dropped

    def _block(
        self,
        label: NDArray[np.float64],
        blank: NDArray[np.float64],
        first: int,
        stop: int,
        block: NDArray[np.float64],
    ) -> None:
        """Take the labels [first, stop), and the blanks before them, through a block of frames, in place."""
        count, size = len(self.labels), stop - first
        before, stay, gap = label[first:stop], label[first + 1 : stop + 1], blank[first:stop]
        skip, scores = self.skip[first:stop], block.take(self.labels[first:stop], axis=1)
        skipped, best, flags = np.empty(size), np.empty(size), np.empty((3, size), bool)
        entered, jumped, moved = flags
        for frame, blank_score in zip(scores, block[:, self.blank].tolist(), strict=True):
            np.add(before, skip, out=skipped)
            np.greater(gap, stay, out=entered)
            np.maximum(gap, stay, out=best)
            np.greater(skipped, best, out=jumped)
            np.greater(before, gap, out=moved)
            self.last_blank.append(stop == count and bool(label[count] > blank[count]))
            if stop == count:
                blank[count] = max(blank[count], label[count]) + blank_score
            np.maximum(gap, before, out=gap)
            np.add(gap, blank_score, out=gap)
            np.maximum(best, skipped, out=stay)
            np.add(stay, frame, out=stay)
            self.steps.append(np.packbits(flags, axis=1))
            self.firsts.append(first)

    def _prune(
        self,
        label: NDArray[np.float64],
        blank: NDArray[np.float64],
        first: int,
        after: int,
        frames_left: int,
        limit: float,
        width: int | None,
    ) -> tuple[int, int, float]:
        """The labels [first, after) that stay in the running, and the best score among those outside `width`.

        What is not in the running is set to NEVER.
        """
        count, dropped = len(self.labels), NEVER
        low, high = max(first, count - 1 - frames_left), after  # a label falls behind that cannot reach the end
        best = np.maximum(label[low + 1 : high + 1], blank[low:high])
        if high == count:
            best[-1] = max(best[-1], blank[count])
        alive = np.flatnonzero(best >= limit if limit > NEVER else best > NEVER)
        if len(alive):
            best = best[alive[0] : alive[-1] + 1]
            low, high = low + int(alive[0]), low + int(alive[-1]) + 1
        if width is not None and high - low > width:
            centre = low + int(best.argmax())
            begin = min(max(low, centre - width // 2, count - frames_left - width // 2), high - width)
            outside = np.concatenate([best[: begin - low], best[begin - low + width :]])
            low, high, dropped = begin, begin + width, float(outside.max())
        label[: low + 1], label[high + 1 :], blank[:low] = NEVER, NEVER, NEVER
        blank[high : None if high < count else count] = NEVER
        return low, high, dropped

    def trace(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Walk the back pointers from the end: first frame, and frame after the last, of every label."""
        count, frames = len(self.labels), len(self.costs)
        starts, ends = np.zeros(count, np.int64), np.zeros(count, np.int64)
        label, in_blank, at_end = count - 1, self.ends_in_blank, self.ends_in_blank
        if not in_blank:
            ends[label] = frames
        for t in range(frames - 1, 0, -1):
            if at_end:
                if self.last_blank[t - 1]:
                    at_end = in_blank = False
                    ends[label] = t
                continue
            byte, bit = divmod(label - self.firsts[t - 1], 8)
            entered, jumped, moved = (flags >> (7 - bit) & 1 for flags in self.steps[t - 1][:, byte].tolist())
            if in_blank:
                if moved:
                    label, in_blank = label - 1, False
                    ends[label] = t
            elif jumped:
                starts[label] = t
                label -= 1
                ends[label] = t
            elif entered:
                starts[label] = t
                in_blank = True
        return starts, ends
