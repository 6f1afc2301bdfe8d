"""SSP(s), stale synchronous parallel: the fastest is at most s iterations ahead of the slowest.

Ho et al., "More effective distributed ML via a stale synchronous parallel parameter server" (2013), section 3.
"""

from __future__ import annotations

from p2pdl.synchronisation.windowed import Windowed

DEFAULT_STALENESS = 3
"""Iterations that a worker may be ahead unless told otherwise."""


class Ssp(Windowed):
    """A window of s + 1 iterations, whose updates are applied as they come.

    Args:
        staleness: s, at least 0; with 0 the same workers are admitted as under BSP.
        low: The first iteration.

    Raises:
        ValueError: The staleness or `low` is negative.
    """

    name = "ssp"

    def __init__(self, staleness: int = DEFAULT_STALENESS, low: int = 0) -> None:
        if staleness < 0:
            raise ValueError(f"ssp needs a staleness of at least 0, not {staleness}")
        super().__init__(staleness + 1, low)
