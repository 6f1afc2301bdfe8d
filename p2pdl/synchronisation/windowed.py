"""What all policies share: the clocks of the workers by name, over a sliding window."""

from __future__ import annotations

from collections.abc import Mapping

from p2pdl.errors import PeerRefused
from p2pdl.synchronisation.window import SlidingWindow
from p2pdl.types import NodeId


class Windowed:
    """A policy that admits whom the window admits, and asks for a push after every step.

    Args:
        length: Of the window; None for one without an upper end.
        low: Where it begins.

    Raises:
        ValueError: The length is less than 1, or `low` is negative.
    """

    collects = False

    def __init__(self, length: int | None, low: int = 0) -> None:
        self._length = length
        self._window = SlidingWindow(length, low)
        self._clocks: dict[NodeId, int] = {}

    @property
    def low(self) -> int:
        """The window's lower end."""
        return self._window.low

    @property
    def staleness_bound(self) -> int | None:
        """One less than the window's length."""
        return None if self._length is None else self._length - 1

    def join(self, worker: NodeId, now: float) -> int:
        """Take a worker in at `low`; where it was before, it no longer is."""
        self.leave(worker, now)
        self._clocks[worker] = self._window.join()
        return self._clocks[worker]

    def push(self, worker: NodeId, clock: int, loss: float, now: float) -> None:
        """Move the worker's clock on.

        Raises:
            PeerRefused: `not-joined`, `outside-window` or `other-iteration`.
        """
        own = self._clock(worker)
        if clock != own and self._window.admits(clock):
            raise PeerRefused(
                f"{worker}: pushed iteration {clock}, but is at {own}",
                "push each iteration once, in order; join again if the count was lost",
                code="other-iteration",
            )
        self._window.push(clock)
        self._clocks[worker] = own + 1

    def leave(self, worker: NodeId, now: float) -> None:
        """Take the worker out of the window if it is in."""
        clock = self._clocks.pop(worker, None)
        if clock is not None:
            self._window.leave(clock)

    def admits(self, worker: NodeId) -> bool:
        """Whether the worker's clock is in the window.

        Raises:
            PeerRefused: `not-joined`.
        """
        return self._window.admits(self._clock(worker))

    def commit_in(self, worker: NodeId, now: float) -> float | None:
        """None: after every step.

        Raises:
            PeerRefused: `not-joined`.
        """
        self._clock(worker)
        return None

    def figures(self) -> Mapping[str, float]:
        """`workers` that are live, those of them `waiting` to be admitted, and `low`."""
        return {"workers": self._window.workers, "waiting": self._window.waiting, "low": self._window.low}

    def _clock(self, worker: NodeId) -> int:
        if worker not in self._clocks:
            raise PeerRefused(
                f"{worker}: has not joined, or was not heard of for too long",
                "join again, and pull before the next push",
                code="not-joined",
            )
        return self._clocks[worker]
