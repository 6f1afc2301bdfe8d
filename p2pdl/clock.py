"""Time as an argument: every part that waits takes a clock, so that tests own the time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in seconds; its zero means nothing."""

    def now(self) -> float:
        """Seconds since an arbitrary moment, never going back."""
        ...


class MonotonicClock:
    """The machine's monotonic clock, unmoved by changes of the date."""

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC, comparable between processes of one machine."""
        return time.monotonic()


class VirtualClock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        """The virtual time in seconds."""
        return self._now

    def advance_to(self, now: float) -> None:
        """Move on to `now`.

        Raises:
            ValueError: `now` lies in the past.
        """
        if now < self._now:
            raise ValueError(f"a clock cannot go back from {self._now} to {now}")
        self._now = now
