"""When to drop all connections: readers that do not read have kept a server from its work for too long."""

from __future__ import annotations

STARVED_SECONDS = 60.0
"""How long readers that do not read may keep a server from a new version: longer than any heartbeat."""

HOARDED_SECONDS = 10.0
"""How long they may keep it from encoding anything: whoever answers no heartbeats is gone by then."""


class Starvation:
    """Measures how long a server has been starved without a break.

    Args:
        longest: Seconds that it may last.
    """

    def __init__(self, longest: float = STARVED_SECONDS) -> None:
        self._longest = longest
        self._since: float | None = None

    def is_over_long(self, starved: bool, now: float) -> bool:
        """True once it has lasted for too long; then it is counted anew.

        Args:
            starved: True if what is being sent to somebody leaves no room for what is wanted.
            now: Seconds of the machine's monotonic clock.
        """
        if not starved:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > self._longest:
            self._since = None
            return True
        return False
