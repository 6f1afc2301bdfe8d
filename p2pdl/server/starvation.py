"""When to drop all connections: readers that do not read have kept a server from newer versions for too long."""

from __future__ import annotations

STARVED_SECONDS = 60.0
"""How long readers that do not read may keep a server from a new version: longer than any heartbeat."""


class Starvation:
    """Measures how long a server has been starved without a break."""

    def __init__(self) -> None:
        self._since: float | None = None

    def is_over_long(self, starved: bool, now: float) -> bool:
        """True once it has lasted for too long; then it is counted anew.

        Args:
            starved: True if as many versions as may be are being sent to somebody, and there is a newer one.
            now: Seconds of the machine's monotonic clock.
        """
        if not starved:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > STARVED_SECONDS:
            self._since = None
            return True
        return False
