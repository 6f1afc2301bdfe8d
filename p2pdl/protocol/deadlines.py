"""Deadlines learnt from a link's recent transfers: median + k * MAD, within bounds."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

from p2pdl.protocol.pull import FIRST_REQUEST_TIMEOUT, FIRST_TIMEOUT, LONGEST_TIMEOUT

RECENT_TRANSFERS = 21

DEVIATIONS = 8.0
"""k: of so many median absolute deviations is a transfer late; 8 leaves room for a machine that is busy for a while."""

SLACK = 2.0
"""A link may also be half as fast as usual: two nodes can share it at any time."""

GUESS_SLACK = 20.0
"""A link of which nothing is known may be so many times as slow as the slowest of the others, for a first try: each
time-out doubles it, so that no link is too slow for good."""

GUESS_FLOOR = 2.0
"""Seconds that such a try has at least."""


@dataclass(frozen=True, slots=True)
class DeadlineBounds:
    """What a learnt deadline may be.

    Attributes:
        floor: Seconds; a busy machine can hold up any transfer for so long.
        ceiling: Seconds.
        initial: Seconds, while the link is unknown.
    """

    floor: float
    ceiling: float
    initial: float


PULL_BOUNDS = DeadlineBounds(floor=5.0, ceiling=LONGEST_TIMEOUT, initial=FIRST_TIMEOUT)
SILENCE_BOUNDS = DeadlineBounds(floor=5.0, ceiling=120.0, initial=FIRST_REQUEST_TIMEOUT)


class Experience:
    """What one kind of transfer has taken of late, over all links of a node: the first guess for one that is new."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT_TRANSFERS)

    def on_success(self, seconds: float, nbytes: int) -> None:
        """A transfer of so many bytes took so long."""
        self._recent.append((seconds, max(1, nbytes)))

    def longest(self, nbytes: int) -> float | None:
        """What the slowest of the recent ones would have taken for so many bytes; None where there was none."""
        return max((seconds * max(1.0, nbytes / size) for seconds, size in self._recent), default=None)


class LearntDeadline:
    """The deadline of one kind of transfer over one link.

    Args:
        bounds: Its limits.
        others: What other links have shown; None for a link that is judged by nothing but itself.
    """

    def __init__(self, bounds: DeadlineBounds, others: Experience | None = None) -> None:
        self._bounds = bounds
        self._others = others
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT_TRANSFERS)
        self._patience = 1.0
        self._asked: tuple[int, float] | None = None

    def on_success(self, seconds: float, nbytes: int) -> None:
        """A transfer of so many bytes took so long."""
        self._recent.append((seconds, max(1, nbytes)))
        if self._others is not None:
            self._others.on_success(seconds, nbytes)
        self._patience = 1.0
        self._asked = None

    def on_timeout(self) -> None:
        """A transfer took too long: the next one has twice the time, since the link may have become slower."""
        self._patience *= 2.0
        self._asked = None

    def seconds(self, nbytes: int) -> float:
        """The deadline of a transfer.

        Args:
            nbytes: Its bytes; recent transfers of fewer bytes are scaled up to it.
        """
        # A server asks with every reply, of which one is as large as the other.
        if self._asked is None or self._asked[0] != nbytes:
            self._asked = nbytes, self._learnt(nbytes)
        return self._asked[1]

    def _learnt(self, nbytes: int) -> float:
        if self._recent:
            expected = [seconds * max(1.0, nbytes / size) for seconds, size in self._recent]
            median = statistics.median(expected)
            spread = statistics.median(abs(value - median) for value in expected)
            learnt = max(SLACK * median, median + DEVIATIONS * spread, self._bounds.floor)
        else:
            learnt = self._guess(nbytes)
        return min(learnt * self._patience, self._bounds.ceiling)

    def _guess(self, nbytes: int) -> float:
        """Of a link that has shown nothing yet: far more than others took, and never more than without them."""
        usual = self._others.longest(nbytes) if self._others is not None else None
        if usual is None:
            return self._bounds.initial
        return min(self._bounds.initial, max(GUESS_FLOOR, GUESS_SLACK * usual))
