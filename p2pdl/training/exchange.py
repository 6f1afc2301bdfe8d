"""The exchange as the trainer sees it: called once after every step, it starts pulls, merges what came, publishes.

Cui, "Decentralized Deep Learning with Gradient Compression" (2019), Algorithm 1, lines 17 to 22, with the pull moved
behind the computation: `x += w (y - x0)`, where `x0` are this node's weights when the pull began.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pdl.clock import Clock
from p2pdl.errors import PeerError, PeerRefused
from p2pdl.merge import MergeRule, Standing, is_newcomer, sequential_share
from p2pdl.protocol.link import Link, LinkSettings
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.protocol.pull import shards_in
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.puller import Puller
from p2pdl.puller.requests import Outcome
from p2pdl.puller.source import Source
from p2pdl.store.writer import StoreWriter
from p2pdl.training.weights import ModelWeights
from p2pdl.types import NodeId

log = logging.getLogger(__name__)

LOSS_MEMORY = 0.95
"""Share of the past in the smoothed loss: about twenty steps of batch losses."""

SETTLE_SECONDS = 10.0
"""How long a node that has done its steps waits for the exchange that it ends on."""

TURN_SECONDS = 5.0
"""Without overlap, how long a node asks again at a peer that serves others first."""

BUSY_RETRY_SECONDS = 0.01

READ_REPUBLISH_COST = 5.0
"""A version that somebody has read is replaced after so many times what publishing costs: at the next step, unless
steps are hardly longer than publications."""

UNREAD_REPUBLISH_COST = 50.0
"""A version that nobody has read is replaced after so many times what publishing costs: it never gets old."""


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """When and how to exchange.

    Attributes:
        exchange_every: Steps between the starts of two exchanges, at least.
        overlap: True to pull while the next steps compute, False to wait for each pull.
        parts: Into how many parts the model is divided, of which each exchange moves the next one.
        link: What is configured about every link.
    """

    exchange_every: int = 1
    overlap: bool = True
    parts: int = 1
    link: LinkSettings = LinkSettings()


@dataclass(slots=True)
class ExchangeCounters:
    """What the exchange has done so far; seconds are the trainer thread's."""

    merges: int = 0
    merges_skipped: int = 0
    adoptions: int = 0
    unchanged: int = 0
    busy: int = 0
    publications: int = 0
    publications_skipped: int = 0
    bytes_received: int = 0
    payload_bytes_received: int = 0
    pull_seconds: float = 0.0
    wait_seconds: float = 0.0
    merge_seconds: float = 0.0
    publish_seconds: float = 0.0
    staleness_sum: int = 0
    failures: dict[str, int] = field(default_factory=dict)


def smoothed(previous: float, loss: float) -> float:
    """The exponentially smoothed loss after one more batch; the first batch's where there is no previous one."""
    return loss if math.isnan(previous) else previous + (1.0 - LOSS_MEMORY) * (loss - previous)


