"""Which selected coordinates give way: those of least hidden weight, and of equal ones some from all over the model.

Hidden weights are whole numbers and most coordinates share one of a few, so that the weight up to which coordinates
give way is found by counting: at first around the weight that follows from the time before, while other work has the
coordinates in the cache, and if that was wrong, from a guess that a sample gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pdl.sparsifier.sampling import stride_for
from p2pdl.sparsifier.spans import PIECE, entries_in
from p2pdl.types import Float32Vector, Indices

_GUESSES = 6
"""Neighbouring weights that are tried before all of them are put in order."""

_ROOTS = 4
"""The sample is four times the square root of the coordinates."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where giving way ends.

    Attributes:
        weight: All selected coordinates of a smaller hidden weight give way.
        ties: Which of those of just this weight do too: ascending numbers, counted through the vector.
        has_smaller: Whether there are any of a smaller one.
    """

    weight: np.float32
    ties: Indices
    has_smaller: bool


class Displacement:
    """Finds the boundary.

    Args:
        spans: Where the coordinates lie.
        parts: The spans in pieces.
        generator: Source of all chance.
    """

    def __init__(self, spans: Sequence[slice], parts: Sequence[slice], generator: np.random.SFC64) -> None:
        stride = stride_for(entries_in(spans), _ROOTS)
        self._sampled = [slice(span.start, span.stop, stride) for span in spans]
        self._pieces = parts
        self._generator = generator
        self._below = np.empty(PIECE, np.bool_)
        self._expected = self._at_draw = np.float32(0.0)
        self._is_draw = True
        self._counted = (0, 0)

    def expect(self, again: bool) -> None:
        """Begin to count.

        Args:
            again: Whether the selected coordinates are those of last time, each with a hidden weight greater by one.
        """
        self._expected = self._expected + np.float32(1.0) if again else self._at_draw
        self._is_draw = not again
        self._counted = (0, 0)

    def count(self, hidden: Float32Vector, selected: NDArray[np.bool_]) -> None:
        """Count coordinates of a piece."""
        below, through = self._counted
        self._counted = (
            below + self._less(hidden, selected, self._expected),
            through + self._less(hidden, selected, self._expected + np.float32(1.0)),
        )

    def boundary(self, hidden: Float32Vector, selected: NDArray[np.bool_], count: int, among: int) -> Boundary:
        """The boundary by which `count` coordinates give way.

        Args:
            hidden: Hidden weights, whole numbers, shape (size,).
            selected: The coordinates in question, shape (size,).
            count: How many of them give way, 1 to `among`.
            among: How many of them there are.
        """
        weight, (below, through) = self._expected, self._counted
        if not below < count <= through:
            weight = self._guess(hidden, selected, count / among)
            below, through = self._around(hidden, selected, weight)
        for _ in range(_GUESSES):
            if below < count <= through:
                break
            weight += np.float32(1.0 if count > through else -1.0)
            below, through = self._around(hidden, selected, weight)
        else:
            weight = np.partition(hidden[selected], count - 1)[count - 1]
            below, through = self._around(hidden, selected, weight)
        self._expected = weight
        if self._is_draw:
            self._at_draw = weight
        return Boundary(weight, self._spread(count - below, through - below), below > 0)

    def _guess(self, hidden: Float32Vector, selected: NDArray[np.bool_], share: float) -> np.float32:
        weights = np.concatenate([hidden[span][selected[span]] for span in self._sampled])
        if not weights.size:
            return np.float32(0.0)
        place = min(int(share * weights.size), weights.size - 1)
        weight: np.float32 = np.partition(weights, place)[place]
        return weight

    def _around(self, hidden: Float32Vector, selected: NDArray[np.bool_], weight: np.float32) -> tuple[int, int]:
        """Selected coordinates of a smaller hidden weight, and those of this one too."""
        below = through = 0
        for piece in self._pieces:
            below += self._less(hidden[piece], selected[piece], weight)
            through += self._less(hidden[piece], selected[piece], weight + np.float32(1.0))
        return below, through

    def _less(self, hidden: Float32Vector, selected: NDArray[np.bool_], weight: np.float32) -> int:
        """Selected coordinates of a piece with a smaller hidden weight."""
        below = np.less(hidden, weight, out=self._below[: hidden.size])
        return int(np.count_nonzero(np.logical_and(below, selected, out=below)))

    def _spread(self, count: int, ties: int) -> Indices:
        """Numbers below `ties`, ascending: evenly apart, from a random one on, so that each has the same chance."""
        start = int(self._generator.random_raw()) % ties
        numbers: Indices = np.sort((np.arange(count) * ties // count + start) % ties)
        return numbers
