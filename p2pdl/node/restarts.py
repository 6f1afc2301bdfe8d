"""When a process that has died is started again: soon at first, later after longer pauses, and not for ever."""

from __future__ import annotations

import signal
from collections import deque

PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before a process is started again after its first, second, ... death within an hour; the last one repeats."""

WINDOW_SECONDS = 3600.0


class Restarts:
    """Counts the deaths of one process.

    Args:
        limit: Deaths within an hour after which it is started again; None for any number.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._recent: deque[float] = deque()
        self.deaths = 0

    def on_death(self, now: float) -> float | None:
        """The process has died.

        Args:
            now: Monotonic seconds.

        Returns:
            Seconds after which to start it again; None to leave it.
        """
        self.deaths += 1
        while self._recent and now - self._recent[0] > WINDOW_SECONDS:
            self._recent.popleft()
        if self._limit is not None and len(self._recent) >= self._limit:
            return None
        self._recent.append(now)
        return PAUSES[min(len(self._recent), len(PAUSES)) - 1]


def how_it_ended(exit_code: int) -> str:
    """A process's exit code in words."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"ended by signal {-exit_code}"
