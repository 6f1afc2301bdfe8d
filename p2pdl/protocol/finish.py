"""When a node that is done may go on to the final merge, and when it may leave: a decision over what peers say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2pdl.types import NodeId

SILENCE_SECONDS = 5.0
"""A peer that has not answered for so long is not waited for."""

DONE_STATES = frozenset({"finished", "merged"})
GONE_STATES = frozenset({"stopped", "failed"})


@dataclass(slots=True)
class _Seen:
    state: str
    heard: float
    error: str = ""


class Gathering:
    """Follows the other nodes until they have reached a goal or are not coming any more.

    Args:
        peers: The other nodes.
        goal: States that a peer is waited for to reach.
        now: Monotonic seconds.
        linger: Seconds after which nobody is waited for any longer.
    """

    def __init__(self, peers: Iterable[NodeId], goal: frozenset[str], now: float, linger: float) -> None:
        self._seen = {peer: _Seen("unknown", now) for peer in peers}
        self._goal = goal
        self._give_up_at = now + linger

    def on_status(self, peer: NodeId, state: str, now: float) -> None:
        """A peer has said how it is."""
        self._seen[peer] = _Seen(state, now)

    def on_silence(self, peer: NodeId, error: str) -> None:
        """A peer has not answered."""
        self._seen[peer].error = error

    def is_over(self, now: float) -> bool:
        """True when nobody is worth waiting for."""
        return now >= self._give_up_at or not self.awaited(now)

    def awaited(self, now: float) -> list[NodeId]:
        """The peers that may still reach the goal."""
        return [
            peer
            for peer, seen in self._seen.items()
            if seen.state not in self._goal | GONE_STATES and now - seen.heard < SILENCE_SECONDS
        ]

    def arrived(self) -> list[NodeId]:
        """The peers that have reached the goal, by name."""
        return sorted(peer for peer, seen in self._seen.items() if seen.state in self._goal)

    def missing(self) -> dict[NodeId, str]:
        """Why each of the others has not."""
        reasons = {}
        for peer, seen in sorted(self._seen.items()):
            if seen.state in self._goal:
                continue
            if seen.state in GONE_STATES:
                reasons[peer] = f"it has {seen.state}"
            elif seen.error:
                reasons[peer] = seen.error
            else:
                reasons[peer] = f"it was still {seen.state} when the time to linger was over"
        return reasons
