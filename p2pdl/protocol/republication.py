"""When the version that a node serves is replaced: soon if somebody has read it, later and later if nobody does."""

from __future__ import annotations

import math

READ_COST = 5.0
"""A version that somebody has read is replaced after so many times what publishing costs: at the next step, unless
steps are hardly longer than publications."""

UNREAD_COST = 50.0
"""A version that nobody has read is replaced after so many times what publishing costs, and twice as late with each
further version in a row that nobody reads."""

LONGEST_SECONDS = 1.0
"""As late as that at most, where so many times the cost are less: who comes at last finds nothing old."""


class Republication:
    """Decides when to publish, from what publishing has cost and whether anybody reads; no clock of its own."""

    def __init__(self) -> None:
        self._published_at = -math.inf
        self._cost = 0.0
        self._unread_seconds = 0.0

    def is_due(self, now: float, was_read: bool) -> bool:
        """Whether to publish.

        Args:
            now: In seconds.
            was_read: Whether anybody has read the newest version.
        """
        patience = READ_COST * self._cost if was_read else self._unread_seconds
        return now - self._published_at > patience

    def published(self, now: float, cost: float, was_read: bool) -> None:
        """A version is there.

        Args:
            now: When that was, in seconds.
            cost: How long it took, in seconds.
            was_read: Whether anybody had read the version before.
        """
        shortest = UNREAD_COST * cost
        later = 0.0 if was_read else min(2.0 * self._unread_seconds, LONGEST_SECONDS)
        self._published_at, self._cost, self._unread_seconds = now, cost, max(shortest, later)
