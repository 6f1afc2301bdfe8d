"""What a worker does after each step: push what the step has made, wait until it may go on, pull the weights.

Two states, as in Tsai, "Large scale deep learning parameter server" (2017): push, then pull. Which iterations may
begin, and when a worker commits, the server's policy says in its replies.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from p2pdl.clock import Clock
from p2pdl.errors import PeerError
from p2pdl.protocol.messages import WorkerReply
from p2pdl.puller.server_link import ServerLink
from p2pdl.sparsifier import GradientSparsifier
from p2pdl.training.divergence import diverged
from p2pdl.training.exchange_counters import ExchangeCounters
from p2pdl.training.smoothing import smoothed
from p2pdl.training.timeline import Timeline
from p2pdl.training.weights import ModelWeights
from p2pdl.types import Float32Vector

FIRST_PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 0.001, 1.25, 0.05
"""Seconds between two questions whether an iteration may begin: a wait becomes longer by a quarter at most."""

RETRY_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between two attempts to reach a server that is away; the last one over and over."""

HEARD_SECONDS = 2.0
"""How often a worker that trains on its own between two pushes says that it is there, so that its lease goes on."""

REJOIN = {"not-joined", "not-ready", "other-iteration", "outside-window", "not-pulled", "too-stale"}
"""Refusals after which a worker joins anew: the server was started again, or has done without it for a while. What it
was about to push was made from weights of that time, and is dropped."""

log = logging.getLogger(__name__)


class Work(Protocol):
    """Where a worker takes from what it pushes."""

    def made(self) -> Float32Vector:
        """What is to be subtracted from the weights, shape (size,): made since the last `taken`."""
        ...

    def taken(self) -> None:
        """What was made is on its way, or is part of what has been pulled."""
        ...


class Gradient:
    """Pushes the gradient of the last step: the optimizer is at the server.

    Args:
        vector: Where the step writes it.
    """

    def __init__(self, vector: Float32Vector) -> None:
        self._vector = vector

    def made(self) -> Float32Vector:
        """See `Work.made`."""
        return self._vector

    def taken(self) -> None:
        """See `Work.taken`."""


class Change:
    """Pushes by how much the worker's own optimizer has moved the weights since they were pulled.

    Args:
        weights: The model's.
        pulled: The weights as they were pulled last.
    """

    def __init__(self, weights: ModelWeights, pulled: Float32Vector) -> None:
        self._weights = weights
        self._pulled = pulled
        self._base = np.zeros_like(pulled)
        self._change = np.zeros_like(pulled)

    def made(self) -> Float32Vector:
        """See `Work.made`."""
        self._weights.copy_to(self._change)
        np.subtract(self._base, self._change, out=self._change)
        for span in self._weights.spec.state_spans:
            self._change[span] = 0.0
        return self._change

    def taken(self) -> None:
        """See `Work.taken`."""
        np.copyto(self._base, self._pulled)


