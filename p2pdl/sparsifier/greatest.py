"""The k greatest of many: bounds on the k-th, taken from a sample, leave only a few to be put in order."""

from __future__ import annotations

from math import ceil, floor, inf, isqrt, sqrt

import numpy as np

from p2pdl.sparsifier.comparison import TINY
from p2pdl.types import Float32Vector, Indices

_SAMPLED_FROM = 4096
"""Of fewer entries no sample is taken."""

_SAMPLE_ROOTS = 10
"""A sample is ten times as large as the square root of the entries: 8,000 of 670,000 and 45,000 of 20 million."""

_DEVIATIONS = 4.0
"""Standard deviations between the sample's k-th and a bound: 1 in 30,000 selections is put in order as a whole."""


def stride_for(entries: int) -> int:
    """Every how many entries one is in the sample; 1 if all of them are.

    It is odd: no width of a layer that is a power of two is a multiple of it.
    """
    return 1 if entries < _SAMPLED_FROM else isqrt(entries) // _SAMPLE_ROOTS | 1


def bounds(sample: Float32Vector, expected: float) -> tuple[np.float32, np.float32]:
    """Magnitudes between which the k-th greatest of all lies nearly always.

    Args:
        sample: Magnitudes, shape (count,).
        expected: How many of the sample are among the k greatest of all, on average.

    Returns:
        What k entries reach, and what k entries do not: the lower is above zero, the upper may be infinite.
    """
    margin = _DEVIATIONS * sqrt(expected) + 4.0
    low = sample.size - ceil(expected + margin)
    high = sample.size - max(floor(expected - margin), 0)
    places = [place for place in (low, high) if 0 <= place < sample.size]
    ordered = np.partition(sample, places) if places else sample
    return (
        np.maximum(ordered[low], TINY) if low >= 0 else TINY,
        np.maximum(ordered[high], TINY) if high < sample.size else np.float32(inf),
    )


def least(magnitudes: Float32Vector, count: int, high: np.float32) -> Indices:
    """Places of the least entries, in any order. Of equal ones, those that the partition happens to put first.

    Args:
        magnitudes: Shape (size,).
        count: How many, 1 to size.
        high: What the greatest of them probably does not reach; infinite if nothing is known.
    """
    below = np.flatnonzero(magnitudes < high)
    if below.size < count:
        below = np.arange(magnitudes.size)
    return below[np.argpartition(magnitudes.take(below), count - 1)[:count]]
