"""The loss over time as l(t) = 1 / (a1^2 t + a2) + a3, fitted to what was seen.

Hu, Wang, Wu, "Distributed machine learning through heterogeneous edge systems" (2020); the form is that of Peng et al.,
"Optimus: an efficient dynamic resource scheduler for deep learning clusters" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Vector = NDArray[np.float64]

FEWEST = 4
"""Points that a curve needs: one more than it takes to have a slope and its error."""

BINS = 24
"""Points into which a window of losses is averaged."""

_DEPTHS = (1e-2, 1e2)
"""Where a3 is looked for: so far below the least loss, in spreads of the losses seen."""

_CANDIDATES = 25
"""Values of a3 on a grid between them, and then on a finer one round the best."""


class Losses:
    """Losses averaged by time, so that memory does not grow with their number and single ones count little.

    Args:
        start: The time that counts as 0, in seconds.
        length: Seconds that are cut into `BINS` parts; what is later falls into further parts of the same length.
    """

    def __init__(self, start: float, length: float) -> None:
        self._start = start
        self._part = length / BINS
        self._sums: dict[int, tuple[float, float, int]] = {}

    def __len__(self) -> int:
        """Parts in which there was a loss."""
        return len(self._sums)

    def observe(self, loss: float, now: float) -> None:
        """Add one finite loss."""
        since = now - self._start
        part = int(since // self._part)
        times, losses, count = self._sums.get(part, (0.0, 0.0, 0))
        self._sums[part] = times + since, losses + loss, count + 1

    def points(self) -> tuple[Float64Vector, Float64Vector, Float64Vector]:
        """Mean time in seconds, mean loss and number of losses of each part, each of shape (len(self),)."""
        sums = np.array(list(self._sums.values()), np.float64).reshape(-1, 3)
        return sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2], sums[:, 2]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a loss fell.

    Attributes:
        value: a1^2, per second: by how much 1 / (l - a3) grows. It is negative where the loss rose. It does not change
            along one curve, while -dl/dt = a1^2 (l - a3)^2 does; so windows one after another can be compared by it.
        error: Its standard error.
    """

    value: float
    error: float


def speeds(windows: Sequence[Losses]) -> list[Speed]:
    """Fit one curve to each window, with one a3 for all of them, for a speed depends on it.

    For a given a3 the fit is a line through 1 / (l - a3), in which a point counts by (l - a3)^4 and its number of
    losses, so that errors are those of l. Of candidates on a grid below the least loss, a3 is the one with the least
    sum of squared errors.

    Args:
        windows: Each with at least `FEWEST` points.

    Raises:
        ValueError: A window has fewer.
    """
    if any(len(window) < FEWEST for window in windows):
        raise ValueError(f"a curve needs {FEWEST} points, not {min(map(len, windows))}")
    curves = [window.points() for window in windows]
    losses = np.concatenate([curve[1] for curve in curves])
    least, spread = float(losses.min()), float(losses.max()) - float(losses.min())
    if not 0.0 < spread < math.inf:
        return [Speed(0.0, 0.0) for _ in windows]
    scaled = [(times, (losses - least) / spread, counts) for times, losses, counts in curves]
    nearest, furthest = _DEPTHS
    for _ in range(2):
        depths = np.geomspace(nearest, furthest, _CANDIDATES)
        fits = [[_line(*curve, depth) for curve in scaled] for depth in depths]
        best = int(np.argmin([sum(squares for _, squares in lines) for lines in fits]))
        nearest, furthest = depths[max(best - 1, 0)], depths[min(best + 1, _CANDIDATES - 1)]
    return [Speed(speed.value / spread, speed.error / spread) for speed, _ in fits[best]]


def _line(times: Float64Vector, losses: Float64Vector, counts: Float64Vector, depth: float) -> tuple[Speed, float]:
    """The speed for a3 = -depth, and the weighted sum of the squared errors of l."""
    above = losses + depth
    weights = counts * above**4
    weights /= weights.sum()
    centred = times - weights @ times
    inverse = 1.0 / above
    mean = weights @ inverse
    scatter = weights @ centred**2
    slope = (weights @ (centred * inverse)) / scatter
    remainders = inverse - mean - slope * centred
    error = np.sqrt((weights @ remainders**2) / (scatter * (len(times) - 2)))
    return Speed(float(slope), float(error)), float(counts @ (remainders * above**2) ** 2)
