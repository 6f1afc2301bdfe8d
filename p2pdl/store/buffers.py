"""Memory for copies of versions, used again as soon as nobody reads it: a server's memory has an upper bound."""

from __future__ import annotations

import weakref

import numpy as np

from p2pdl.types import Float32Vector


class VectorBuffers:
    """A fixed number of vectors, each handed out again when every slice of it has gone.

    A transport sends slices without copying them and drops them when they are sent, so a reader that does not read
    keeps a vector. It can keep all of them, but never make them more.

    Args:
        elements: Size of each vector.
        count: How many there are.
    """

    def __init__(self, elements: int, count: int) -> None:
        self._memory = [np.empty(elements, np.float32) for _ in range(count)]
        self._views: list[weakref.ref[Float32Vector] | None] = [None] * count

    def take(self) -> Float32Vector | None:
        """A vector that nobody else has; None if there is none."""
        for place, view in enumerate(self._views):
            if view is None or view() is None:
                # Slices refer to this array and not to the memory below it: when it has gone, they all have.
                vector: Float32Vector = np.frombuffer(self._memory[place].data, np.float32)
                self._views[place] = weakref.ref(vector)
                return vector
        return None

    @property
    def is_exhausted(self) -> bool:
        """True while every vector is in use."""
        return all(view is not None and view() is not None for view in self._views)
