"""The k greatest of many magnitudes: a sample tells which few can be among them, and only those are put in order.

Floyd, Rivest, "Expected Time Bounds for Selection", 1975: a bound on the k-th out of a sample.
"""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np

from p2pdl.codec.indices import Indices
from p2pdl.types import Float32Vector

TINY: np.float32 = np.nextafter(np.float32(0.0), np.float32(1.0))
"""The least magnitude that is sent: an entry of zero never is."""

_DEVIATIONS = 4.0
"""Standard deviations between the sample's k-th and the bound: 1 in 30,000 samples misleads."""


def lower_bound(sample: Float32Vector, expected: float) -> np.float32:
    """A magnitude above zero that the k greatest of all reach nearly always.

    Args:
        sample: Magnitudes of some of them, shape (count,).
        expected: How many of the sample are among the k greatest, on average.
    """
    place = sample.size - ceil(expected + _DEVIATIONS * sqrt(expected) + _DEVIATIONS)
    if place < 0:
        return TINY
    bound: np.float32 = np.maximum(np.partition(sample, place)[place], TINY)
    return bound


def greatest(magnitudes: Float32Vector, count: int) -> Indices:
    """Places of the greatest, ascending; of equal ones the first.

    Args:
        magnitudes: Shape (size,).
        count: How many; all of them if there are no more.
    """
    excess = magnitudes.size - count
    if excess <= 0 or not count:
        return np.arange(min(count, magnitudes.size))
    reached = magnitudes >= np.partition(magnitudes, excess)[excess]
    places: Indices = reached.nonzero()[0]
    if places.size > count:
        kept = magnitudes.take(places)
        equal = np.flatnonzero(kept == kept.min())
        places = np.delete(places, equal[count - places.size :])
    return places
