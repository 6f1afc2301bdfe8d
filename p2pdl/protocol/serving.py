"""What a node answers to each request: no socket, no clock, no copy of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Protocol

from p2pdl.protocol.held import HeldVersions, VersionSource
from p2pdl.protocol.messages import (
    RANGE_SHARDS,
    REFUSALS,
    Envelope,
    RangeReply,
    RangeRequest,
    Refusal,
    Reply,
    SnapshotReply,
    SnapshotRequest,
    SpecReply,
    SpecRequest,
    StatusReply,
    StatusRequest,
)
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector, NodeId

Payload = Sequence[Float32Vector | bytes]

SPEC_FRAME_BYTES = 1 << 20
SPEC_FRAMES = 16


class NodeView(VersionSource, Protocol):
    """What a server knows of its node."""

    def incarnation(self) -> str:
        """Random name of the trainer's life; versions count within it. Empty before the first."""
        ...

    def spec_digest(self) -> str:
        """Digest of the model's WeightSpec; empty while the model is not built."""
        ...

    def spec_rows(self) -> bytes:
        """The rows of the WeightSpec as UTF-8 lines; empty while the model is not built."""
        ...

    def status(self, now: float) -> StatusReply:
        """What the node says of itself."""
        ...


class Serving:
    """Answers requests about one node.

    Args:
        cluster: This node's cluster; requests for another one are refused.
        view: Where weights and status come from.
    """

    def __init__(self, cluster: str, view: NodeView) -> None:
        self._cluster = cluster
        self._view = view
        self._held = HeldVersions(view)
        self._incarnation = ""

    def on_request(self, envelope: Envelope, now: float) -> tuple[Reply, Payload]:
        """The reply and the frames that follow it.

        Args:
            envelope: The decoded request.
            now: Seconds of the machine's monotonic clock.
        """
        if envelope.cluster != self._cluster:
            return refusal("cluster", f"this is cluster {self._cluster!r}, not {envelope.cluster!r}"), ()
        if self._view.incarnation() != self._incarnation:
            self._incarnation = self._view.incarnation()
            self._held.forget()
        match envelope.message:
            case RangeRequest() as request:
                return self._range(request, envelope.node, now)
            case SnapshotRequest() as request:
                return self._snapshot(request, envelope.node, now), ()
            case StatusRequest():
                return self._view.status(now), ()
            case SpecRequest():
                return self._spec()
        return refusal("bad-request", f"{type(envelope.message).__name__} is not a request"), ()

    def _snapshot(self, request: SnapshotRequest, puller: NodeId, now: float) -> Reply:
        own = self._view.spec_digest()
        if own and request.spec != own:
            return refusal("model", f"the model's digest is {own} here and {request.spec} there")
        snapshot = self._held.newest(puller, now)
        if snapshot is None:
            return refusal("not-ready")
        info = snapshot.info
        if (request.known_incarnation, request.known_version) == (self._incarnation, info.version):
            self._held.end_lease(info.version, puller)
        return SnapshotReply(
            incarnation=self._incarnation,
            version=info.version,
            step=info.step,
            samples=info.samples,
            loss=info.loss if isfinite(info.loss) else None,
            final=info.final,
            digest=info.digest,
            size=snapshot.vector.size,
            age=max(0.0, now - info.published),
        )

    def _range(self, request: RangeRequest, puller: NodeId, now: float) -> tuple[Reply, Payload]:
        snapshot = None
        if request.incarnation == self._incarnation:
            snapshot = self._held.get(request.version, puller, now)
        if snapshot is None:
            return refusal("version-gone", f"version {request.version} is no longer here"), ()
        stop = request.offset + request.length
        whole = request.length % SHARD_ELEMENTS == 0 or stop == snapshot.vector.size
        if (
            request.offset % SHARD_ELEMENTS
            or not 0 < request.length <= RANGE_SHARDS * SHARD_ELEMENTS
            or stop > snapshot.vector.size
            or not whole
        ):
            return refusal("bad-request", f"no range of whole shards: {request.length} from {request.offset}"), ()
        if stop == snapshot.vector.size:
            self._held.end_lease(request.version, puller)
        starts = range(request.offset, stop, SHARD_ELEMENTS)
        shards = tuple(snapshot.vector[start : min(start + SHARD_ELEMENTS, stop)] for start in starts)
        digests = tuple(snapshot.shard_digests[start // SHARD_ELEMENTS] for start in starts)
        return RangeReply(request.version, request.offset, digests), shards

    def _spec(self) -> tuple[Reply, Payload]:
        rows = self._view.spec_rows()
        if not rows:
            return refusal("not-ready"), ()
        frames = [rows[start : start + SPEC_FRAME_BYTES] for start in range(0, len(rows), SPEC_FRAME_BYTES)]
        return SpecReply(self._view.spec_digest()), frames[:SPEC_FRAMES]


def refusal(code: str, message: str = "") -> Refusal:
    """A refusal with one of the known codes."""
    return Refusal(code, (message or REFUSALS[code])[:1024])
