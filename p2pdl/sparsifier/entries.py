"""The entries selected so far, in memory that is used again: fresh memory costs more than filling it."""

from __future__ import annotations

import numpy as np

from p2pdl.sparsifier.contract import Selection
from p2pdl.types import Float32Vector, Indices


class Entries:
    """A list of places and values.

    It takes 12 bytes for each element of the vector, of which only those are ever touched that a selection needed.

    Args:
        size: The most entries that there can be.
    """

    def __init__(self, size: int) -> None:
        self._indices = np.empty(size, np.intp)
        self._values = np.empty(size, np.float32)
        self._count = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def cut(self, count: int) -> None:
        """Forget all but the first ones."""
        self._count = count

    def add(self, start: int, kept: Indices, values: Float32Vector) -> None:
        """Append entries of a piece.

        Args:
            start: The piece's first element in the vector.
            kept: Places in the piece, ascending.
            values: All values of the piece.
        """
        end = self._count + kept.size
        np.add(kept, start, out=self._indices[self._count : end])
        # Without a mode, `take` would fill a copy first, in order to leave `out` alone if an index were wrong.
        np.take(values, kept, out=self._values[self._count : end], mode="clip")
        self._count = end

    def since(self, begin: int) -> Float32Vector:
        """The values from one entry on."""
        return self._values[begin : self._count]

    def keep(self, begin: int, places: Indices) -> None:
        """Forget all others from one entry on.

        Args:
            begin: The entry from which places count.
            places: Which ones stay, ascending.
        """
        end = begin + places.size
        for array in (self._indices, self._values):
            array[begin:end] = array[begin : self._count].take(places)
        self._count = end

    def selection(self) -> Selection:
        """All of them, read only."""
        indices, values = self._indices[: self._count], self._values[: self._count]
        indices.flags.writeable = values.flags.writeable = False
        return Selection(indices, values)
