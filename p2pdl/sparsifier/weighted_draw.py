"""A random fraction of the coordinates, each with a chance in proportion to its weight (Poisson sampling).

The chance of coordinate i is min(1, c * w_i), with c such that the chances add up to the fraction; how many are drawn
is therefore the fraction on average. c comes from a sample where there are many coordinates, which moves that average
by a few per cent at most as a rule. The chance itself is exact although 16 random bits decide: a threshold of
65536 * c * w_i is rounded up or down by chance, by one draw for each piece.

Hajek, "Asymptotic Theory of Rejective Sampling with Varying Probabilities from a Finite Population", 1964, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pdl.sparsifier.sampling import stride_for
from p2pdl.sparsifier.spans import PIECE, entries_in
from p2pdl.types import Float32Vector

_LEVELS = 1 << 16
"""Values of 16 random bits."""

_ROOTS = 10
"""The sample is ten times the square root of the coordinates: 10,000 of 930,000 and 45,000 of 20 million."""


def chance_factor(weights: Float32Vector, fraction: float) -> float:
    """The c with which min(1, c * weight) is the fraction on average.

    Args:
        weights: Above zero, shape (count,), count >= 1.
        fraction: Above 0, 1 at most.
    """
    # With the j greatest certain, c is what the others need. j is the least for which no other one is certain too.
    descending = np.sort(weights)[::-1].astype(np.float64)
    rest = np.cumsum(descending[::-1])[::-1]
    factors = (fraction * descending.size - np.arange(descending.size)) / rest
    possible = descending * factors < 1.0
    return float(factors[np.argmax(possible)]) if possible.any() else float(1.0 / descending[-1])


class WeightedDraw:
    """Draws coordinates with weights of hidden + 1, so that one with a hidden weight of zero has a chance too.

    Args:
        spans: Where the coordinates lie.
        fraction: Share of them that is drawn, on average.
        generator: Source of all chance.
    """

    def __init__(self, spans: Sequence[slice], fraction: float, generator: np.random.SFC64) -> None:
        stride = stride_for(entries_in(spans), _ROOTS)
        self._sampled = [slice(span.start, span.stop, stride) for span in spans]
        self._fraction = fraction
        self._generator = generator
        self._thresholds = np.empty(PIECE, np.float32)

    def factor(self, hidden: Float32Vector) -> float:
        """The c of one draw.

        Args:
            hidden: Shape (size,), 0 or more.
        """
        return chance_factor(np.concatenate([hidden[span] for span in self._sampled]) + np.float32(1.0), self._fraction)

    def draw(self, hidden: Float32Vector, factor: float, selected: NDArray[np.bool_]) -> None:
        """Draw among the coordinates of a piece.

        Args:
            hidden: Shape (count,), `PIECE` at most.
            factor: What `factor` gave.
            selected: Shape (count,); overwritten.
        """
        words = self._generator.random_raw(-(-hidden.size // 4) + 1).astype("<u8", copy=False)
        # A multiple of 1/256, so that a threshold of 65536 less this is exact, and what is certain is always drawn.
        rounding = int(words[-1] & 255) / 256.0
        scale = _LEVELS * factor
        thresholds = np.multiply(hidden, np.float32(scale), out=self._thresholds[: hidden.size])
        thresholds += np.float32(scale - rounding)
        np.less(words.view("<u2")[: hidden.size], thresholds, out=selected)
