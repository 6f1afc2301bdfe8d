"""Which entries are looked at before all of them are: some, evenly apart, from all over the model."""

from __future__ import annotations

from math import isqrt

_SAMPLED_FROM = 4096
"""Of fewer entries no sample is taken."""


def stride_for(entries: int, roots: int) -> int:
    """Every how many entries one is in the sample; 1 if all of them are.

    It is odd: no width of a layer that is a power of two is a multiple of it.

    Args:
        entries: How many there are.
        roots: How many times the square root of the entries the sample is.
    """
    return 1 if entries < _SAMPLED_FROM else isqrt(entries) // roots | 1