class Exchange:
    """Keeps one node's weights in exchange with its neighbours'.

    Args:
        weights: The model's variables, bound to the inbox.
        inbox: Where pulled vectors arrive.
        store: Where the node publishes.
        puller: Fetches in the background.
        neighbours: Whom to ask.
        addresses: `host:port` of each neighbour.
        rule: How much of a peer's model to take.
        settings: When and how.
        clock: Source of times.
    """

    def __init__(
        self,
        weights: ModelWeights,
        inbox: Inbox,
        store: StoreWriter,
        puller: Puller,
        neighbours: Neighbours,
        addresses: Mapping[NodeId, str],
        rule: MergeRule,
        settings: ExchangeSettings,
        clock: Clock,
    ) -> None:
        self._weights = weights
        self._inbox = inbox
        self._store = store
        self._puller = puller
        self.neighbours = neighbours
        self._addresses = addresses
        self._rule = rule
        self._settings = settings
        self._clock = clock
        self.counters = ExchangeCounters()
        self.smoothed_loss = math.nan
        self._next_step = 0
        self._waiting: list[NodeId] = []
        self._shares: list[float] = []
        self._base = None
        self._raw = False
        spec = weights.spec
        shards = shards_in(spec.size)
        self.sources = {
            peer: Source(spec, Link(settings.link, -(-shards // min(shards, settings.parts))), settings.parts)
            for peer in addresses
        }
        self._insist_until = -math.inf
        self._publish_cost = 0.0
        self._published_at = -math.inf
        self._step = 0
        self._samples = 0
        self._step_ended_at: float | None = None
        self.step_seconds = 0.0

    def after_step(self, step: int, samples: int, loss: float) -> None:
        """Exchange what is due.

        Args:
            step: Optimizer steps done so far.
            samples: Training samples seen so far.
            loss: The loss of the step's own batch.
        """
        self._time_step(step)
        self._step, self._samples = step, samples
        self.smoothed_loss = smoothed(self.smoothed_loss, loss)
        self._collect()
        if not self._puller.is_busy:
            self._choose()
            self._begin()
        if not self._settings.overlap:
            started = self._clock.now()
            self._insist_until = started + TURN_SECONDS
            while self._puller.is_busy:
                self._settle(math.inf)
                self._begin()
            self.counters.wait_seconds += self._clock.now() - started
        if self._is_publication_due():
            self._publish()

    def finish(self) -> None:
        """End on an exchange, as every iteration of Algorithm 1 does, then publish the last weights, which stay.

        The pull under way is merged if it ends within `SETTLE_SECONDS`, and so is one more round of pulls: the last
        steps are averaged like all others, also those that a straggler did when nobody had anything new.
        """
        give_up_at = self._clock.now() + SETTLE_SECONDS
        self._settle(give_up_at)
        self._insist_until = give_up_at
        self._waiting, self._shares = list(self.neighbours.choose_last()), []
        while self._waiting and not self._puller.is_busy and self._begin(anew=True):
            self._settle(give_up_at)
        self._puller.call_off()
        self._waiting.clear()
        self._release()
        if not self._publish(final=True):
            raise RuntimeError("no slot was free though nothing is pinned")

    def close(self) -> None:
        """End the background thread."""
        self._puller.close()
        self._release()

    def _time_step(self, step: int) -> None:
        now = self._clock.now()
        if self._step_ended_at is not None and step > self._step:
            seconds = (now - self._step_ended_at) / (step - self._step)
            self.step_seconds = smoothed(self.step_seconds, seconds) if self.step_seconds else seconds
        self._step_ended_at = now

    def _choose(self) -> None:
        if not self._waiting and self._step >= self._next_step:
            self._waiting, self._shares = list(self.neighbours.choose(self._clock.now())), []
            if self._waiting:
                self._next_step = self._step + self._settings.exchange_every

    def _begin(self, anew: bool = False) -> bool:
        """Pull from the next peer in turn, `anew` even what is known; False if none waits or no slot is free."""
        # The version published now is `x0` of the pull, kept until the answer is there.
        if not self._waiting or not self._publish():
            return False
        peer = self._waiting.pop(0)
        self._base = self._store.pin_newest()
        # Whether a first merge adopts the peer's weights is known only when they are here: receive them as they are.
        self._raw = self.counters.merges == 0
        self._inbox.expect(None if self._raw else self._base)
        known = None if anew else self.neighbours.records[peer].known
        self._puller.start(
            self.sources[peer].order(peer, self._addresses[peer], self._inbox.accept, known, whole=self._raw)
        )
        return True

    def _settle(self, give_up_at: float) -> None:
        while self._puller.is_busy and (left := give_up_at - self._clock.now()) > 0:
            self._collect(min(left, 60.0))

    def _collect(self, timeout: float = 0.0) -> None:
        if not self._puller.is_busy:
            return
        outcome = self._puller.take(timeout)
        if outcome is None:
            return
        self.counters.bytes_received += outcome.nbytes
        self.counters.payload_bytes_received += outcome.payload_nbytes
        self.counters.pull_seconds += outcome.seconds
        self._learn(outcome)
        try:
            if outcome.error is not None:
                raise outcome.error
            assert outcome.snapshot is not None
            if outcome.unchanged:
                self.counters.unchanged += 1
                self.neighbours.on_unchanged(outcome.peer, outcome.snapshot, self._clock.now())
                return
            self._merge(outcome, outcome.snapshot)
        except PeerError as error:
            self._skip(outcome.peer, error)
        finally:
            self._release()

    def _learn(self, outcome: Outcome) -> None:
        interval = self._settings.exchange_every * self.step_seconds
        if self.sources[outcome.peer].on_outcome(outcome, interval):
            link = self.sources[outcome.peer].link
            log.warning("the link to %s is slow: %s", outcome.peer, link.reason)

    def _merge(self, outcome: Outcome, snapshot: SnapshotReply) -> None:
        own = Standing(self.smoothed_loss, self._samples, self._step)
        if snapshot.loss is None:
            raise PeerRefused(f"{outcome.peer}: has not trained yet", code="not-trained-yet")
        peer = Standing(snapshot.loss, snapshot.samples, snapshot.step)
        started = self._clock.now()
        if is_newcomer(self._step, snapshot.step, self.counters.merges):
            self._weights.adopt()
            self.counters.adoptions += 1
            # A newcomer's own loss says nothing about the weights it has just taken.
            self.smoothed_loss = peer.loss
            log.info("took the weights of %s whole (step %d)", outcome.peer, snapshot.step)
        else:
            if self._raw:
                self._inbox.subtract(self._base)
            arrived = None
            if not self._inbox.is_whole:
                self._inbox.clear_missing()
                arrived = self._inbox.arrived()
            self._shares.append(self._rule.weight(own, peer))
            self._weights.merge_difference(sequential_share(self._shares), arrived)
        self.counters.merge_seconds += self._clock.now() - started
        self.counters.merges += 1
        source = self.sources[outcome.peer]
        source.staleness = max(0, self._step - snapshot.step)
        source.age = (snapshot.age or 0.0) + outcome.seconds
        self.counters.staleness_sum += source.staleness
        if self.neighbours.on_success(outcome.peer, snapshot):
            log.info("%s answers; merging with it", outcome.peer)

    def _skip(self, peer: NodeId, error: PeerError) -> None:
        if error.code == "busy":
            self.counters.busy += 1
            self.neighbours.on_failure(peer, error, self._clock.now())
            if self._clock.now() < self._insist_until:
                time.sleep(BUSY_RETRY_SECONDS)
                self._waiting.insert(0, peer)
            return
        self.counters.merges_skipped += 1
        self.counters.failures[error.code] = self.counters.failures.get(error.code, 0) + 1
        if self.neighbours.on_failure(peer, error, self._clock.now()):
            remedy = f" ({error.remedy})" if error.remedy else ""
            log.warning("skipped %s%s; training goes on", error.message, remedy)

    def _release(self) -> None:
        self._base = None
        self._store.unpin()

    def _is_publication_due(self) -> bool:
        age = self._clock.now() - self._published_at
        patience = READ_REPUBLISH_COST if self._store.newest_was_read else UNREAD_REPUBLISH_COST
        return age > patience * self._publish_cost

    def _publish(self, final: bool = False) -> bool:
        started = self._clock.now()
        version = self._store.publish(
            self._weights.copy_to, step=self._step, samples=self._samples, loss=self.smoothed_loss, final=final
        )
        self._published_at = self._clock.now()
        self._publish_cost = self._published_at - started
        self.counters.publish_seconds += self._publish_cost
        if version is None:
            self.counters.publications_skipped += 1
            return False
        self.counters.publications += 1
        return True
