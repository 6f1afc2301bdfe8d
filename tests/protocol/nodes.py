"""A node without store, socket or process: what a server needs to know of it, and a network to reach it by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from p2pdl.clock import VirtualClock
from p2pdl.protocol.actions import Accept, Action, Send
from p2pdl.protocol.messages import Envelope, Reply, Request, StatusReply
from p2pdl.protocol.pull import Pull, PullSettings, VersionKey
from p2pdl.protocol.serving import Serving
from p2pdl.server.answer import Answerer, reply_only
from p2pdl.spec import Snapshot, SnapshotInfo, WeightSpec, shard_digests, vector_digest
from p2pdl.transport.contract import Frames
from p2pdl.transport.memory import Handler, MemoryNetwork
from p2pdl.types import Float32Vector
from p2pdl.wire import decode, encode
from tests.stores import dense_spec

CLUSTER = "lab"
ADDRESS = "beta:1"

Damage = Callable[[Request, Reply, list[bytes]], tuple[Reply, list[bytes]] | bytes | None]
"""What becomes of a reply: (request, reply, payload) -> reply and payload, or junk bytes, or silence."""


@dataclass
class PlainNode:
    """A `NodeView` over plain attributes.

    Attributes:
        spec: The model's layout; None while it is not built.
        life: The incarnation.
        published: Versions, the newest last.
        loads: How often a version was loaded.
    """

    spec: WeightSpec | None = None
    life: str = "first-life"
    published: list[Snapshot] = field(default_factory=list)
    loads: int = 0

    def publish(self, vector: Float32Vector, *, loss: float = 0.5, now: float = 0.0, final: bool = False) -> Snapshot:
        version = len(self.published) + 1
        info = SnapshotInfo(version, 10 * version, 640 * version, loss, final, vector_digest(vector), now)
        vector = vector.copy()
        vector.flags.writeable = False
        self.published.append(Snapshot(info, vector, shard_digests(vector)))
        return self.published[-1]

    def incarnation(self) -> str:
        return self.life

    def spec_digest(self) -> str:
        return self.spec.digest if self.spec else ""

    def spec_rows(self) -> bytes:
        return "\n".join(self.spec.rows()).encode() if self.spec else b""

    def status(self, now: float) -> StatusReply:
        return StatusReply(self.life, "training", 5, 100, 320, 0.5, 0.0, {"density": 0.5}, ())

    def newest_version(self) -> int | None:
        return self.published[-1].info.version if self.published else None

    def load(self) -> Snapshot | None:
        self.loads += 1
        return self.published[-1] if self.published else None


def node_serving(vector: Float32Vector) -> PlainNode:
    """A node that has published one vector."""
    node = PlainNode(dense_spec(vector.size))
    node.publish(vector)
    return node


def handler_of(node: PlainNode, cluster: str = CLUSTER) -> Handler:
    """What answers for the node in a network."""
    return reply_only(Answerer(cluster, "beta", Serving(cluster, node)))


def network_of(node: PlainNode, *, cluster: str = CLUSTER, seed: int = 0) -> MemoryNetwork:
    """A network in which the node is served at `ADDRESS`."""
    network = MemoryNetwork(VirtualClock(), seed)
    network.serve(ADDRESS, handler_of(node, cluster))
    return network


def damage_replies(network: MemoryNetwork, node: PlainNode, damage: Damage) -> list[Request]:
    """Let a function change what the node answers; returns the list in which the requests are noted."""
    answerer = Answerer(CLUSTER, "beta", Serving(CLUSTER, node))
    seen: list[Request] = []

    def answer(frames: list[memoryview], now: float) -> Frames | None:
        request = decode(frames[0])
        seen.append(request.message)  # type: ignore[arg-type]
        header, *payload = answerer(frames, now).frames
        reply: Reply = decode(header).message  # type: ignore[assignment]
        changed = damage(request.message, reply, [bytes(frame) for frame in payload])  # type: ignore[arg-type]
        if changed is None or isinstance(changed, bytes):
            return changed if changed is None else [changed]
        reply, payload = changed
        return [encode(Envelope(request.id, CLUSTER, "beta", reply)), *payload]

    network.serve(ADDRESS, answer)
    return seen


@dataclass
class Pulled:
    """A pull that is over.

    Attributes:
        vector: What has been accepted, NaN elsewhere.
        actions: Everything that the core asked for.
        finished: When it was over.
    """

    vector: Float32Vector
    actions: list[Action]
    finished: float

    @property
    def last(self) -> Action:
        return self.actions[-1]

    def requests(self) -> list[Request]:
        return [action.request for action in self.actions if isinstance(action, Send)]


def run_pull(
    network: MemoryNetwork,
    size: int,
    settings: PullSettings | None = None,
    *,
    spec: str = "",
    known: VersionKey | None = None,
) -> Pulled:
    """Pull from `ADDRESS` by the core alone, until it is over.

    Args:
        network: The network and its time.
        size: Elements expected.
        settings: Of the pull.
        spec: Digest of the spec; that of `dense_spec(size)` if empty.
        known: The version that is not worth pulling again.
    """
    client = network.client("alpha")
    pull = Pull("beta", size, spec or dense_spec(size).digest, count(1), settings or PullSettings(), known)
    vector = np.full(size, np.nan, np.float32)
    done: list[Action] = []

    def perform(actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(request_id, request):
                    client.send(ADDRESS, [encode(Envelope(request_id, CLUSTER, "alpha", request))])
                case Accept(offset, shard):
                    vector[offset : offset + shard.size] = shard
        done.extend(actions)

    perform(pull.on_start(network.clock.now()))
    while not pull.over:
        received = client.receive(max(0.0, pull.deadline - network.clock.now()))
        if received is None:
            perform(pull.on_tick(network.clock.now()))
        else:
            perform(pull.on_reply(decode(received.frames[0]), received.frames[1:], network.clock.now()))
    return Pulled(vector, done, network.clock.now())
