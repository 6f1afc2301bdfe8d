"""The updates of one iteration as one: their mean, for policies that apply them together."""

from __future__ import annotations

import numpy as np

from p2pdl.aggregation.contract import Update
from p2pdl.types import Float32Vector


class Collection:
    """Adds up what comes in one dense buffer, whatever the number of workers.

    The sum is float32, in the order of arrival: another order gives other last bits. The mean is over the updates that
    came, all alike, so that a worker which has left in between makes no step shorter. For updates of which some are
    ranges, or sparse, the entries that one does not have are zero.

    Args:
        size: Entries of the server's vector; the buffer has 4 bytes for each.
    """

    def __init__(self, size: int) -> None:
        self._sum: Float32Vector = np.zeros(size, np.float32)
        self._clock: int | None = None
        self._count = 0
        self._samples = 0

    @property
    def clock(self) -> int | None:
        """The iteration of the updates that have come; None before the first."""
        return self._clock

    @property
    def count(self) -> int:
        """Updates that have come."""
        return self._count

    @property
    def samples(self) -> int:
        """Training samples behind them."""
        return self._samples

    def add(self, update: Update, values: Float32Vector) -> None:
        """Add an update.

        Args:
            update: Where it stands and which iteration it is of.
            values: What is added in its place: `update.values`, or what a rule has made of them.

        Raises:
            ValueError: It is of another iteration than those that have come.
        """
        if self._clock is not None and update.clock != self._clock:
            raise ValueError(f"an update of iteration {update.clock} came while {self._clock} is collected")
        if self._clock is None and update.indices is None and values.size == self._sum.size:
            np.copyto(self._sum, values)
        else:
            if self._clock is None:
                self._sum.fill(0.0)
            self._sum[update.place] += values
        self._clock = update.clock
        self._count += 1
        self._samples += update.samples

    def take(self) -> Float32Vector:
        """End the iteration.

        Returns:
            The mean, shape (size,): the buffer itself, valid until the next `add`.

        Raises:
            ValueError: Nothing has come.
        """
        if not self._count:
            raise ValueError("no update has come")
        self._sum /= np.float32(self._count)
        self._clock, self._count, self._samples = None, 0, 0
        return self._sum
