"""What a worker does after each step: push what the step has made, wait until it may go on, pull the weights.

Two states, as in Tsai, "Large scale deep learning parameter server" (2017): push, then pull. Which iterations may
begin, and when a worker commits, the server's policy says in its replies.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from p2pdl.clock import Clock
from p2pdl.errors import DivergedError
from p2pdl.sparsifier import GradientSparsifier
from p2pdl.training.divergence import diverged, diverged_update
from p2pdl.training.exchange_counters import ExchangeCounters
from p2pdl.training.server_contact import HEARD_SECONDS, ServerContact
from p2pdl.training.smoothing import smoothed
from p2pdl.training.timeline import Timeline
from p2pdl.training.weights import ModelWeights
from p2pdl.types import Float32Vector


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
        contact: The servers.
        work: Where what is pushed comes from.
        sparsifier: Which entries of it are sent.
        clock: Source of times.
        timeline: Where to record what is done when; nowhere if None.

    Attributes:
        smoothed_loss: Of the worker's own batches.
    """

    def __init__(
        self,
        contact: ServerContact,
        work: Work,
        sparsifier: GradientSparsifier,
        clock: Clock,
        timeline: Timeline | None = None,
    ) -> None:
        self._contact = contact
        self._work = work
        self._sparsifier = sparsifier
        self._clock = clock
        self._timeline = timeline
        self.smoothed_loss = math.nan
        self._step = self._samples = 0
        self._pushed_samples = 0
        self._commit_at: float | None = None
        self._heard_at = -math.inf
        self._has_work = False
        self._called_off = False

    @property
    def counters(self) -> ExchangeCounters:
        """What has been done."""
        return self._contact.counters

    def resume(self, step: int, samples: int, loss: float, counters: ExchangeCounters) -> None:
        """Go on after a break, before the first step, with what was counted before."""
        self._samples = self._pushed_samples = samples
        self.smoothed_loss, self._contact.counters = loss, counters

    def start(self) -> None:
        """Join every server, give them the weights to begin with where they have none, and take theirs."""
        self._contact.join()
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
        self._step, self._samples = step, samples
        self.smoothed_loss = smoothed(self.smoothed_loss, loss)
        if self._called_off:
            # What this step has made began from weights of long ago, which are nobody else's.
            self._called_off = False
            self._turn()
            return
        self._has_work = True
        now = self._clock.now()
        if self._commit_at is None or now >= self._commit_at:
            self._exchange(step, loss)
        elif now >= self._heard_at + HEARD_SECONDS:
            self._heard_at = now
            for link in self._contact.links:
                self._contact.tried(link, link.begin, rejoins=True)

    def finish(self) -> None:
        """Push what has not been pushed, and tell the servers that all steps are done."""
        if self._has_work:
            self._exchange(self._step, self.smoothed_loss)
        self._contact.leave()

    def take_final(self) -> dict[str, str]:
        """Take the weights that the servers have in the end.

        Returns:
            Why there are none, by server.
        """
        return self._contact.take_final()

    def call_off(self) -> None:
        """Forget what has been made since the last push, and go on from the servers' weights after the next step."""
        self._has_work = False
        self._called_off = True

    def while_evaluating(self) -> None:
        """Keep the leases of this worker."""
        self._contact.greet()

    def after_evaluation(self, seconds: float) -> None:
        """Nothing here goes by the length of a step; when to commit is the server's time."""

    def close(self) -> None:
        """Nothing runs in the background."""

    def _exchange(self, step: int, loss: float) -> None:
        started = self._clock.now()
        try:
            selection = self._sparsifier.select(self._work.made(), loss)
        except DivergedError as error:
            raise diverged_update(step) from error
        samples = self._samples - self._pushed_samples
        seed = self.counters.publications
        for link in self._contact.links:
            self._contact.tried(link, lambda link=link: link.push(selection, loss, samples, seed), rejoins=True)
        self._has_work = False
        self._pushed_samples = self._samples
        self.counters.publications += 1
        self.counters.publish_seconds += self._record("push", started)
        self._turn()

    def _turn(self) -> None:
        """Wait until the next iteration may begin, and take the weights."""
        started = self._clock.now()
        for link in self._contact.links:
            self._contact.wait_until_admitted(link)
        self.counters.wait_seconds += self._record("wait", started)
        started = self._clock.now()
        for link in self._contact.links:
            self._contact.pull(link)
        if self._contact.stopping():
            return
        self._contact.adopt_all()
        self._work.taken()
        self.counters.merges += 1
        self.counters.pull_seconds += self._record("pull", started)
        waits = [link.reply.commit_in for link in self._contact.links if link.reply is not None]
        known = [seconds for seconds in waits if seconds is not None]
        self._heard_at = self._clock.now()
        self._commit_at = self._heard_at + min(known) if known else None

    def _record(self, name: str, started: float) -> float:
        now = self._clock.now()
        if self._timeline is not None:
            self._timeline.record("trainer", name, started, now)
        return now - started
