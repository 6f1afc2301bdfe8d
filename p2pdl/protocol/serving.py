"""What a node answers to each request: no socket, no clock, no copy of the weights."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from p2pdl.codec import is_stateless
from p2pdl.codec.ends import Encoder, shard_nbytes
from p2pdl.protocol.encoders import Encoders
from p2pdl.protocol.fields import Scalar
from p2pdl.protocol.held import HeldVersions, VersionSource
from p2pdl.protocol.messages import (
    RANGE_SHARDS,
    REFUSALS,
    REPLY_LIMIT,
    BeginRequest,
    Envelope,
    InitialRequest,
    JoinRequest,
    LeaveRequest,
    MemberReply,
    MemberRequest,
    ProbeRequest,
    PushRequest,
    RangeReply,
    RangeRequest,
    Refusal,
    RelayedRequest,
    RelayRequest,
    Reply,
    SettingsReply,
    SettingsRequest,
    SnapshotReply,
    SnapshotRequest,
    SpecReply,
    SpecRequest,
    StatusReply,
    StatusRequest,
    SyncRequest,
    WorkerReply,
    WorkerRequest,
)
from p2pdl.protocol.uploads import Sent, UploadPlaces
from p2pdl.spec import SHARD_ELEMENTS, Snapshot, WeightSpec, shard_of, shards_in
from p2pdl.types import Float32Vector, NodeId

ShardPayload = Sequence[Float32Vector | NDArray[np.uint8]]
Payload = ShardPayload | Sequence[bytes]

SPEC_FRAME_BYTES = 1 << 20
SPEC_FRAMES = 16


class NodeView(VersionSource, Protocol):
    """What a server knows of its node."""

    def incarnation(self) -> str:
        """Random name of the trainer's life; versions count within it. Empty before the first."""
        ...

    def layout(self) -> WeightSpec | None:
        """The model's layout; None while the model is not built."""
        ...

    def status(self, now: float) -> StatusReply:
        """What the node says of itself."""
        ...


@dataclass(frozen=True)
class ServingLimits:
    """What a server grants.

    Attributes:
        uploads: Pulls served at one time.
        copies: Copies kept for pullers with a delta codec.
        copies_nbytes: Memory of these copies in all.
        memory_nbytes: Memory that peers may make the server's process take beside these copies.
    """

    uploads: int = 1
    copies: int = 8
    copies_nbytes: int = 1 << 30
    memory_nbytes: int = 192 << 20


class MemberKeeper(Protocol):
    """Whom the node knows."""

    def on_request(self, request: MemberRequest, sender: NodeId, now: float) -> MemberReply:
        """Answer another node's question about members."""
        ...

    def on_heard(self, node: NodeId, now: float) -> None:
        """A request has come from a node: it is there."""
        ...

    def rumours(self, now: float) -> tuple[dict[str, Scalar], ...]:
        """News about members to send along; empty while there is none."""
        ...


class Employer(Protocol):
    """Whom workers work for: see `ParameterServer`."""

    def on_request(
        self, request: WorkerRequest, worker: NodeId, payload: memoryview | None, now: float
    ) -> WorkerReply | Refusal:
        """Answer a worker."""
        ...

    def on_pulled(self, worker: NodeId, shards: Collection[int], now: float) -> None:
        """Note that a worker gets these shards as they are now."""
        ...


