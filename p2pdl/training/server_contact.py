"""How a worker stays in touch with its parameter servers: it joins, waits while one is away, joins anew, and leaves."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from p2pdl.clock import Clock
from p2pdl.errors import PeerError
from p2pdl.protocol.messages import WorkerReply
from p2pdl.puller.server_link import ServerLink
from p2pdl.training.exchange_counters import ExchangeCounters
from p2pdl.training.weights import ModelWeights
from p2pdl.types import Float32Vector

FIRST_PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 0.001, 1.25, 0.05
"""Seconds between two questions whether an iteration may begin: a wait becomes longer by a quarter at most."""

HEARD_SECONDS = 2.0
"""How often a worker that has nothing to push or to pull says that it is there, so that its leases go on."""

RETRY_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between two attempts to reach a server that is away; the last one over and over."""

REJOIN = {"not-joined", "not-ready", "other-iteration", "outside-window", "not-pulled", "too-stale"}
"""Refusals after which a worker joins anew: the server was started again, or has done without it for a while. What it
was about to push was made from weights of that time, and is dropped."""

FATAL = {"model", "cluster", "protocol-version", "not-a-server", "payload", "not-finite"}
"""What no second attempt changes: a server that refuses, or whose weights are no numbers any more."""

log = logging.getLogger(__name__)


class ServerContact:
    """The servers of one worker, each asked until it answers or the node is to stop.

    Args:
        links: The servers, each with its range, in the order of the ranges.
        weights: The model's, bound to `pulled`.
        pulled: Takes what is pulled, shape (size,); with one server that may be the link's own vector.
        clock: Source of times.
        stopping: True as soon as the node is to end: then nothing is waited for any more.

    Attributes:
        links: The same.
        stopping: The same.
        counters: What the worker's exchange counts; failures and what was received are counted here.
        joined: How often a server has been joined: what was known of its weights before holds no more.
    """

    def __init__(
        self,
        links: Sequence[ServerLink],
        weights: ModelWeights,
        pulled: Float32Vector,
        clock: Clock,
        stopping: Callable[[], bool],
    ) -> None:
        self.links = links
        self.stopping = stopping
        self.counters = ExchangeCounters()
        self.joined = 0
        self._weights = weights
        self._pulled = pulled
        self._clock = clock
        self._away = False
        self._greeted_at = -math.inf

    def join(self) -> None:
        """Join every server, and give them the weights to begin with where they have none."""
        for link in self.links:
            self.take_part(link)

    def take_part(self, link: ServerLink) -> WorkerReply | None:
        """Join a server; where it has no weights, as at the start of a run, it gets this worker's if it wants them."""
        self.joined += 1
        reply = self.tried(link, link.join)
        while reply is not None and not reply.version and not self.stopping():
            if reply.sends_initial:
                initial = np.zeros(self._weights.spec.size, np.float32)
                self._weights.copy_to(initial)
                reply = self.tried(link, partial(link.send_initial, initial))
            else:
                time.sleep(LONGEST_PAUSE)
                reply = self.tried(link, link.begin)
        return reply

    def wait_until_admitted(self, link: ServerLink) -> None:
        """Ask until the next iteration may begin."""
        pause = FIRST_PAUSE
        while link.reply is not None and not link.reply.admitted and not self.stopping():
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * PAUSE_GROWTH)
            self.tried(link, link.begin, rejoins=True)

    def pull(self, link: ServerLink, part: range | None = None) -> None:
        """Pull until it works.

        Args:
            link: The server.
            part: Shards of its range; None for all.
        """
        self.tried(link, lambda: self._pull(link, part))

    def adopt(self, link: ServerLink, part: range | None = None) -> None:
        """Put what was pulled from a server into the model.

        Args:
            link: The server.
            part: Shards of its range; None for all.
        """
        span = link.elements(part)
        self._copy(link, span)
        self._weights.adopt_trained(within=span)

    def adopt_all(self) -> None:
        """Put what was pulled from all servers into the model."""
        for link in self.links:
            self._copy(link, link.span)
        self._weights.adopt_trained()

    def greet(self) -> None:
        """Say that this worker is there, at most once in `HEARD_SECONDS`.

        Once a server has not answered, or has let the worker go, this waits until the next exchange, which mends it.
        """
        if self._away or self._clock.now() < self._greeted_at + HEARD_SECONDS:
            return
        self._greeted_at = self._clock.now()
        for link in self.links:
            try:
                if link.reply is not None:
                    link.begin()
            except PeerError as error:
                self._note(link, error)

    def leave(self) -> None:
        """Tell the servers that all steps are done."""
        for link in self.links:
            self.tried(link, partial(link.leave, finished=True))

    def take_final(self) -> dict[str, str]:
        """Take from each server what it has in the end, if all can be pulled at once.

        Returns:
            Why there is nothing, by server.
        """
        outcomes = {link.name: link.pull(self.stopping) for link in self.links}
        missing = {name: outcome.error.message for name, outcome in outcomes.items() if outcome.error is not None}
        if not missing:
            self.adopt_all()
        return missing

    def tried(
        self, link: ServerLink, attempt: Callable[[], WorkerReply | None], rejoins: bool = False
    ) -> WorkerReply | None:
        """Try until it works or the node is to stop: without its server a worker has nothing to do.

        Args:
            link: The server.
            attempt: What to try.
            rejoins: True if it needs the worker to take part: if that does not any more, it joins, and this is over.

        Returns:
            What the attempt returned, or how the worker stands after it has joined; None if the node is to stop.

        Raises:
            PeerError: The server refuses, and would again.
        """
        failures = 0
        while not self.stopping():
            try:
                reply = attempt()
            except PeerError as error:
                self._note(link, error)
                if error.code in REJOIN and rejoins:
                    return self.take_part(link)
                if error.code in FATAL:
                    raise
                self._sleep(RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)])
                failures += 1
                continue
            if self._away:
                self._away = False
                log.info("%s answers again", link.name)
            return reply
        return None

    def _copy(self, link: ServerLink, span: slice) -> None:
        if self._pulled is not link.vector:
            start = link.span.start
            np.copyto(self._pulled[span], link.vector[span.start - start : span.stop - start])

    def _pull(self, link: ServerLink, part: range | None) -> WorkerReply | None:
        outcome = link.pull(self.stopping, part)
        self.counters.bytes_received += outcome.nbytes
        self.counters.payload_bytes_received += outcome.payload_nbytes
        if outcome.error is not None:
            raise outcome.error
        return link.reply

    def _note(self, link: ServerLink, error: PeerError) -> None:
        if self.stopping():
            return
        self.counters.failures[error.code] = self.counters.failures.get(error.code, 0) + 1
        if not self._away and error.code != "busy":
            self._away = True
            remedy = f" ({error.remedy})" if error.remedy else ""
            log.warning("%s%s; this worker waits for %s", error.message, remedy, link.name)

    def _sleep(self, seconds: float) -> None:
        until = self._clock.now() + seconds
        while self._clock.now() < until and not self.stopping():
            time.sleep(min(LONGEST_PAUSE, seconds))
