"""How the processes of a node are watched, and stopped on request."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from p2pdl.errors import EXIT_DONE, EXIT_INTERRUPTED

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal that is closed ends a node as a request to stop does: what it has trained is saved."""

WATCH_SECONDS = 0.1

GRACE_SECONDS = 30.0
"""After a request to stop, how long a process may take to finish what it does, save and write its summary."""


def code_after(signals: Sequence[int]) -> int:
    """The exit code of what was stopped by these signals, the first of which counts."""
    return EXIT_INTERRUPTED if signals[0] == signal.SIGINT else EXIT_DONE
