"""What a synchronisation policy decides: who may begin which iteration, and when a worker commits what it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from p2pdl.types import NodeId


class Policy(Protocol):
    """The rule that keeps the workers of a parameter server together, or lets them run.

    A worker's clock is the iteration that it does next. Times are seconds of one monotonic clock.

    Attributes:
        name: The name that a configuration uses.
        collects: True if the pushes of one iteration are to be summed, and applied together once `low` has passed it.
    """

    name: str
    collects: bool

    @property
    def low(self) -> int:
        """No live worker's clock is less. It never falls, and newcomers begin there."""
        ...

    @property
    def staleness_bound(self) -> int | None:
        """Iterations by which an admitted worker may be ahead of the slowest live one; None without a bound."""
        ...

    def join(self, worker: NodeId, now: float) -> int:
        """Take a worker in, or in again under its name.

        Returns:
            The iteration that it begins with: `low`.
        """
        ...

    def push(self, worker: NodeId, clock: int, loss: float, now: float) -> None:
        """Note that a worker has pushed an iteration; its clock is then one more.

        Args:
            worker: Its name.
            clock: The iteration.
            loss: Training loss that the worker saw; NaN where it has none.
            now: The time.

        Raises:
            PeerRefused: `not-joined`; `outside-window`; `other-iteration` if the worker is at another one, as after a
                push that was sent twice. Nothing has changed then, and the update must not be applied.
        """
        ...

    def leave(self, worker: NodeId, now: float) -> None:
        """Let a worker go, whether it said goodbye, has finished or was not heard of; no matter if it is gone."""
        ...

    def admits(self, worker: NodeId) -> bool:
        """Whether the worker may begin its iteration.

        Raises:
            PeerRefused: `not-joined`.
        """
        ...

    def commit_in(self, worker: NodeId, now: float) -> float | None:
        """Seconds from now until the worker is to push, 0 at least; None to push after every step.

        Raises:
            PeerRefused: `not-joined`.
        """
        ...

    def figures(self) -> Mapping[str, float]:
        """Numbers for the status, by name; each policy has `workers`, `waiting` and `low`."""
        ...
