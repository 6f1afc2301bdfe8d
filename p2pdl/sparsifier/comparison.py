"""Which values of a piece reach a magnitude: passes in the cache, without fresh memory but for the answer."""

from __future__ import annotations

import math

import numpy as np

from p2pdl.sparsifier.spans import PIECE
from p2pdl.types import Float32Vector, Indices


class Comparison:
    """Compares magnitudes of a piece at a time."""

    def __init__(self) -> None:
        self._magnitudes = np.empty(PIECE, np.float32)
        self._reached = np.empty(PIECE, np.bool_)

    def magnitudes(self, values: Float32Vector) -> Float32Vector:
        """Absolute values; they hold until the next call."""
        return np.abs(values, out=self._magnitudes[: values.size])

    def at_least(self, magnitudes: Float32Vector, threshold: np.float32) -> Indices:
        """Places in the piece, ascending."""
        reached = np.greater_equal(magnitudes, threshold, out=self._reached[: magnitudes.size])
        # The method: the function of the same meaning costs a microsecond more, at each piece.
        places: Indices = reached.nonzero()[0]
        return places


def total(magnitudes: Float32Vector) -> float:
    """Their sum; not finite if one of them is not."""
    found = float(np.add.reduce(magnitudes))
    return found if math.isfinite(found) else float(magnitudes.sum(dtype=np.float64))
