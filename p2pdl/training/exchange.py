"""The exchange as the trainer sees it: called once after every step, it starts pulls, merges what came, publishes.

Cui, "Decentralized Deep Learning with Gradient Compression" (2019), Algorithm 1, lines 17 to 22, with the pull moved
behind the computation: `x += w (y - x0)`, where `x0` are this node's weights when the pull began.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from p2pdl.clock import Clock
from p2pdl.errors import PeerError
from p2pdl.merge import MergeRule, Standing, is_newcomer, joint_shares
from p2pdl.protocol.link import Link, LinkExperience
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.protocol.republication import Republication
from p2pdl.puller.directory import Directory
from p2pdl.puller.requests import Outcome
from p2pdl.puller.source import Source
from p2pdl.spec import shards_in
from p2pdl.store.writer import StoreWriter
from p2pdl.training.appraisal import Appraisal, Appraiser, Judge
from p2pdl.training.divergence import diverged
from p2pdl.training.downloads import Downloads
from p2pdl.training.exchange_counters import ExchangeCounters
from p2pdl.training.exchange_settings import ExchangeSettings
from p2pdl.training.smoothing import smoothed
from p2pdl.training.timeline import Timeline
from p2pdl.training.weights import ModelWeights
from p2pdl.types import Float32Vector, NodeId

log = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0
"""How long a node that has done its steps waits for the exchange that it ends on."""

TURN_SECONDS = 5.0
"""Without overlap, how long a node asks again at a peer that serves others first."""

BUSY_RETRY_SECONDS = 0.01

STOP_LOOK_SECONDS = 0.25
"""How soon a trainer that waits for a pull notices that it is to stop."""


class Exchange:
    """Keeps one node's weights in exchange with its neighbours'.

    Args:
        weights: The model's variables, bound to the inboxes of `downloads`.
        downloads: Fetch in the background.
        store: Where the node publishes.
        neighbours: Whom to ask.
        directory: Where the neighbours are.
        rule: How much of a peer's model to take.
        settings: When and how.
        clock: Source of times.
        timeline: Where to record what is done when; nowhere if None.
        judge: Measures what peers' weights are worth; None where this node has no data at hand to do so, and takes a
            peer's weights whole, as a newcomer does, without a look at them.
        stopping: True as soon as the node is to end: then nothing is waited for any more.
    """

    def __init__(
        self,
        weights: ModelWeights,
        downloads: Downloads,
        store: StoreWriter,
        neighbours: Neighbours,
        directory: Directory,
        rule: MergeRule,
        settings: ExchangeSettings,
        clock: Clock,
        timeline: Timeline | None = None,
        judge: Judge | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stopping = stopping
        self._weights = weights
        self._downloads = downloads
        self._store = store
        self.neighbours = neighbours
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._timeline = timeline
        self._appraiser = Appraiser(rule, settings.clip, settings.measured, judge, neighbours.answering)
        self.counters = ExchangeCounters()
        self._merges_before = 0
        self._resumed = False
        self.smoothed_loss = math.nan
        self._next_step = 0
        self._waiting: list[NodeId] = []
        self._shares: list[float] = []
        self._base: Float32Vector | None = None
        self._raw = False
        self._parts: list[range | None] = []
        self.sources: dict[NodeId, Source] = {}
        self._experience = LinkExperience()
        self._insist_until = -math.inf
        self._republication = Republication()
        self._step = 0
        self._samples = 0
        self._step_ended_at: float | None = None
        self.step_seconds = 0.0

    def resume(self, step: int, samples: int, loss: float, counters: ExchangeCounters) -> None:
        """Go on after a break, before the first step: with what was counted before, and a look at how far others are.

        Args:
            step: Optimizer steps done so far.
            samples: Training samples seen so far.
            loss: The smoothed loss.
            counters: Of the time before.
        """
        self._step, self._samples, self.smoothed_loss = step, samples, loss
        self.counters = counters
        self._merges_before = counters.merges
        self._resumed = True

    @property
    def _merges_here(self) -> int:
        """Merges since this process began: only its first one may be an adoption."""
        return self.counters.merges - self._merges_before

    def after_step(self, step: int, samples: int, loss: float) -> None:
        """Exchange what is due.

        Args:
            step: Optimizer steps done so far.
            samples: Training samples seen so far.
            loss: The loss of the step's own batch.

        Raises:
            DivergedError: The loss or the weights are not finite; nothing of them was published.
        """
        if not math.isfinite(loss):
            raise diverged(step, loss)
        self._time_step(step)
        self._step, self._samples = step, samples
        self.smoothed_loss = smoothed(self.smoothed_loss, loss)
        self._collect()
        if not self._downloads.is_busy:
            self._choose()
            self._begin()
        if not self._settings.overlap:
            self._insist_until = self._clock.now() + TURN_SECONDS
            while self._downloads.is_busy and not self._stopping():
                self._settle(math.inf)
                self._begin()
        if self._republication.is_due(self._clock.now(), self._store.newest_was_read):
            self._publish()

    def finish(self) -> None:
        """End on an exchange, as every iteration of Algorithm 1 does, then publish the last weights, which stay.

        The pull under way is merged if it ends within `SETTLE_SECONDS`, and so is one more round of pulls: the last
        steps are averaged like all others, also those that a straggler did when nobody had anything new.

        Raises:
            DivergedError: The last weights are not finite.
        """
        started = self._clock.now()
        give_up_at = started + SETTLE_SECONDS
        self._settle(give_up_at)
        self._insist_until = give_up_at
        self._look_around()
        self._waiting, self._shares = list(self.neighbours.choose_last()), []
        while self._waiting and not self._downloads.is_busy:
            self._begin(anew=True)
            self._settle(give_up_at)
        self.call_off()
        self._record("end on an exchange", started)
        self._publish(final=True)

    def call_off(self) -> None:
        """Forget the pulls under way and those still waiting: the weights that they began from are not to be merged."""
        self._downloads.call_off()
        self._waiting.clear()
        self._release()

    def while_evaluating(self) -> None:
        """The server process answers for this node, and pulls go on in their thread."""

    def after_evaluation(self, seconds: float) -> None:
        """See `Interrupted.after_evaluation`: links are judged by how long steps take."""
        if self._step_ended_at is not None:
            self._step_ended_at += seconds

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
            self._look_around()
            self._waiting, self._shares = list(self.neighbours.choose(self._clock.now())), []
            if self._waiting:
                self._next_step = self._step + self._settings.exchange_every

    def _look_around(self) -> None:
        if self._directory.refresh():
            self.neighbours.follow(self._directory.states)

    def source(self, peer: NodeId) -> Source:
        """What is known of the way to a peer."""
        if peer not in self.sources:
            spec, settings = self._weights.spec, self._settings
            shards = shards_in(spec.size)
            link = Link(settings.link, -(-shards // min(shards, settings.parts)), self._experience)
            self.sources[peer] = Source(spec, link, settings.parts)
        return self.sources[peer]

    def _begin(self, anew: bool = False) -> None:
        """Pull from the next peers in turn if any wait, `anew` even what is known."""
        if not self._waiting:
            return
        # The version published now is `x0` of the pulls, kept until the answers are there.
        self._publish()
        self._base = self._store.pin_newest()
        # Whether a first merge adopts the peer's weights is known only when they are here: receive them as they are.
        self._raw = self._merges_here == 0
        count = 1 if self._raw else len(self._downloads.inboxes)
        peers, self._waiting = self._waiting[:count], self._waiting[count:]
        self._parts.clear()
        for inbox, peer in zip(self._downloads.inboxes, peers, strict=False):
            inbox.expect(self._base, raw=self._raw)
            known = None if anew else self.neighbours.records[peer].known
            order = self.source(peer).order(peer, self._directory.addresses[peer], inbox.accept, known, whole=self._raw)
            self._parts.append(order.part)
            self._downloads.start(order)

    def _settle(self, give_up_at: float) -> None:
        while self._downloads.is_busy and not self._stopping() and (left := give_up_at - self._clock.now()) > 0:
            self._collect(min(left, STOP_LOOK_SECONDS))

    def _collect(self, timeout: float = 0.0) -> None:
        asked = self._clock.now()
        outcomes = self._downloads.take(timeout)
        if timeout and not self._settings.overlap:
            self.counters.wait_seconds += self._record("wait", asked)
        if outcomes is None:
            return
        started = self._clock.now()
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
                found = self._appraise(number, outcome.peer, outcome.snapshot)
            except PeerError as error:
                self._skip(outcome, error)
                continue
            if outcome.error is not None:
                self._skip(outcome, outcome.error)
            self._shares.append(found.share)
            arrived.append((number, outcome, outcome.snapshot, found.factor))
        shares = joint_shares(self._shares, len(arrived))
        for (number, outcome, snapshot, factor), share in zip(arrived, shares, strict=True):
            self._merge(number, outcome, snapshot, None if factor is None else share * factor)
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

    def _appraise(self, number: int, peer: NodeId, snapshot: SnapshotReply) -> Appraisal:
        """How much of what has come from a peer is to be taken."""
        newcomer = is_newcomer(self._step, snapshot.step, self._merges_here, self._resumed)
        own = Standing(self.smoothed_loss, self._samples, self._step)
        inbox = self._downloads.inboxes[number]
        found = self._appraiser.appraise(peer, snapshot, own, inbox, self._parts[number], newcomer)
        if found.factor is None:
            # A newcomer's own loss says nothing about the weights that it is about to take.
            self.smoothed_loss = found.loss
        else:
            self.counters.clipped += found.factor < 1.0
        return found

    def _merge(self, number: int, outcome: Outcome, snapshot: SnapshotReply, share: float | None) -> None:
        inbox = self._downloads.inboxes[number]
        if share is None:
            self._weights.adopt(number)
            self.counters.adoptions += 1
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

    def _skip(self, outcome: Outcome, error: PeerError) -> None:
        peer = outcome.peer
        if error.code == "busy":
            self.counters.busy += 1
            self.neighbours.on_failure(peer, error, self._clock.now())
            if self._clock.now() < self._insist_until:
                time.sleep(BUSY_RETRY_SECONDS)
                self._waiting.insert(0, peer)
            return
        self.counters.merges_skipped += 1
        self.counters.failures[error.code] = self.counters.failures.get(error.code, 0) + 1
        now = self._clock.now()
        if self.neighbours.on_failure(peer, error, now, outcome.seconds):
            remedy = f" ({error.remedy})" if error.remedy else ""
            message = error.message if error.message.startswith(f"{peer}: ") else f"{peer}: {error.message}"
            record = self.neighbours.records[peer]
            if record.state == "quarantined":
                log.warning("quarantined %s%s; asked again in %g s", message, remedy, record.pause_until - now)
            else:
                log.warning("skipped %s%s; training goes on", message, remedy)

    def _release(self) -> None:
        self._base = None
        self._store.unpin()

    def _publish(self, final: bool = False) -> None:
        started, was_read = self._clock.now(), self._store.newest_was_read
        self._store.publish(
            self._weights.copy_in_pieces,
            step=self._step,
            samples=self._samples,
            loss=self.smoothed_loss,
            final=final,
        )
        cost = self._record("publish", started)
        self._republication.published(started + cost, cost, was_read)
        self.counters.publish_seconds += cost
        self.counters.publications += 1

    def _record(self, name: str, started: float) -> float:
        """Put what ends now into the timeline; returns how long it took."""
        now = self._clock.now()
        if self._timeline is not None:
            self._timeline.record("trainer", name, started, now)
        return now - started
