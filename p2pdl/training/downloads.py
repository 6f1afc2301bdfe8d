"""Several pulls at one time, each into an inbox of its own: they begin from one base, and end together."""

from __future__ import annotations

from collections.abc import Callable

from p2pdl.clock import Clock
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.puller import PassOn, Puller, PullOrder
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.spec import WeightSpec


class Downloads:
    """As many pulls at one time as there are inboxes.

    Args:
        make_requester: Makes a requester inside the thread that uses it.
        spec: This node's layout.
        limit: How many pulls at one time.
        clock: Source of times.
        pass_on: See `Puller`.

    Attributes:
        inboxes: The n-th pull started arrives in the n-th.
    """

    def __init__(
        self,
        make_requester: Callable[[], Requester],
        spec: WeightSpec,
        limit: int,
        clock: Clock,
        pass_on: PassOn | None = None,
    ) -> None:
        self._clock = clock
        self.inboxes = [Inbox(spec) for _ in range(limit)]
        self._pullers = [Puller(make_requester, spec, pass_on) for _ in range(limit)]
        self._outcomes: list[Outcome | None] = []

    @property
    def is_busy(self) -> bool:
        """True from the first `start` until `take` has returned the outcomes."""
        return bool(self._outcomes)

    def start(self, order: PullOrder) -> None:
        """Begin one more pull, into the next inbox."""
        self._pullers[len(self._outcomes)].start(order)
        self._outcomes.append(None)

    def take(self, timeout: float = 0.0) -> list[Outcome] | None:
        """The outcomes in the order of `start`, if all are there within `timeout` seconds; None if there are none."""
        give_up_at = self._clock.now() + timeout
        for number, outcome in enumerate(self._outcomes):
            if outcome is None:
                self._outcomes[number] = self._pullers[number].take(max(0.0, give_up_at - self._clock.now()))
        outcomes = [outcome for outcome in self._outcomes if outcome is not None]
        if not outcomes or len(outcomes) < len(self._outcomes):
            return None
        self._outcomes.clear()
        return outcomes

    def call_off(self) -> None:
        """End the pulls in progress and forget them all."""
        for puller in self._pullers:
            puller.call_off()
        self._outcomes.clear()

    def close(self) -> None:
        """End the threads."""
        for puller in self._pullers:
            puller.close()
