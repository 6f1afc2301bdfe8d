"""Which selected coordinates give way: those of least hidden weight, and of equal ones some from all over the model.

Hidden weights are whole numbers and most coordinates share one of a few, so that the weight up to which coordinates
give way is found by counting, from a guess that a sample gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pdl.sparsifier.greatest import stride_for
from p2pdl.sparsifier.spans import PIECE, entries_in
from p2pdl.types import Float32Vector, Indices

_GUESSES = 6
"""Neighbouring weights that are tried before all of them are put in order."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where giving way ends.

    Attributes:
        weight: All selected coordinates of a smaller hidden weight give way.
        ties: Which of those of just this weight do too: ascending numbers, counted through the vector.
    """

    weight: np.float32
    ties: Indices


class Displacement:
    """Finds the boundary.

    Args:
        spans: Where the coordinates lie.
        parts: The spans in pieces.
        generator: Source of all chance.
    """

    def __init__(self, spans: Sequence[slice], parts: Sequence[slice], generator: np.random.SFC64) -> None:
        stride = stride_for(entries_in(spans))
        self._sampled = [slice(span.start, span.stop, stride) for span in spans]
        self._pieces = parts
        self._generator = generator
        self._below = np.empty(PIECE, np.bool_)

    def boundary(self, hidden: Float32Vector, selected: NDArray[np.bool_], count: int, among: int) -> Boundary:
        """The boundary by which `count` coordinates give way.

        Args:
            hidden: Hidden weights, whole numbers, shape (size,).
            selected: The coordinates in question, shape (size,).
            count: How many of them give way, 1 to `among`.
            among: How many of them there are.
        """
        weight = self._guess(hidden, selected, count / among)
        for _ in range(_GUESSES):
            below, through = (self._count(hidden, selected, weight + np.float32(more)) for more in (0, 1))
            if below < count <= through:
                break
            weight += np.float32(1.0 if count > through else -1.0)
        else:
            weight = np.partition(hidden[selected], count - 1)[count - 1]
            below, through = (self._count(hidden, selected, weight + np.float32(more)) for more in (0, 1))
        return Boundary(weight, self._spread(count - below, through - below))

    def _guess(self, hidden: Float32Vector, selected: NDArray[np.bool_], share: float) -> np.float32:
        weights = np.concatenate([hidden[span][selected[span]] for span in self._sampled])
        if not weights.size:
            return np.float32(0.0)
        place = min(int(share * weights.size), weights.size - 1)
        weight: np.float32 = np.partition(weights, place)[place]
        return weight

    def _count(self, hidden: Float32Vector, selected: NDArray[np.bool_], weight: np.float32) -> int:
        """Selected coordinates of a smaller hidden weight."""
        count = 0
        for piece in self._pieces:
            below = self._below[: piece.stop - piece.start]
            np.less(hidden[piece], weight, out=below)
            count += int(np.count_nonzero(np.logical_and(below, selected[piece], out=below)))
        return count

    def _spread(self, count: int, ties: int) -> Indices:
        """Numbers below `ties`, ascending: evenly apart, from a random one on, so that each has the same chance."""
        start = int(self._generator.random_raw()) % ties
        numbers: Indices = np.sort((np.arange(count) * ties // count + start) % ties)
        return numbers
