"""One pull of a peer's weights as a state machine: a window of range requests, every shard checked on arrival."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from p2pdl.errors import IncompatiblePeer, PeerError, PeerRefused, PeerTimeout, ProtocolError, RejectedWeights
from p2pdl.protocol.actions import Accept, Action, Begin, Complete, Fail, Send, Unchanged
from p2pdl.protocol.messages import (
    RANGE_SHARDS,
    Envelope,
    RangeReply,
    RangeRequest,
    Refusal,
    SnapshotReply,
    SnapshotRequest,
)
from p2pdl.spec import SHARD_ELEMENTS, combine_digests, shard_digest
from p2pdl.types import Float32Vector, NodeId, printable

Frame = bytes | memoryview

VersionKey = tuple[str, int]
"""Incarnation and version: what identifies a version of one peer."""

ATTEMPTS = 2
"""How often a range is asked for before a damaged shard ends the pull."""


@dataclass(frozen=True, slots=True)
class PullSettings:
    """How a pull goes about it.

    Attributes:
        timeout: Seconds for the whole pull.
        request_timeout: Seconds without any reply after which the peer counts as silent.
        range_shards: Shards of 1 MiB in one request, 1 to `RANGE_SHARDS`.
        window: Range requests in flight.
    """

    timeout: float = 120.0
    request_timeout: float = 10.0
    range_shards: int = 1
    window: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.range_shards <= RANGE_SHARDS or self.window < 1:
            raise ValueError(f"range_shards must be 1 to {RANGE_SHARDS} and window at least 1")


class Pull:
    """Pulls one version of one peer's vector.

    The host calls `on_start` once, `on_reply` for each reply of the peer and `on_tick` at `deadline`; each returns
    what to do. After `Complete`, `Unchanged` or `Fail` the pull is over and further calls return nothing.

    Args:
        peer: The peer's name, for messages.
        size: Elements of the vector.
        spec: Digest of this node's WeightSpec.
        ids: Source of request ids, unique for the connection.
        settings: Limits and window.
        known: (incarnation, version) that this node has merged already: the pull ends if the peer still serves it.
    """

    def __init__(
        self,
        peer: NodeId,
        size: int,
        spec: str,
        ids: Iterator[int],
        settings: PullSettings,
        known: VersionKey | None = None,
    ) -> None:
        self._peer = peer
        self._size = size
        self._spec = spec
        self._ids = ids
        self._settings = settings
        self._known = known
        self._snapshot: SnapshotReply | None = None
        self._snapshot_id = 0
        self._next_offset = 0
        self._flying: dict[int, tuple[RangeRequest, int]] = {}
        self._digests: list[int] = [0] * -(-size // SHARD_ELEMENTS)
        self._missing = len(self._digests)
        self._give_up_at = self._silent_at = float("inf")
        self.over = False

    @property
    def deadline(self) -> float:
        """When `on_tick` wants to be called, if nothing arrives before."""
        return min(self._give_up_at, self._silent_at)

    def on_start(self, now: float) -> list[Action]:
        """Ask which version the peer serves."""
        self._give_up_at = now + self._settings.timeout
        self._silent_at = now + self._settings.request_timeout
        self._snapshot_id = next(self._ids)
        return [Send(self._snapshot_id, SnapshotRequest(self._spec, *(self._known or ("", 0))))]

    def on_tick(self, now: float) -> list[Action]:
        """Fail if a deadline has passed."""
        if self.over or now < self.deadline:
            return []
        if now >= self._give_up_at:
            text = f"{self._peer}: the pull was not done within {self._settings.timeout:g} s"
            text += f" ({self._received_mib():.1f} of {self._size * 4 / 2**20:.1f} MiB had come)"
            return self._fail(PeerTimeout(text, "raise gossip.timeout on a slow link"))
        text = f"{self._peer}: no answer for {self._settings.request_timeout:g} s"
        return self._fail(PeerTimeout(text, "is the node running, and is its address reachable from here?"))

    def on_reply(self, envelope: Envelope, frames: Sequence[Frame], now: float) -> list[Action]:
        """Handle one reply of the peer.

        Args:
            envelope: The decoded header.
            frames: The payload frames that came with it.
            now: Monotonic seconds.
        """
        expected = envelope.id == self._snapshot_id if self._snapshot is None else envelope.id in self._flying
        if self.over or not expected:
            return []
        self._silent_at = now + self._settings.request_timeout
        try:
            match envelope.message:
                case SnapshotReply() as reply if self._snapshot is None:
                    return self._begin(reply)
                case RangeReply() as reply if self._snapshot is not None:
                    return self._receive(envelope.id, reply, frames)
                case Refusal() as refused:
                    return self._fail(self._refused(refused))
            raise ProtocolError(f"{self._peer}: answered with a {type(envelope.message).__name__}")
        except PeerError as error:
            return self._fail(error)

    def _begin(self, reply: SnapshotReply) -> list[Action]:
        if reply.size != self._size:
            text = f"{self._peer}: serves {reply.size} elements, this model has {self._size}"
            raise IncompatiblePeer(text, code="model")
        if (reply.incarnation, reply.version) == self._known:
            self.over = True
            return [Unchanged(reply)]
        self._snapshot = reply
        return [Begin(reply), *self._fill_window()]

    def _receive(self, request_id: int, reply: RangeReply, frames: Sequence[Frame]) -> list[Action]:
        request, attempt = self._flying.pop(request_id)
        shards = self._shards(request, reply, frames)
        if shards is None:
            if attempt == ATTEMPTS:
                text = f"{self._peer}: elements {request.offset} to {request.offset + request.length} arrived damaged"
                raise RejectedWeights(text + f" {ATTEMPTS} times", code="digest")
            return [self._send_range(request, attempt + 1)]
        actions: list[Action] = []
        for number, (shard, digest) in enumerate(zip(shards, reply.digests, strict=True)):
            if not np.isfinite(shard).all():
                raise RejectedWeights(
                    f"{self._peer}: its weights are not finite",
                    "its training has diverged",
                    code="not-finite",
                )
            offset = request.offset + number * SHARD_ELEMENTS
            self._digests[offset // SHARD_ELEMENTS] = digest
            actions.append(Accept(offset, shard))
        self._missing -= len(shards)
        if self._missing:
            return actions + self._fill_window()
        assert self._snapshot is not None
        if combine_digests(self._digests) != self._snapshot.digest:
            raise RejectedWeights(
                f"{self._peer}: the shards are not those of version {self._snapshot.version}", code="digest"
            )
        self.over = True
        return [*actions, Complete(self._snapshot)]

    def _shards(self, request: RangeRequest, reply: RangeReply, frames: Sequence[Frame]) -> list[Float32Vector] | None:
        """The shards of a reply, or None if their digests say that they were damaged on the way."""
        count = -(-request.length // SHARD_ELEMENTS)
        if (reply.version, reply.offset) != (request.version, request.offset) or len(reply.digests) != count:
            raise ProtocolError(f"{self._peer}: answered for another range than asked")
        lengths = [min(SHARD_ELEMENTS, request.length - n * SHARD_ELEMENTS) for n in range(count)]
        if [len(frame) for frame in frames] != [4 * length for length in lengths]:
            text = f"{self._peer}: sent frames of {[len(frame) for frame in frames][:8]} bytes, not of"
            raise RejectedWeights(f"{text} {[4 * length for length in lengths]}", code="length")
        shards = [np.frombuffer(frame, dtype="<f4") for frame in frames]
        whole = all(shard_digest(shard) == d for shard, d in zip(shards, reply.digests, strict=True))
        return shards if whole else None

    def _fill_window(self) -> list[Action]:
        actions: list[Action] = []
        assert self._snapshot is not None
        while len(self._flying) < self._settings.window and self._next_offset < self._size:
            length = min(self._settings.range_shards * SHARD_ELEMENTS, self._size - self._next_offset)
            snapshot = self._snapshot
            request = RangeRequest(snapshot.incarnation, snapshot.version, self._next_offset, length)
            self._next_offset += length
            actions.append(self._send_range(request, attempt=1))
        return actions

    def _send_range(self, request: RangeRequest, attempt: int) -> Send:
        request_id = next(self._ids)
        self._flying[request_id] = (request, attempt)
        return Send(request_id, request)

    def _refused(self, refusal: Refusal) -> PeerError:
        kind = IncompatiblePeer if refusal.code in ("cluster", "model", "protocol-version") else PeerRefused
        return kind(f"{self._peer}: refused: {printable(refusal.message)}", code=refusal.code)

    def _fail(self, error: PeerError) -> list[Action]:
        self.over = True
        return [Fail(error)]

    def _received_mib(self) -> float:
        return float(len(self._digests) - self._missing)
