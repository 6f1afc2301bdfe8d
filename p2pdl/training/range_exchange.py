"""What a worker does that exchanges one range of the model after each step, while it computes the next one.

Tsai, "Large scale deep learning parameter server" (2017): "sending less data to server", a range of keys at a time, and
no longer a range than what the computation hides. The ranges go through the model in turn. What is pushed of a shard is
the mean of its gradients since its last turn, as if they were those of one larger batch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from p2pdl.clock import Clock
from p2pdl.codec.finite import is_finite
from p2pdl.lifeline import yield_to_training
from p2pdl.protocol.range_choice import RangeChoice
from p2pdl.puller.server_link import ServerLink
from p2pdl.sparsifier import Selection
from p2pdl.training.divergence import diverged, diverged_update
from p2pdl.training.exchange_counters import ExchangeCounters
from p2pdl.training.server_contact import ServerContact
from p2pdl.training.smoothing import smoothed
from p2pdl.training.timeline import Timeline
from p2pdl.types import Float32Vector

Parts = Sequence[tuple[ServerLink, range]]
"""Each server with the shards of its own that one exchange moves, maybe none."""

Spans = list[tuple[str, float, float]]
"""What an exchange did, from when to when."""


class RangeExchange:
    """Runs after each step of a worker whose optimizer is at the server.

    The gradient of a step is that of the weights as they were when it began: what the step before has changed is under
    way meanwhile. A worker is one iteration older than one that waits, and the policies count from there.

    Args:
        contact: The servers; used by one thread at a time.
        gradient: Where a step writes its gradient, shape (size,).
        choice: How long ranges are.
        clock: Source of times.
        timeline: Where to record what is done when; nowhere if None.

    Attributes:
        smoothed_loss: Of the worker's own batches.
    """

    def __init__(
        self,
        contact: ServerContact,
        gradient: Float32Vector,
        choice: RangeChoice,
        clock: Clock,
        timeline: Timeline | None = None,
    ) -> None:
        self._contact = contact
        self._gradient = gradient
        self._choice = choice
        self._clock = clock
        self._timeline = timeline
        self.smoothed_loss = math.nan
        self._accumulated = np.zeros_like(gradient)
        self._outgoing = np.zeros_like(gradient)
        self._steps = np.zeros(sum(link.shards for link in contact.links), np.int64)
        self._thread = ThreadPoolExecutor(1, "p2pdl-exchange", yield_to_training)
        self._under_way: Future[Spans] | None = None
        self._parts: Parts = ()
        self._keys = 0
        self._next_key = 0
        self._joined = 0
        self._called_off = False
        self._samples = self._pushed_samples = 0
        self._computing_since = 0.0

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
        for link in self._contact.links:
            self._contact.wait_until_admitted(link)
            self._contact.pull(link)
        self._joined = self._contact.joined
        if not self._contact.stopping():
            self._contact.adopt_all()
        self._computing_since = self._clock.now()

    def after_step(self, step: int, samples: int, loss: float) -> None:
        """Take what the exchange under way has brought, and begin the next one.

        Args:
            step: Steps done so far.
            samples: Training samples seen so far.
            loss: The loss of the step's own batch.

        Raises:
            DivergedError: The loss or the gradient is not finite; nothing of it is ever pushed.
            PeerError: A server refuses this worker for good.
        """
        self._choice.on_computed(self._clock.now() - self._computing_since)
        if not math.isfinite(loss):
            raise diverged(step, loss)
        if not is_finite(self._gradient):
            raise diverged_update(step)
        self._samples = samples
        self.smoothed_loss = smoothed(self.smoothed_loss, loss)
        if self._called_off:
            # What this step has made began from weights of long ago, which are nobody else's.
            self._called_off, self._joined = False, -1
        else:
            np.add(self._accumulated, self._gradient, out=self._accumulated)
            self._steps += 1
        self._collect()
        if not self._contact.stopping():
            self._begin(self._choice.size, loss, partial=True)
        self._computing_since = self._clock.now()

    def finish(self) -> None:
        """Push what has not been pushed, and tell the servers that all steps are done."""
        self._collect()
        if self._steps.any() and not self._contact.stopping():
            self._next_key = 0
            self._begin(self._steps.size, self.smoothed_loss, partial=False)
            self._collect()
        self._contact.leave()

    def take_final(self) -> dict[str, str]:
        """Take the weights that the servers have in the end.

        Returns:
            Why there are none, by server.
        """
        return self._contact.take_final()

    def call_off(self) -> None:
        """Forget every gradient that was not pushed, and go on from the servers' weights after the next step."""
        self._accumulated[:], self._steps[:] = 0.0, 0
        self._called_off = True
        self._computing_since = self._clock.now()

    def while_evaluating(self) -> None:
        """Keep the leases of this worker, once the exchange under way, which does so itself, is over."""
        if self._under_way is None or self._under_way.done():
            self._contact.greet()

    def after_evaluation(self, seconds: float) -> None:
        """See `Interrupted.after_evaluation`: ranges are as long as what the computation hides."""
        self._computing_since += seconds

    def close(self) -> None:
        """End the thread; what is under way ends when the node is to stop."""
        self._thread.shutdown()

    def _begin(self, size: int, loss: float, partial: bool) -> None:
        """Begin to exchange the next range, with all that has come together for it."""
        first = self._next_key
        self._keys, self._parts = self._range_from(first, size)
        self._next_key = (first + self._keys) % self._steps.size
        spans = [link.elements(range(number, number + 1)) for link, part in self._parts for number in part]
        for key, span in enumerate(spans, first):
            np.divide(self._accumulated[span], np.float32(max(1, self._steps[key])), out=self._outgoing[span])
            self._accumulated[span], self._steps[key] = 0.0, 0
        samples = self._samples - self._pushed_samples
        self._pushed_samples = self._samples
        seed = self.counters.publications
        self.counters.publications += 1
        self._under_way = self._thread.submit(self._exchange, self._parts, loss, samples, seed, partial)

    def _exchange(self, parts: Parts, loss: float, samples: int, seed: int, partial: bool) -> Spans:
        """Push and pull, in the thread; says what has taken how long, waiting to be admitted left aside."""
        selection = Selection(None, self._outgoing)
        spans: Spans = []
        for link, part in parts:
            push = functools.partial(link.push, selection, loss, samples, seed, part if partial else None)
            started = self._clock.now()
            self._contact.tried(link, push, rejoins=True)
            spans.append(("push", started, self._clock.now()))
        for link, part in parts:
            self._contact.wait_until_admitted(link)
            if part:
                started = self._clock.now()
                self._contact.pull(link, part)
                spans.append(("pull", started, self._clock.now()))
        return spans

    def _collect(self) -> None:
        """Wait for the exchange under way, and take what it has brought."""
        spans = self._waited()
        if self._contact.stopping():
            return
        if self._contact.joined != self._joined:
            # With a server's last minute pushes may be lost, and any of its weights may be others now.
            self._joined = self._contact.joined
            for link in self._contact.links:
                self._contact.pull(link)
            if not self._contact.stopping():
                self._contact.adopt_all()
        elif spans:
            seconds = sum(ended - started for _, started, ended in spans)
            self._choice.on_exchanged(self._keys, seconds)
            self.counters.pull_seconds += seconds
            self.counters.merges += 1
            for link, part in self._parts:
                if part:
                    self._contact.adopt(link, part)

    def _waited(self) -> Spans:
        """What the exchange under way did, when it is over."""
        if self._under_way is None:
            return []
        started = self._clock.now()
        spans = self._under_way.result()
        self._under_way = None
        ended = self._clock.now()
        self.counters.wait_seconds += ended - started
        if self._timeline is not None:
            self._timeline.record("trainer", "wait", started, ended)
            for span in spans:
                self._timeline.record(self._timeline.pullers[0], *span)
        return spans

    def _range_from(self, first: int, size: int) -> tuple[int, Parts]:
        """The range that begins with a key and ends with the model at the latest; its length, and what is whose."""
        stop = min(first + size, self._steps.size)
        parts, start = [], 0
        for link in self._contact.links:
            begin, end = (min(max(key - start, 0), link.shards) for key in (first, stop))
            parts.append((link, range(begin, end)))
            start += link.shards
        return stop - first, parts
