"""In which order members are probed: all of them once in each pass, in random order.

Das, Gupta, Motivala (2002), "SWIM", section 4.3: a member's death is noticed within two passes, and by somebody much
sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from p2pdl.types import NodeId


class Turns:
    """Who is next.

    Args:
        rng: Source of the order.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._rest: list[NodeId] = []

    def add(self, names: Iterable[NodeId]) -> None:
        """Give new members a random place in the present pass."""
        for name in names:
            if self._rest and name not in self._rest:
                self._rest.insert(int(self._rng.integers(len(self._rest) + 1)), name)

    def next(self, everybody: Iterable[NodeId], is_fit: Callable[[NodeId], bool]) -> NodeId | None:
        """The next member that is fit to be probed; None if none is.

        Args:
            everybody: Members of the next pass, if this one ends.
            is_fit: Asked of each whose turn it is.
        """
        for is_new in (False, True):
            if is_new:
                self._rest = list(everybody)
                self._rng.shuffle(self._rest)
            while self._rest:
                name = self._rest.pop()
                if is_fit(name):
                    return name
        return None
