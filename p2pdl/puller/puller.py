"""A thread that pulls one peer at a time, so that the trainer never waits for the network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from p2pdl.codec.ends import Decoder
from p2pdl.errors import PeerError
from p2pdl.lifeline import yield_to_training
from p2pdl.protocol.fields import Scalar
from p2pdl.protocol.pull import PullSettings, VersionKey
from p2pdl.puller.requests import Outcome, Requester, Sink
from p2pdl.spec import WeightSpec
from p2pdl.types import NodeId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PullOrder:
    """A pull to be done.

    Attributes:
        peer: Whom to ask.
        address: Its `host:port`.
        sink: Takes what arrives, in the puller's thread.
        settings: Deadlines, range size and window.
        decoder: This end of the codec; plain float32 where None.
        known: The version that is not worth pulling again.
        part: The shards to pull; all where None.
    """

    peer: NodeId
    address: str
    sink: Sink
    settings: PullSettings
    decoder: Decoder | None = None
    known: VersionKey | None = None
    part: range | None = None


PassOn = Callable[[Requester, tuple[dict[str, Scalar], ...]], None]
"""Takes (how to ask, rows about members)."""


class Puller:
    """Pulls in the background.

    Args:
        make_requester: Makes the requester inside the thread that uses it.
        spec: This node's layout.
        pass_on: Takes, in the thread, the news about members that came along with a pull; None to drop them.
    """

    def __init__(
        self, make_requester: Callable[[], Requester], spec: WeightSpec, pass_on: PassOn | None = None
    ) -> None:
        self._make_requester = make_requester
        self._pass_on = pass_on
        self._spec = spec
        self._changed = threading.Condition()
        self._job: PullOrder | None = None
        self._outcome: Outcome | None = None
        self._called_off = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="p2pdl-puller", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """True from `start` until `take` has returned the outcome."""
        return self._job is not None

    def start(self, order: PullOrder) -> None:
        """Begin a pull; the thread calls its sink until the outcome is there."""
        with self._changed:
            if self._job is not None:
                raise RuntimeError("a pull is in progress")
            self._job, self._outcome, self._called_off = order, None, False
            self._changed.notify_all()

    def take(self, timeout: float = 0.0) -> Outcome | None:
        """The outcome of the pull in progress, if it is there within `timeout` seconds."""
        with self._changed:
            if timeout > 0:
                self._changed.wait_for(lambda: self._outcome is not None, timeout)
            outcome = self._outcome
            if outcome is not None:
                self._job = self._outcome = None
            return outcome

    def call_off(self) -> None:
        """End the pull in progress and forget it."""
        with self._changed:
            if self._job is None:
                return
            self._called_off = True
            self._changed.wait_for(lambda: self._outcome is not None)
            self._job = self._outcome = None

    def close(self) -> None:
        """End the thread."""
        self.call_off()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        requester: Requester | None = None
        yield_to_training()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or (self._job and self._outcome is None))
                    if self._closed:
                        return
                    assert self._job is not None
                    order = self._job
                try:
                    requester = requester or self._make_requester()
                    outcome = requester.pull(
                        order.peer,
                        order.address,
                        self._spec,
                        order.settings,
                        order.sink,
                        order.known,
                        lambda: self._called_off,
                        order.decoder,
                        order.part,
                    )
                except Exception as error:
                    # The trainer outlives any fault of an exchange; the log has what went wrong here.
                    log.exception("pulling %s failed in an unforeseen way", order.peer)
                    text = f"{order.peer}: {type(error).__name__}: {error}"
                    failure = PeerError(text, "please report this", code="internal")
                    outcome = Outcome(order.peer, None, False, failure, 0.0, 0, 0, ended=time.monotonic())
                    if requester is not None:
                        # Its connection may be full of replies to a pull that nobody follows any more.
                        requester.close()
                        requester = None
                with self._changed:
                    self._outcome = outcome
                    self._changed.notify_all()
                if self._pass_on and requester and outcome.snapshot and outcome.snapshot.rumours:
                    self._pass_on(requester, outcome.snapshot.rumours)
        finally:
            if requester is not None:
                requester.close()