class Serving:
    """Answers requests about one node.

    Args:
        cluster: This node's cluster; requests for another one are refused.
        view: Where weights and status come from.
        limits: What it grants.
        members: Whom the node knows; None for a node that takes no part in a membership.
        shared_settings: JSON for a node that joins; empty if there is none.
        employer: Whom workers work for; None for a node that is no parameter server.
    """

    def __init__(
        self,
        cluster: str,
        view: NodeView,
        limits: ServingLimits | None = None,
        members: MemberKeeper | None = None,
        shared_settings: bytes = b"",
        employer: Employer | None = None,
    ) -> None:
        limits = limits or ServingLimits()
        self._cluster = cluster
        self._view = view
        self._members = members
        self._shared_settings = shared_settings
        self._employer = employer
        self._held = HeldVersions(view)
        self._uploads = UploadPlaces(limits.uploads)
        self.encoders = Encoders(limits.copies, limits.copies_nbytes)
        self._incarnation = ""

    def on_request(self, envelope: Envelope, now: float, payload: memoryview | None = None) -> tuple[Reply, Payload]:
        """The reply and the frames that follow it.

        Args:
            envelope: The decoded request.
            now: Seconds of the machine's monotonic clock.
            payload: The frame that came along with a worker's request.
        """
        if envelope.cluster != self._cluster:
            return refusal("cluster", f"this is cluster {self._cluster!r}, not {envelope.cluster!r}"), ()
        if self._view.incarnation() != self._incarnation:
            self._incarnation = self._view.incarnation()
            self._held.forget()
            self._uploads.forget()
            self.encoders.forget()
        match envelope.message:
            case RangeRequest() as request:
                return self._range(request, envelope.node, now)
            case SnapshotRequest() as request:
                if self._members is not None:
                    self._members.on_heard(envelope.node, now)
                return self._snapshot(request, envelope, now), ()
            case ProbeRequest() | RelayRequest() | RelayedRequest() | SyncRequest() as request:
                if self._members is not None:
                    return self._members.on_request(request, envelope.node, now), ()
            case JoinRequest() | InitialRequest() | PushRequest() | BeginRequest() | LeaveRequest() as request:
                if self._employer is None:
                    return refusal("not-a-server"), ()
                return self._employer.on_request(request, envelope.node, payload, now), ()
            case StatusRequest():
                return self._view.status(now), ()
            case SpecRequest():
                return self._spec()
            case SettingsRequest() if self._shared_settings:
                return SettingsReply(), (self._shared_settings,)
            case SettingsRequest():
                return refusal("not-ready", "this node's model and data are those of a script of its own"), ()
        return refusal("bad-request", f"{type(envelope.message).__name__} is not a request"), ()

    def _snapshot(self, request: SnapshotRequest, envelope: Envelope, now: float) -> Reply:
        puller = envelope.node
        spec = self._view.layout()
        if spec is not None and request.spec != spec.digest:
            return refusal("model", f"the model's digest is {spec.digest} here and {request.spec} there")
        known = request.known_version if request.known_incarnation == self._incarnation else 0
        if known != self._view.newest_version() and not self._uploads.admit(puller, now):
            return refusal("busy")
        snapshot = self._held.newest(puller, now, envelope.id, self._uploads.patience(puller, now))
        if snapshot is None:
            self._uploads.cancel(puller)
            return refusal("not-ready")
        info = snapshot.info
        if known == info.version:
            self._held.end_lease(info.version, puller)
            self._uploads.cancel(puller)
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
            rumours=self._members.rumours(now) if self._members is not None else (),
        )

    def _range(self, request: RangeRequest, puller: NodeId, now: float) -> tuple[Reply, Payload]:
        patience = self._uploads.patience(puller, now)
        if not request.incarnation:
            # By the id of the request that leased it, so that what an earlier pull has asked for does not count.
            snapshot = self._held.leased(puller, now, request.version, patience)
            if snapshot is None:
                return refusal("no-lease"), ()
        else:
            known = request.incarnation == self._incarnation
            snapshot = self._held.get(request.version, puller, now, patience) if known else None
            if snapshot is None:
                return refusal("version-gone", f"version {request.version} is no longer here"), ()
        spec = self._view.layout()
        assert spec is not None, "what has been published has a layout"
        try:
            limit = range_limit(request.codec)
        except ValueError as error:
            return refusal("bad-request", str(error)), ()
        stop = request.offset + request.length
        shards = range(request.offset // SHARD_ELEMENTS, shards_in(stop))
        if (
            request.offset % SHARD_ELEMENTS
            or not 0 < request.length <= limit * SHARD_ELEMENTS
            or stop > snapshot.vector.size
            or not (request.length % SHARD_ELEMENTS == 0 or stop == snapshot.vector.size)
        ):
            return refusal("bad-request", f"no range of whole shards: {request.length} from {request.offset}"), ()
        if len(request.copies) != (0 if is_stateless(request.codec) else len(shards)):
            return refusal("bad-request", f"{len(request.copies)} digests of copies do not fit {request.codec}"), ()
        reply, payload = self._encoded(request, snapshot, self.encoders.get(puller, request.codec, spec), shards)
        if self._employer is not None and isinstance(reply, RangeReply):
            self._employer.on_pulled(puller, shards, now)
        self._uploads.touch(puller, now, stop, sum(frame.nbytes for frame in payload))
        if request.last:
            self._held.end_lease(snapshot.info.version, puller)
            self._uploads.release(puller, now, when_sent(payload))
        return reply, payload

    def _encoded(
        self, request: RangeRequest, snapshot: Snapshot, encoder: Encoder, shards: range
    ) -> tuple[Reply, ShardPayload]:
        version = snapshot.info.version
        if request.codec == "float32":
            # The published digests are those of the frames: no need to read the shards at all.
            digests = snapshot.shard_digests[shards.start : shards.stop]
            frames = tuple(shard_of(snapshot.vector, number) for number in shards)
            return RangeReply(version, request.offset, digests, ()), frames
        payload = []
        copies = []
        for place, number in enumerate(shards):
            known = request.copies[place] if request.copies else 0
            try:
                frame, copy = encoder.encode(number, snapshot.vector, version, known, seed_of(version, number))
            except ValueError:
                return refusal("not-finite"), ()
            payload.append(frame)
            copies.append(copy)
        digests = tuple(xxhash.xxh3_64_intdigest(frame.data) for frame in payload)
        return RangeReply(version, request.offset, digests, tuple(copies) if request.copies else ()), payload

    def _spec(self) -> tuple[Reply, Payload]:
        spec = self._view.layout()
        if spec is None:
            return refusal("not-ready"), ()
        rows = "\n".join(spec.rows()).encode()
        frames = [rows[start : start + SPEC_FRAME_BYTES] for start in range(0, len(rows), SPEC_FRAME_BYTES)]
        return SpecReply(spec.digest), frames[:SPEC_FRAMES]


def range_limit(codec: str) -> int:
    """Shards that one request may ask for in a codec, so that the reply stays within `REPLY_LIMIT`.

    Raises:
        ValueError: There is no such codec.
    """
    return max(1, min(RANGE_SHARDS, REPLY_LIMIT // shard_nbytes(codec)))


def when_sent(payload: ShardPayload) -> Sent:
    """Says whether a reply has been sent: a transport drops its frames, which nobody else refers to, when it has."""
    last = weakref.ref(payload[-1]) if payload else None
    return lambda: last is None or last() is None


def seed_of(version: int, number: int) -> int:
    """The seed of a shard's encoding: every puller of a version gets the same bits, also when it asks twice."""
    return (version * 0x9E3779B97F4A7C15 + number) % 2**64


def refusal(code: str, message: str = "") -> Refusal:
    """A refusal with one of the known codes."""
    return Refusal(code, (message or REFUSALS[code])[:1024])
