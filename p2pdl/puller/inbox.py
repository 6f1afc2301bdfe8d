"""Where a pulled vector arrives, shard by shard, in the form that the merge needs."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from p2pdl.spec import ALIGNMENT, SHARD_ELEMENTS, WeightSpec
from p2pdl.types import Float32Vector, Indices


class Inbox:
    """One vector of the model's size, allocated once.

    With a base `x0` (the node's own weights when the pull began) it receives `y - x0` for what is trained and `y` for
    statistics, so that merging needs no second vector; without a base it receives `y`. Of what does not arrive, since
    only a part or only some entries were sent, what is trained is 0 and statistics are marked as missing.

    Args:
        spec: The model's layout.

    Attributes:
        vector: What has arrived, aligned to 64 bytes.
        is_whole: True if every entry has arrived.
    """

    def __init__(self, spec: WeightSpec) -> None:
        self.vector = aligned_empty(spec.size)
        self._base: Float32Vector | None = None
        self._variables = spec.variables
        self._state_spans = spec.state_spans
        self._state_stops = [span.stop for span in spec.state_spans]
        self._arrived = np.zeros(-(-spec.size // SHARD_ELEMENTS), bool)
        self._sparse = False
        # Shards that hold something of an earlier pull.
        self._stale = np.zeros_like(self._arrived)

    @property
    def is_whole(self) -> bool:
        """True if every entry has arrived."""
        return bool(self._arrived.all()) and not self._sparse

    def expect(self, base: Float32Vector | None) -> None:
        """Prepare for a new vector `y`, to be received as it is, or as its difference from `base`."""
        self._base = base
        self._stale |= self._arrived
        self._arrived[:] = False
        self._sparse = False

    def accept(self, offset: int, values: Float32Vector, indices: Indices | None = None) -> None:
        """Take values of the shard that begins at `offset`: those at `indices`, or all."""
        number = offset // SHARD_ELEMENTS
        shard = self.vector[offset : offset + SHARD_ELEMENTS]
        base = None if self._base is None else self._base[offset : offset + SHARD_ELEMENTS]
        if indices is None:
            _take_all(shard, values, base)
        else:
            shard[:] = 0
            shard[indices] = values if base is None else values - base[indices]
            self._sparse = True
        if base is not None:
            self._take_statistics(offset, shard, values, indices)
        self._arrived[number], self._stale[number] = True, False

    def clear_missing(self) -> None:
        """Set the shards that did not arrive in this pull to 0."""
        for number in np.flatnonzero(self._stale):
            self.vector[number * SHARD_ELEMENTS : (number + 1) * SHARD_ELEMENTS] = 0
        self._stale[:] = False

    def arrived(self) -> NDArray[np.bool_]:
        """For each variable, whether all shards that it lies in have arrived, so that statistics may be averaged."""
        spans = [variable.span for variable in self._variables]
        return np.array(
            [self._arrived[s.start // SHARD_ELEMENTS : -(-s.stop // SHARD_ELEMENTS)].all() for s in spans], bool
        )

    def subtract(self, base: Float32Vector) -> None:
        """Turn a vector received as it is into the difference from `base`."""
        statistics = [self.vector[span].copy() for span in self._state_spans]
        np.subtract(self.vector, base, out=self.vector)
        for span, values in zip(self._state_spans, statistics, strict=True):
            self.vector[span] = values

    def _take_statistics(
        self, offset: int, shard: Float32Vector, values: Float32Vector, indices: Indices | None
    ) -> None:
        stop = offset + shard.size
        for span in self._state_spans[bisect_right(self._state_stops, offset) :]:
            if span.start >= stop:
                break
            start, end = max(span.start, offset) - offset, min(span.stop, stop) - offset
            if indices is None:
                shard[start:end] = values[start:end]
            else:
                # A delta always carries statistics whole.
                first, last = np.searchsorted(indices, (start, end))
                shard[indices[first:last]] = values[first:last]


def _take_all(shard: Float32Vector, values: Float32Vector, base: Float32Vector | None) -> None:
    if base is None:
        np.copyto(shard, values)
    else:
        np.subtract(values, base, out=shard)


def aligned_empty(size: int) -> Float32Vector:
    """A float32 array of `size` elements whose first one lies at a multiple of 64 bytes."""
    raw = np.zeros(size + ALIGNMENT, np.float32)
    start = (-raw.ctypes.data % (4 * ALIGNMENT)) // 4
    return raw[start : start + size]
