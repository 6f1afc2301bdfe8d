"""Which values of a piece reach a magnitude: three passes in the cache, without fresh memory but for the answer."""

from __future__ import annotations

import numpy as np

from p2pdl.sparsifier.spans import PIECE
from p2pdl.types import Float32Vector, Indices

TINY: np.float32 = np.nextafter(np.float32(0.0), np.float32(1.0))
"""The least magnitude that is sent: an entry of zero never is."""


class Comparison:
    """Compares magnitudes of a piece at a time."""

    def __init__(self) -> None:
        self._magnitudes = np.empty(PIECE, np.float32)
        self._reached = np.empty(PIECE, np.bool_)

    def magnitudes(self, values: Float32Vector) -> Float32Vector:
        """Absolute values; they hold until the next call."""
        return np.abs(values, out=self._magnitudes[: values.size])

    def at_least(self, values: Float32Vector, threshold: np.float32) -> Indices:
        """Places in the piece, ascending."""
        reached = self._reached[: values.size]
        return np.flatnonzero(np.greater_equal(self.magnitudes(values), threshold, out=reached))

    def total(self, values: Float32Vector) -> float:
        """Sum of the absolute values."""
        total = float(self.magnitudes(values).sum())
        return total if np.isfinite(total) else float(np.abs(values.astype(np.float64)).sum())
