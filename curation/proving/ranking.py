"""How well scores tell true from false, whatever the limit."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[float] | NDArray[np.float32]


def area_under_curve(true: Scores, false: Scores) -> float:
    """The share of all pairs of a true and a false one in which the true one scores higher; ties count half (ROC AUC).

    Raises:
        ValueError: one side is empty.
    """
    if len(true) == 0 or len(false) == 0:
        raise ValueError("an area needs scores on both sides")
    ordered = np.sort(np.asarray(false, np.float64))
    wanted = np.asarray(true, np.float64)
    below = np.searchsorted(ordered, wanted, "left")
    not_above = np.searchsorted(ordered, wanted, "right")
    return float((below + not_above).mean() / 2 / len(ordered))
