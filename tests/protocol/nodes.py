"""A node without store, socket or process: what a server needs to know of it, and a network to reach it by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from p2pdl.clock import VirtualClock
from p2pdl.codec import create
from p2pdl.codec.ends import Decoder, StatelessDecoder
from p2pdl.protocol.actions import Accept, Action, Send
from p2pdl.protocol.messages import Envelope, Reply, Request, StatusReply
from p2pdl.protocol.pull import Pull, PullSettings, VersionKey
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.server.answer import Answerer, reply_only
from p2pdl.spec import SHARD_ELEMENTS, Snapshot, SnapshotInfo, WeightSpec, shard_digests, vector_digest
from p2pdl.transport.contract import Frames, Received
from p2pdl.transport.memory import Handler, MemoryNetwork
from p2pdl.types import Float32Vector
from p2pdl.wire import decode, encode
from tests.stores import dense_spec

CLUSTER = "lab"
ADDRESS = "beta:1"

MODEL = WeightSpec.layout(
    [
        ("first", (1000,), "float32", True),
        ("mean", (33,), "float32", False),
        ("wide", (SHARD_ELEMENTS + 5000,), "float32", True),
        ("variance", (40,), "float32", False),
        ("last", (300,), "float32", True),
    ]
)
"""Two shards, of which the last is short, with statistics in both."""

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

    def layout(self) -> WeightSpec | None:
        return self.spec

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


def model_serving(spec: WeightSpec, vector: Float32Vector) -> PlainNode:
    """A node of some layout that has published one vector."""
    node = PlainNode(spec)
    node.publish(vector)
    return node


def handler_of(node: PlainNode, cluster: str = CLUSTER, limits: ServingLimits | None = None) -> Handler:
    """What answers for the node in a network."""
    return reply_only(Answerer(cluster, "beta", Serving(cluster, node, limits)))


def network_of(
    node: PlainNode, *, cluster: str = CLUSTER, seed: int = 0, limits: ServingLimits | None = None
) -> MemoryNetwork:
    """A network in which the node is served at `ADDRESS`."""
    network = MemoryNetwork(VirtualClock(), seed)
    network.serve(ADDRESS, handler_of(node, cluster, limits))
    return network


def damage_replies(
    network: MemoryNetwork, node: PlainNode, damage: Damage, serving: Serving | None = None
) -> list[Request]:
    """Let a function change what the node answers; returns the list in which the requests are noted."""
    answerer = Answerer(CLUSTER, "beta", serving or Serving(CLUSTER, node))
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
        longest_silence: Seconds between two replies.
    """

    vector: Float32Vector
    actions: list[Action]
    finished: float
    longest_silence: float = 0.0

    @property
    def last(self) -> Action:
        return self.actions[-1]

    def requests(self) -> list[Request]:
        return [action.request for action in self.actions if isinstance(action, Send)]


class LivePull:
    """A pull from `ADDRESS` by the core alone, which its network moves on, beside others if there are any.

    Args:
        network: The network and its time.
        size: Elements expected.
        settings: Of the pull.
        spec: Digest of the spec; that of `dense_spec(size)` if empty.
        known: The version that is not worth pulling again.
        decoder: This end of the codec; plain float32 where None.
        part: The shards to pull.
        name: Who pulls.
    """

    def __init__(
        self,
        network: MemoryNetwork,
        size: int,
        settings: PullSettings | None = None,
        *,
        spec: str = "",
        known: VersionKey | None = None,
        decoder: Decoder | None = None,
        part: range | None = None,
        name: str = "alpha",
    ) -> None:
        digest = spec or dense_spec(size).digest
        decoder = decoder or StatelessDecoder(create("float32"), size)
        self._pull = Pull(
            "beta", size, digest, count(1), settings or PullSettings(range_shards=1, window=4), decoder, known, part
        )
        self._network = network
        self._client = network.client(name, self._arrive)
        self._name = name
        self._pulled = Pulled(np.full(size, np.nan, np.float32), [], 0.0)
        self._perform(self._pull.on_start(network.clock.now()))

    def wait(self) -> Pulled:
        """Let time pass until the pull is over."""
        while not self._pull.over:
            self._network.run_until(self._pull.deadline, stop=lambda: self._pull.over)
            self._perform(self._pull.on_tick(self._network.clock.now()))
        return self._pulled

    def _arrive(self, received: Received, now: float) -> None:
        self._perform(self._pull.on_reply(decode(received.frames[0]), received.frames[1:], now))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(request_id, request):
                    self._client.send(ADDRESS, [encode(Envelope(request_id, CLUSTER, self._name, request))])
                case Accept(offset, values, None):
                    self._pulled.vector[offset : offset + values.size] = values
                case Accept(offset, values, indices):
                    self._pulled.vector[offset + indices] = values
        self._pulled.actions.extend(actions)
        if actions and self._pull.over:
            self._pulled.finished = self._network.clock.now()
            self._pulled.longest_silence = self._pull.longest_silence


def run_pull(
    network: MemoryNetwork,
    size: int,
    settings: PullSettings | None = None,
    *,
    spec: str = "",
    known: VersionKey | None = None,
    decoder: Decoder | None = None,
    part: range | None = None,
    name: str = "alpha",
) -> Pulled:
    """A `LivePull` until it is over."""
    return LivePull(network, size, settings, spec=spec, known=known, decoder=decoder, part=part, name=name).wait()


def pull_model(
    network: MemoryNetwork,
    decoder: Decoder,
    *,
    range_shards: int = 1,
    known: VersionKey | None = None,
    part: range | None = None,
    name: str = "alpha",
) -> Pulled:
    """Pull a version of `MODEL`."""
    settings = PullSettings(request_timeout=1.0, range_shards=range_shards, window=4)
    return run_pull(
        network, MODEL.size, settings, spec=MODEL.digest, known=known, decoder=decoder, part=part, name=name
    )


def model_vector(seed: int, scale: float = 1.0) -> Float32Vector:
    """Weights of `MODEL`, 0 in the padding."""
    rng = np.random.default_rng(seed)
    vector = np.zeros(MODEL.size, np.float32)
    for variable in MODEL.variables:
        vector[variable.span] = scale * rng.standard_normal(variable.size)
    return vector
