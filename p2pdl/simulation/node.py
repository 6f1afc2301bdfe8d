"""A node whose training is a function of its vector and whose time is the network's."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np

from p2pdl.codec.ends import Decoder, decoder
from p2pdl.errors import PeerError
from p2pdl.merge import (
    DEFAULT_CLIP,
    Claims,
    Clipping,
    MergeRule,
    Standing,
    is_newcomer,
    joint_shares,
    merge_difference,
)
from p2pdl.protocol.actions import Accept, Action, Begin, Complete, Fail, Send, Unchanged
from p2pdl.protocol.messages import Envelope, SnapshotReply, StatusReply
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.protocol.pull import Pull, PullSettings
from p2pdl.protocol.serving import Serving
from p2pdl.puller.inbox import Inbox
from p2pdl.server.answer import Answerer, reply_only
from p2pdl.spec import Snapshot, SnapshotInfo, WeightSpec, combine_digests, shard_digests
from p2pdl.topology.contract import Topology
from p2pdl.transport.contract import Received
from p2pdl.transport.memory import MemoryNetwork
from p2pdl.types import Float32Vector, NodeId
from p2pdl.wire import decode, encode

LocalStep = Callable[[Float32Vector, int], tuple[Float32Vector, float]]
"""(weights, step) -> (weights after a step of training, loss of its batch)."""

Disguise = Callable[[Float32Vector, float], tuple[Float32Vector, float]]
"""(weights, loss) -> what a member gone bad publishes in their place."""

CLUSTER = "simulated"


class SimulatedNode:
    """Trains, serves and pulls as a real node does.

    Args:
        name: The node's name, which is its address too.
        peers: The other nodes.
        network: The network, whose clock is the time.
        weights: Initial vector of the spec's size.
        spec: The model's layout.
        topology: Whom to pull from.
        rule: How to merge.
        local_step: What training does to the vector.
        step_seconds: How long a step takes.
        steps: How many to do.
        seed: Of this node's chances.
        settings: Of its pulls.
        codec: How it pulls weights, as on the wire.
        clip: The radius of `Clipping`, in usual distances; None for none.
        incarnation: Name of this life, for a node that is started again.

    Attributes:
        disguise: What it publishes in place of its weights and loss; None for themselves.
    """

    def __init__(
        self,
        name: NodeId,
        peers: list[NodeId],
        network: MemoryNetwork,
        weights: Float32Vector,
        spec: WeightSpec,
        topology: Topology,
        rule: MergeRule,
        local_step: LocalStep,
        step_seconds: float,
        steps: int,
        seed: int,
        settings: PullSettings,
        codec: str = "float32",
        clip: float | None = DEFAULT_CLIP,
        incarnation: str = "1",
    ) -> None:
        self.name = name
        self.weights = weights.astype(np.float32)
        self.step = 0
        self.loss = math.nan
        self.merges = 0
        self.failures: Counter[str] = Counter()
        self.disguise: Disguise | None = None
        self.step_times: list[float] = []
        self._network = network
        self._spec = spec
        self._rule = rule
        self._claims = Claims()
        self._clipping = Clipping(clip)
        self._local_step = local_step
        self._step_seconds = step_seconds
        self._steps = steps
        self._settings = settings
        self._codec = codec
        self._decoders: dict[NodeId, Decoder] = {}
        self._ids = itertools.count(1)
        self._neighbours = Neighbours(name, peers, topology, np.random.default_rng([seed, 1]))
        self._client = network.client(name, self._on_arrival)
        self._view = SimulatedView(spec, incarnation)
        self._pull: Pull | None = None
        self._peer = ""
        self._waiting: list[NodeId] = []
        self._shares: list[float] = []
        self._base = self.weights
        self._inbox = Inbox(spec)
        self._raw = True
        self._arrived: SnapshotReply | None = None
        network.serve(name, reply_only(Answerer(CLUSTER, name, Serving(CLUSTER, self._view))))
        network.at(network.clock.now() + step_seconds, self._train)

    def crash(self) -> None:
        """Stop answering and training, for good."""
        self._network.stop(self.name)
        self._steps = self.step
        self._pull = None

    def _train(self) -> None:
        if self.step >= self._steps:
            return
        now = self._network.clock.now()
        self.weights, loss = self._local_step(self.weights, self.step)
        self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
        self.step += 1
        self.step_times.append(now)
        if self._arrived is not None:
            self._merge(self._arrived)
        if self._pull is None:
            self._begin(now)
        self._publish(now)
        self._network.at(now + self._step_seconds, self._train)

    def _begin(self, now: float) -> None:
        if not self._waiting:
            self._waiting, self._shares = list(self._neighbours.choose(now)), []
        if not self._waiting:
            return
        self._peer = self._waiting.pop(0)
        self._base = self.weights.copy()
        # A first merge may adopt the peer's weights: it wants all of them, as they are.
        self._raw = self.merges == 0
        self._inbox.expect(self._base, raw=self._raw)
        if self._raw or self._peer not in self._decoders:
            self._decoders[self._peer] = decoder(self._codec, self._spec)
        self._pull = Pull(
            self._peer,
            self._spec.size,
            self._spec.digest,
            self._ids,
            self._settings,
            self._decoders[self._peer],
            self._neighbours.records[self._peer].known,
        )
        self._perform(self._pull.on_start(now))

    def _merge(self, snapshot: SnapshotReply) -> None:
        self._arrived = self._pull = None
        now = self._network.clock.now()
        try:
            claimed = math.nan if snapshot.loss is None else snapshot.loss
            peer = Standing(self._claims.believe(self._peer, claimed, self.loss), snapshot.samples, snapshot.step)
            share = self._rule.weight(Standing(self.loss, self.step, self.step), peer)
            adopts = is_newcomer(self.step, snapshot.step, self.merges)
            factor = 1.0 if adopts else self._factor()
        except PeerError as error:
            self._fail(error)
            return
        if adopts:
            self.weights = self._inbox.vector.copy()
        else:
            if self._raw:
                self._inbox.subtract(self._base)
            self._shares.append(share)
            weight = factor * joint_shares(self._shares)[0]
            self.weights = merge_difference(self.weights, self._inbox.vector, weight, self._spec.state_spans)
        self.merges += 1
        self._neighbours.on_success(self._peer, snapshot)
        self._begin(now)

    def _factor(self) -> float:
        return self._clipping.factor(
            self._peer, self._inbox.distance, self._inbox.own_scale, self._neighbours.answering
        )

    def _on_arrival(self, received: Received, now: float) -> None:
        if self._pull is None or received.address != self._peer:
            return
        try:
            envelope = decode(received.frames[0])
        except PeerError as error:
            self._fail(error)
            return
        self._perform(self._pull.on_reply(envelope, received.frames[1:], now))

    def _on_time(self, pull: Pull) -> None:
        if self._pull is pull:
            self._perform(pull.on_tick(self._network.clock.now()))

    def _perform(self, actions: list[Action]) -> None:
        pull = self._pull
        assert pull is not None
        for action in actions:
            match action:
                case Send(request_id, request):
                    self._client.send(self._peer, [encode(Envelope(request_id, CLUSTER, self.name, request))])
                case Accept(offset, values, indices):
                    try:
                        self._inbox.accept(offset, values, indices)
                    except PeerError as error:
                        self._fail(error)
                        return
                case Complete(snapshot):
                    self._arrived = snapshot
                case Unchanged(snapshot):
                    self._neighbours.on_unchanged(self._peer, snapshot, self._network.clock.now())
                    self._pull = None
                    return
                case Fail(error):
                    self._fail(error)
                    return
                case Begin():
                    pass
        if not pull.over:
            self._network.at(pull.deadline, lambda: self._on_time(pull))

    def _fail(self, error: PeerError) -> None:
        self.failures[error.code] += 1
        self._neighbours.on_failure(self._peer, error, self._network.clock.now())
        self._client.reset(self._peer)
        self._pull = None

    def _publish(self, now: float) -> None:
        weights, loss = self.disguise(self.weights, self.loss) if self.disguise else (self.weights, self.loss)
        self._view.publish(weights, self.step, loss, now, final=self.step == self._steps)


class SimulatedView:
    """A `NodeView` of a vector in this process.

    Args:
        spec: The model's layout.
        incarnation: Name of the node's life.
    """

    def __init__(self, spec: WeightSpec, incarnation: str = "1") -> None:
        self._spec = spec
        self._incarnation = incarnation
        self._snapshot: Snapshot | None = None

    def publish(self, vector: Float32Vector, step: int, loss: float, now: float, final: bool) -> None:
        """Replace the newest version by a copy of `vector`."""
        version = self._snapshot.info.version + 1 if self._snapshot else 1
        copy = vector.copy()
        copy.flags.writeable = False
        digests = shard_digests(copy)
        info = SnapshotInfo(version, step, step, loss, final, combine_digests(digests), now)
        self._snapshot = Snapshot(info, copy, digests)

    def incarnation(self) -> str:
        """See `NodeView.incarnation`."""
        return self._incarnation

    def layout(self) -> WeightSpec | None:
        """See `NodeView.layout`."""
        return self._spec

    def newest_version(self) -> int | None:
        """See `VersionSource.newest_version`."""
        return self._snapshot.info.version if self._snapshot else None

    def load(self) -> Snapshot | None:
        """See `VersionSource.load`."""
        return self._snapshot

    def status(self, now: float) -> StatusReply:
        """See `NodeView.status`."""
        step = self._snapshot.info.step if self._snapshot else 0
        return StatusReply(self._incarnation, "training", step, 0, step, None, 0.0, {}, ())