class WorkerExchange:
    """Runs after each step of a worker.

    Args:
        weights: The model's, bound to `pulled`.
        pulled: Takes what is pulled, shape (size,).
        links: The servers, each with its range, in the order of the ranges.
        work: Where what is pushed comes from.
        sparsifier: Which entries of it are sent.
        clock: Source of times.
        stopping: True as soon as the node is to end: then nothing is waited for any more.
        timeline: Where to record what is done when; nowhere if None.

    Attributes:
        counters: What has been done.
        smoothed_loss: Of the worker's own batches.
    """

    def __init__(
        self,
        weights: ModelWeights,
        pulled: Float32Vector,
        links: Sequence[ServerLink],
        work: Work,
        sparsifier: GradientSparsifier,
        clock: Clock,
        stopping: Callable[[], bool] = lambda: False,
        timeline: Timeline | None = None,
    ) -> None:
        self._weights = weights
        self._pulled = pulled
        self._links = links
        self._work = work
        self._sparsifier = sparsifier
        self._clock = clock
        self._stopping = stopping
        self._timeline = timeline
        self.counters = ExchangeCounters()
        self.smoothed_loss = math.nan
        self._samples = 0
        self._pushed_samples = 0
        self._commit_at: float | None = None
        self._heard_at = -math.inf
        self._has_work = False
        self._away = False

    def resume(self, step: int, samples: int, loss: float, counters: ExchangeCounters) -> None:
        """Go on after a break, before the first step, with what was counted before."""
        self._samples = self._pushed_samples = samples
        self.smoothed_loss, self.counters = loss, counters

    def start(self) -> None:
        """Join every server, give them the weights to begin with where they have none, and take theirs."""
        for link in self._links:
            self._take_part(link)
        self._turn()

    def after_step(self, step: int, samples: int, loss: float) -> None:
        """Push, wait, pull, where it is time to.

        Args:
            step: Steps done so far.
            samples: Training samples seen so far.
            loss: The loss of the step's own batch.

        Raises:
            DivergedError: The loss or what the step made is not finite; nothing of it was pushed.
        """
        if not math.isfinite(loss):
            raise diverged(step, loss)
        self._samples = samples
        self.smoothed_loss = smoothed(self.smoothed_loss, loss)
        self._has_work = True
        now = self._clock.now()
        if self._commit_at is None or now >= self._commit_at:
            self._exchange(loss)
        elif now >= self._heard_at + HEARD_SECONDS:
            self._heard_at = now
            for link in self._links:
                self._tried(link, link.begin, rejoins=True)

    def finish(self) -> None:
        """Push what has not been pushed, and tell the servers that all steps are done."""
        if self._has_work:
            self._exchange(self.smoothed_loss)
        for link in self._links:
            self._tried(link, lambda link=link: link.leave(finished=True))

    def take_final(self) -> dict[str, str]:
        """Take the weights that the servers have in the end.

        Returns:
            Why there are none, by server.
        """
        missing = {}
        for link in self._links:
            outcome = link.pull(self._stopping)
            if outcome.error is not None:
                missing[link.name] = outcome.error.message
        if not missing:
            self._adopt()
        return missing

    def call_off(self) -> None:
        """Forget what the last step has made."""
        self._has_work = False

    def close(self) -> None:
        """Nothing runs in the background."""

    def _exchange(self, loss: float) -> None:
        started = self._clock.now()
        selection = self._sparsifier.select(self._work.made(), loss)
        samples = self._samples - self._pushed_samples
        seed = self.counters.publications
        for link in self._links:
            self._tried(link, lambda link=link: link.push(selection, loss, samples, seed), rejoins=True)
        self._has_work = False
        self._pushed_samples = self._samples
        self.counters.publications += 1
        self.counters.publish_seconds += self._record("push", started)
        self._turn()

    def _turn(self) -> None:
        """Wait until the next iteration may begin, and take the weights."""
        started = self._clock.now()
        for link in self._links:
            pause = FIRST_PAUSE
            while link.reply is not None and not link.reply.admitted and not self._stopping():
                time.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * PAUSE_GROWTH)
                self._tried(link, link.begin, rejoins=True)
        self.counters.wait_seconds += self._record("wait", started)
        started = self._clock.now()
        for link in self._links:
            self._tried(link, lambda link=link: self._pull(link))
        if self._stopping():
            return
        self._adopt()
        self._work.taken()
        self.counters.merges += 1
        self.counters.pull_seconds += self._record("pull", started)
        waits = [link.reply.commit_in for link in self._links if link.reply is not None]
        known = [seconds for seconds in waits if seconds is not None]
        self._heard_at = self._clock.now()
        self._commit_at = self._heard_at + min(known) if known else None

    def _adopt(self) -> None:
        for link in self._links:
            if self._pulled is not link.vector:
                np.copyto(self._pulled[link.span], link.vector)
        self._weights.adopt_trained()

    def _pull(self, link: ServerLink) -> WorkerReply | None:
        outcome = link.pull(self._stopping)
        self.counters.bytes_received += outcome.nbytes
        self.counters.payload_bytes_received += outcome.payload_nbytes
        if outcome.error is not None:
            raise outcome.error
        return link.reply

    def _take_part(self, link: ServerLink) -> WorkerReply | None:
        """Join a server; where it has no weights, as at the start of a run, it gets this worker's if it wants them."""
        reply = self._tried(link, link.join)
        while reply is not None and not reply.version and not self._stopping():
            if reply.sends_initial:
                initial = np.zeros(self._weights.spec.size, np.float32)
                self._weights.copy_to(initial)
                reply = self._tried(link, partial(link.send_initial, initial))
            else:
                time.sleep(LONGEST_PAUSE)
                reply = self._tried(link, link.begin)
        return reply

    def _tried(
        self, link: ServerLink, attempt: Callable[[], WorkerReply | None], rejoins: bool = False
    ) -> WorkerReply | None:
        """Try until it works or the node is to stop: without its server a worker has nothing to do.

        Args:
            link: The server.
            attempt: What to try.
            rejoins: True if it needs the worker to take part: if that does not any more, it joins, and this is over.

        Returns:
            What the attempt returned, or how the worker stands after it has joined; None if the node is to stop.
        """
        failures = 0
        while not self._stopping():
            try:
                reply = attempt()
            except PeerError as error:
                self._note(link, error)
                if error.code in REJOIN and rejoins:
                    return self._take_part(link)
                if error.code in ("model", "cluster", "protocol-version", "not-a-server"):
                    raise
                self._sleep(RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)])
                failures += 1
                continue
            if self._away:
                self._away = False
                log.info("%s answers again", link.name)
            return reply
        return None

    def _note(self, link: ServerLink, error: PeerError) -> None:
        if self._stopping():
            return
        self.counters.failures[error.code] = self.counters.failures.get(error.code, 0) + 1
        if not self._away and error.code != "busy":
            self._away = True
            remedy = f" ({error.remedy})" if error.remedy else ""
            log.warning("%s%s; this worker waits for %s", error.message, remedy, link.name)

    def _sleep(self, seconds: float) -> None:
        until = self._clock.now() + seconds
        while self._clock.now() < until and not self._stopping():
            time.sleep(min(LONGEST_PAUSE, seconds))

    def _record(self, name: str, started: float) -> float:
        now = self._clock.now()
        if self._timeline is not None:
            self._timeline.record("trainer", name, started, now)
        return now - started
