"""How much of a model a worker exchanges while it computes a step: as much as fits, so that it is never idle.

Tsai, "Large scale deep learning parameter server" (2017): computing takes its time whatever is sent, while transfer and
aggregation take less the shorter the range of keys is. Here a key is a shard, and what n of them take is learnt as
a + b n, by least squares with a memory that fades.
"""

from __future__ import annotations

MEMORY = 0.9
"""What a measurement counts for, of what it did one measurement ago."""

GROWTH = 2
"""By how much a range may become longer at once: the longest that was seen says little of one ten times as long."""

SPREAD = 0.02
"""Variance of the lengths, in shards, below which they say nothing of what a longer one would take."""


class RangeChoice:
    """The number of shards that the next exchange moves.

    Args:
        shards: Shards of the whole model.
        fixed: The number, where it is given; None to learn it, beginning with one.

    Raises:
        ValueError: There are no shards, or the fixed number is below 1.
    """

    def __init__(self, shards: int, fixed: int | None = None) -> None:
        if shards < 1 or (fixed is not None and fixed < 1):
            raise ValueError(f"a range has at least 1 of at least 1 shards, not {fixed} of {shards}")
        self._shards = shards
        self._learns = fixed is None
        self._size = min(shards, 1 if fixed is None else fixed)
        self._computing: float | None = None
        # Weighted sums over what was measured: of 1, n, n^2, seconds and n * seconds.
        self._sums = [0.0] * 5

    @property
    def size(self) -> int:
        """Shards of the next range."""
        return self._size

    def on_computed(self, seconds: float) -> None:
        """Take in how long a step has taken without any waiting."""
        known = self._computing
        self._computing = seconds if known is None else MEMORY * known + (1.0 - MEMORY) * seconds

    def on_exchanged(self, shards: int, seconds: float) -> None:
        """Take in how long a range took to be pushed, applied and pulled, and choose the next size.

        Args:
            shards: Its length.
            seconds: Without the time in which the worker was not admitted, which no range makes shorter.
        """
        measured = (1.0, shards, shards * shards, seconds, shards * seconds)
        self._sums = [MEMORY * known + new for known, new in zip(self._sums, measured, strict=True)]
        if self._learns and self._computing is not None:
            self._size = max(1, min(self._fitting(self._computing), GROWTH * self._size, self._shards))

    def _fitting(self, available: float) -> int:
        """The most shards that take no longer than the time available, as far as is known."""
        count, total, squares, seconds, products = self._sums
        spread = count * squares - total * total
        if spread > SPREAD * count * count:
            slope = (count * products - total * seconds) / spread
            start = (seconds - slope * total) / count
            if start < 0.0:
                start, slope = 0.0, products / squares
            if slope > 0.0:
                return int(min(self._shards, (available - start) / slope))
        # All ranges had about one length, or it made no difference: the time goes by the length, or is the same for
        # one more, which is tried where there is time left.
        one_more = self._size + 1 if seconds < available * count else 0
        return int(min(self._shards, max(available * total / seconds, one_more))) if seconds > 0.0 else self._shards
