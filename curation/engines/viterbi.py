"""CTC forced alignment: the best path of a text through a model's frames, exactly, without the whole lattice.

The lattice is that of Graves et al. 2006 (section 4.1): blank, l_1, blank, l_2, …, l_L, blank; a frame stays, steps to
the next state, or skips the blank between two different labels. Every frame's scores are first lowered by the best
score that any state of the text has in that frame, so a path's cost only falls from zero. A first pass keeps a band of
labels about the best state and finds some path; its cost bounds the optimum, so the second pass drops every state
that has already cost more, and yet its best path is the best of the full lattice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.engines.forced_alignment import AlignmentFailed

NEVER = -np.inf
PRUNE_EVERY_FRAMES = 16
"""The window grows by a label a frame; looking for states to drop costs as much as a frame, so it is done seldom."""


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
    band: int | None = 512,
    max_bytes: int = 2**30,
) -> CtcPath:
    """Lay `labels` over frames so that the sum of log probabilities is greatest. Equal paths: the one that stays.

    Args:
        log_probs: [frames, vocabulary], natural logarithms.
        labels: [labels], indices into the vocabulary, none of them `blank`.
        band: labels kept by the first pass; None searches the full lattice at once. Changes the cost, not the result.
        max_bytes: room for back pointers (a byte per label kept and frame).

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
    limit = NEVER
    if band is not None and band < len(labels):
        limit = lattice.forward(limit, band, keep=False)
        limit -= 1e-9 * (1 + abs(limit)) if np.isfinite(limit) else 0.0
    score = lattice.forward(limit, None, keep=True)
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
        self.steps: list[NDArray[np.int8]] = []
        """Per frame and label: 0 stayed, 1 came from the blank before it, 2 from the label before; +4: the blank
        before it came from the label before that."""
        self.firsts: list[int] = []
        self.last_blank: list[bool] = []
        self.ends_in_blank = False

    def forward(self, limit: float, width: int | None, *, keep: bool) -> float:
        """Run over all frames with states below `limit`, or outside `width` labels about the best, left out.

        Returns the best final score. With `keep`, back pointers are kept for `trace`.
        """
        frames, count = len(self.costs), len(self.labels)
        label = np.full(count + 1, NEVER)  # label[j + 1] is the score of label j; label[0] is never reached
        blank = np.full(count + 1, NEVER)  # blank[j] precedes label j; blank[count] ends the path
        label[1], blank[0] = self.costs[0, self.labels[0]], self.costs[0, self.blank]
        first, after, kept_bytes = 0, 1, 0
        for t in range(1, frames):
            stop = min(after + 1, count)
            before, stay, gap = label[first:stop], label[first + 1 : stop + 1], blank[first:stop]
            skipped = before + self.skip[first:stop]
            entered = gap > stay
            best = np.maximum(stay, gap)
            jumped = skipped > best
            moved = before > gap
            end_moved = bool(stop == count and label[count] > blank[count])
            if stop == count:
                blank[count] = max(blank[count], label[count]) + self.costs[t, self.blank]
            np.maximum(gap, before, out=gap)
            gap += self.costs[t, self.blank]
            np.maximum(best, skipped, out=stay)
            stay += self.costs[t].take(self.labels[first:stop])
            if keep:
                step = entered.astype(np.int8)
                step[jumped] = 2
                step += moved.view(np.int8) << 2
                self.steps.append(step)
                self.firsts.append(first)
                self.last_blank.append(end_moved)
                kept_bytes += len(step)
                if kept_bytes > self.max_bytes:
                    raise AlignmentFailed(
                        f"{frames} frames and {count} labels need more than {self.max_bytes} bytes of back pointers: "
                        "the text hardly fits the audio, or the audio is too long for one alignment"
                    )
            after = stop
            if t % PRUNE_EVERY_FRAMES == 0:
                first, after = self._prune(label, blank, first, after, frames - 1 - t, limit, width)
        self.ends_in_blank = bool(blank[count] > label[count])
        return float(max(blank[count], label[count]))

    def _prune(
        self,
        label: NDArray[np.float64],
        blank: NDArray[np.float64],
        first: int,
        after: int,
        frames_left: int,
        limit: float,
        width: int | None,
    ) -> tuple[int, int]:
        """The labels [first, after) that stay in the running; what lies outside is set to NEVER."""
        count = len(self.labels)
        low, high = max(first, count - 1 - frames_left), after
        if width is not None or limit > NEVER:
            best = np.maximum(label[low + 1 : high + 1], blank[low:high])
            if high == count:
                best[-1:] = np.maximum(best[-1:], blank[count])
            if limit > NEVER:
                alive = np.flatnonzero(best >= limit)
                low, high = low + int(alive[0]), low + int(alive[-1]) + 1
            if width is not None and high - low > width:
                centre = low + int(best.argmax())
                low = min(max(low, centre - width // 2, count - frames_left - width // 2), high - width)
                high = low + width
        label[: low + 1], blank[:low] = NEVER, NEVER
        label[high + 1 :] = NEVER
        blank[high : None if high < count else count] = NEVER
        return low, high

    def trace(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Walk the back pointers from the end: first frame, and frame after the last, of every label."""
        count, frames = len(self.labels), len(self.costs)
        starts, ends = np.zeros(count, np.int64), np.zeros(count, np.int64)
        label, in_blank = count - 1, self.ends_in_blank
        at_end = in_blank
        if not in_blank:
            ends[label] = frames
        for t in range(frames - 1, 0, -1):
            first, step = self.firsts[t - 1], self.steps[t - 1]
            if at_end:
                if self.last_blank[t - 1]:
                    at_end = in_blank = False
                    ends[label] = t
            elif in_blank:
                if step[label - first] & 4:
                    label, in_blank = label - 1, False
                    ends[label] = t
            elif came := step[label - first] & 3:
                starts[label] = t
                if came == 2:
                    label -= 1
                    ends[label] = t
                else:
                    in_blank = True
        return starts, ends
