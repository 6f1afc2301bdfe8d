"""What counters that only grow say about now: rates of traffic, and where a step's time goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

WINDOW_SECONDS = 10.0
"""Rates are means over so long: pulls that take seconds, and are counted when they end, make no spikes."""

PHASES = ("compute", "publish", "wait", "merge")
"""What the trainer does in turn; the figure of each is its name with `_seconds`."""


class Traffic:
    """Rates over the last seconds, or since the first look while that is less.

    Args:
        window: Seconds.
    """

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window = window
        self._looks: deque[tuple[float, int, int]] = deque()

    def look(self, now: float, received: int, sent: int) -> tuple[float | None, float | None]:
        """The rates in and out in Mbit/s; None at the first look.

        Args:
            now: Monotonic seconds.
            received: Bytes received so far.
            sent: Bytes sent so far.
        """
        looks = self._looks
        while len(looks) > 1 and looks[1][0] <= now - self._window:
            looks.popleft()
        looks.append((now, received, sent))
        since, received_before, sent_before = looks[0]
        if now <= since:
            return None, None
        mbits = 8e-6 / (now - since)
        return mbits * (received - received_before), mbits * (sent - sent_before)


def phase_shares(figures: Mapping[str, Any]) -> dict[str, float] | None:
    """Each phase's share of the time of all four so far.

    Args:
        figures: Those of a status or a summary; a peer's may hold anything.

    Returns:
        A share from 0 to 1 for each of `PHASES`; None where there are no such figures.
    """
    seconds: dict[str, Any] = {phase: figures.get(f"{phase}_seconds") for phase in PHASES}
    if not all(type(value) in (int, float) and value >= 0 for value in seconds.values()):
        return None
    total: float = sum(seconds.values())
    return {phase: value / total for phase, value in seconds.items()} if total > 0 else None


def exchange_text(figures: Mapping[str, Any]) -> str:
    """The exchange in a few words, for a line of the log; empty before there is anything to say.

    Args:
        figures: This node's own.
    """
    if "merges" not in figures:
        return ""
    skipped = figures["merges_skipped"]
    text = f"{figures['merges']} merges{f' ({skipped} skipped)' if skipped else ''}"
    rates = figures["mbit_per_second_in"], figures["mbit_per_second_out"]
    if None not in rates:
        text += f", {rates[0]:.3g} Mbit/s in and {rates[1]:.3g} out"
    shares = phase_shares(figures)
    return f"{text}, waiting {100 * shares['wait']:.2g} %" if shares else text
