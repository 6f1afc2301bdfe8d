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
from p2pdl.merge import MergeRule, Standing, is_newcomer, joint_shares
from p2pdl.protocol.link import Link, LinkSettings
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.puller.requests import Outcome
from p2pdl.puller.source import Source
from p2pdl.spec import shards_in
from p2pdl.store.writer import StoreWriter
from p2pdl.training.downloads import Downloads
from p2pdl.training.timeline import Timeline
from p2pdl.training.weights import ModelWeights
from p2pdl.types import Float32Vector, NodeId

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
        weights: The model's variables, bound to the inboxes of `downloads`.
        downloads: Fetch in the background.
        store: Where the node publishes.
        neighbours: Whom to ask.
        addresses: `host:port` of each neighbour.
        rule: How much of a peer's model to take.
        settings: When and how.
        clock: Source of times.
        timeline: Where to record what is done when; nowhere if None.
    """

    def __init__(
        self,
        weights: ModelWeights,
        downloads: Downloads,
        store: StoreWriter,
        neighbours: Neighbours,
        addresses: Mapping[NodeId, str],
        rule: MergeRule,
        settings: ExchangeSettings,
        clock: Clock,
        timeline: Timeline | None = None,
    ) -> None:
        self._weights = weights
        self._downloads = downloads
        self._store = store
        self.neighbours = neighbours
        self._addresses = addresses
        self._rule = rule
        self._settings = settings
        self._clock = clock
        self._timeline = timeline
        self.counters = ExchangeCounters()
        self.smoothed_loss = math.nan
        self._next_step = 0
        self._waiting: list[NodeId] = []
        self._shares: list[float] = []
        self._base: Float32Vector | None = None
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
        if not self._downloads.is_busy:
            self._choose()
            self._begin()
        if not self._settings.overlap:
            self._insist_until = self._clock.now() + TURN_SECONDS
            while self._downloads.is_busy:
                self._settle(math.inf)
                self._begin()
        if self._is_publication_due():
            self._publish()

    def finish(self) -> None:
        """End on an exchange, as every iteration of Algorithm 1 does, then publish the last weights, which stay.

        The pull under way is merged if it ends within `SETTLE_SECONDS`, and so is one more round of pulls: the last
        steps are averaged like all others, also those that a straggler did when nobody had anything new.
        """
        started = self._clock.now()
        give_up_at = started + SETTLE_SECONDS
        self._settle(give_up_at)
        self._insist_until = give_up_at
        self._waiting, self._shares = list(self.neighbours.choose_last()), []
        while self._waiting and not self._downloads.is_busy:
            self._begin(anew=True)
            self._settle(give_up_at)
        self._downloads.call_off()
        self._waiting.clear()
        self._release()
        self._record("end on an exchange", started)
        self._publish(final=True)

    def close(self) -> None:
        """End the background threads."""
        self._downloads.close()
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

    def _begin(self, anew: bool = False) -> None:
        """Pull from the next peers in turn if any wait, `anew` even what is known."""
        if not self._waiting:
            return
        # The version published now is `x0` of the pulls, kept until the answers are there.
        self._publish()
        self._base = self._store.pin_newest()
        # Whether a first merge adopts the peer's weights is known only when they are here: receive them as they are.
        self._raw = self.counters.merges == 0
        count = 1 if self._raw else len(self._downloads.inboxes)
        peers, self._waiting = self._waiting[:count], self._waiting[count:]
        for inbox, peer in zip(self._downloads.inboxes, peers, strict=False):
            inbox.expect(None if self._raw else self._base)
            known = None if anew else self.neighbours.records[peer].known
            self._downloads.start(
                self.sources[peer].order(peer, self._addresses[peer], inbox.accept, known, whole=self._raw)
            )

    def _settle(self, give_up_at: float) -> None:
        while self._downloads.is_busy and (left := give_up_at - self._clock.now()) > 0:
            self._collect(min(left, 60.0))

    def _collect(self, timeout: float = 0.0) -> None:
        asked = self._clock.now()
        outcomes = self._downloads.take(timeout)
        if timeout and not self._settings.overlap:
            self.counters.wait_seconds += self._record("wait", asked)
        if outcomes is None:
            return
        arrived = []
        for number, outcome in enumerate(outcomes):
            self._note(number, outcome)
            try:
                if outcome.error is not None and not self._has_left_something(outcome):
                    raise outcome.error
                assert outcome.snapshot is not None
                if outcome.unchanged:
                    self.counters.unchanged += 1
                    self.neighbours.on_unchanged(outcome.peer, outcome.snapshot, self._clock.now())
                    continue
                share = self._share(outcome.peer, outcome.snapshot)
            except PeerError as error:
                self._skip(outcome.peer, error)
                continue
            if outcome.error is not None:
                self._skip(outcome.peer, outcome.error)
            self._shares.append(share)
            arrived.append((number, outcome, outcome.snapshot))
        started = self._clock.now()
        for (number, outcome, snapshot), share in zip(arrived, joint_shares(self._shares, len(arrived)), strict=True):
            self._merge(number, outcome, snapshot, share)
        if arrived:
            self.counters.merge_seconds += self._record("merge", started)
        self._release()

    def _has_left_something(self, outcome: Outcome) -> bool:
        """True if a pull that failed has brought what no later one brings again: it is merged like a part."""
        return outcome.accepted > 0 and not self._raw and self.sources[outcome.peer].sends_differences

    def _note(self, number: int, outcome: Outcome) -> None:
        """Count a pull and learn from it, however it ended."""
        self.counters.bytes_received += outcome.nbytes
        self.counters.payload_bytes_received += outcome.payload_nbytes
        self.counters.pull_seconds += outcome.seconds
        source = self.sources[outcome.peer]
        if self._timeline is not None:
            ended = "unchanged" if outcome.unchanged else "whole"
            self._timeline.record(
                self._timeline.pullers[number],
                f"pull {outcome.peer}",
                outcome.ended - outcome.seconds,
                outcome.ended,
                codec=source.link.codec,
                bytes=outcome.nbytes,
                version=outcome.snapshot.version if outcome.snapshot else None,
                outcome=outcome.error.code if outcome.error else ended,
            )
        if source.on_outcome(outcome, self._settings.exchange_every * self.step_seconds):
            log.warning("the link to %s is slow: %s", outcome.peer, source.link.reason)

    def _share(self, peer: NodeId, snapshot: SnapshotReply) -> float:
        """The rule's share of a peer against oneself."""
        if snapshot.loss is None:
            raise PeerRefused(f"{peer}: has not trained yet", code="not-trained-yet")
        own = Standing(self.smoothed_loss, self._samples, self._step)
        return self._rule.weight(own, Standing(snapshot.loss, snapshot.samples, snapshot.step))

    def _merge(self, number: int, outcome: Outcome, snapshot: SnapshotReply, share: float) -> None:
        inbox = self._downloads.inboxes[number]
        if is_newcomer(self._step, snapshot.step, self.counters.merges):
            self._weights.adopt(number)
            self.counters.adoptions += 1
            assert snapshot.loss is not None
            # A newcomer's own loss says nothing about the weights it has just taken.
            self.smoothed_loss = snapshot.loss
            log.info("took the weights of %s whole (step %d)", outcome.peer, snapshot.step)
        else:
            if self._raw:
                assert self._base is not None
                inbox.subtract(self._base)
            arrived = None
            if not inbox.is_whole:
                inbox.clear_missing()
                arrived = inbox.arrived()
            self._weights.merge_difference(share, arrived, number)
        if outcome.error is not None:
            return
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

    def _publish(self, final: bool = False) -> None:
        started = self._clock.now()
        self._store.publish(
            self._weights.copy_in_pieces,
            step=self._step,
            samples=self._samples,
            loss=self.smoothed_loss,
            final=final,
        )
        self._publish_cost = self._record("publish", started)
        self._published_at = started + self._publish_cost
        self.counters.publish_seconds += self._publish_cost
        self.counters.publications += 1

    def _record(self, name: str, started: float) -> float:
        """Put what ends now into the timeline; returns how long it took."""
        now = self._clock.now()
        if self._timeline is not None:
            self._timeline.record("trainer", name, started, now)
        return now - started
