"""Where a pulled vector arrives, shard by shard, in the form that the merge needs."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from p2pdl.spec import ALIGNMENT, WeightSpec
from p2pdl.types import Float32Vector


class Inbox:
    """One vector of the model's size, allocated once.

    With a base `x0` (the node's own weights when the pull began) it receives `y - x0` for what is trained and `y` for
    statistics, so that merging needs no second vector; without a base it receives `y`.

    Args:
        spec: The model's layout.

    Attributes:
        vector: What has arrived, aligned to 64 bytes.
    """

    def __init__(self, spec: WeightSpec) -> None:
        self.vector = aligned_empty(spec.size)
        self._base: Float32Vector | None = None
        self._state_spans = spec.state_spans
        self._state_stops = [span.stop for span in spec.state_spans]

    def expect(self, base: Float32Vector | None) -> None:
        """Prepare for a new vector `y`, to be received as it is, or as its difference from `base`."""
        self._base = base

    def accept(self, offset: int, shard: Float32Vector) -> None:
        """Take the elements from `offset` on."""
        stop = offset + shard.size
        target = self.vector[offset:stop]
        if self._base is None:
            np.copyto(target, shard)
            return
        np.subtract(shard, self._base[offset:stop], out=target)
        for span in self._state_spans[bisect_right(self._state_stops, offset) :]:
            if span.start >= stop:
                break
            start, end = max(span.start, offset), min(span.stop, stop)
            self.vector[start:end] = shard[start - offset : end - offset]

    def subtract(self, base: Float32Vector) -> None:
        """Turn a vector received as it is into the difference from `base`."""
        statistics = [self.vector[span].copy() for span in self._state_spans]
        np.subtract(self.vector, base, out=self.vector)
        for span, values in zip(self._state_spans, statistics, strict=True):
            self.vector[span] = values


def aligned_empty(size: int) -> Float32Vector:
    """A float32 array of `size` elements whose first one lies at a multiple of 64 bytes."""
    raw = np.zeros(size + ALIGNMENT, np.float32)
    start = (-raw.ctypes.data % (4 * ALIGNMENT)) // 4
    return raw[start : start + size]
