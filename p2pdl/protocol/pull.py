"""One pull of a peer's weights as a state machine: a window of range requests, every shard checked on arrival."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xxhash

from p2pdl.codec.ends import Decoder
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
from p2pdl.spec import SHARD_ELEMENTS, combine_digests, shards_in
from p2pdl.types import NodeId, printable

Frame = bytes | memoryview

VersionKey = tuple[str, int]
"""Incarnation and version: what identifies a version of one peer."""

FIRST_TIMEOUT, FIRST_REQUEST_TIMEOUT = 120.0, 15.0
"""Seconds for a whole pull and without any reply, over a link that is not known yet."""

LONGEST_TIMEOUT = 600.0
"""Seconds for a whole pull at most, unless more are configured."""

ATTEMPTS = 2
"""How often a shard is asked for before damage ends the pull."""


@dataclass(frozen=True, slots=True)
class PullSettings:
    """How a pull goes about it.

    Attributes:
        timeout: Seconds for the whole pull.
        request_timeout: Seconds without any reply after which the peer counts as silent.
        range_shards: Shards of 1 MiB in one request, 1 to `RANGE_SHARDS`.
        window: Range requests in flight.
        nbytes: Bytes of weights for which `timeout` is meant.
        byte_seconds: Seconds by which each byte beyond these makes the pull's time longer, once it has come.
    """

    timeout: float = FIRST_TIMEOUT
    request_timeout: float = FIRST_REQUEST_TIMEOUT
    range_shards: int = 2
    window: int = 2
    nbytes: int = 0
    byte_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.range_shards <= RANGE_SHARDS or self.window < 1:
            raise ValueError(f"range_shards must be 1 to {RANGE_SHARDS} and window at least 1")


@dataclass(slots=True)
class _Flying:
    request: RangeRequest
    attempt: int


class Pull:
    """Pulls one version of one peer's vector, or a part of it.

    The first ranges are asked for together with the snapshot, so that a small model takes one round trip. The host
    calls `on_start` once, `on_reply` for each reply of the peer and `on_tick` at `deadline`; each returns what to do.
    After `Complete`, `Unchanged` or `Fail` the pull is over and further calls return nothing.

    Args:
        peer: The peer's name, for messages.
        size: Elements of the vector.
        spec: Digest of this node's WeightSpec.
        ids: Source of request ids, unique for the connection.
        settings: Limits and window.
        decoder: This end of the codec.
        known: (incarnation, version) that this node has merged already: the pull ends if the peer serves it or an
            older one of that life.
        part: The shards to pull, at least one; all where None.

    Raises:
        ValueError: The part is empty or not in the vector: such a pull would never end.
    """

    def __init__(
        self,
        peer: NodeId,
        size: int,
        spec: str,
        ids: Iterator[int],
        settings: PullSettings,
        decoder: Decoder,
        known: VersionKey | None = None,
        part: range | None = None,
    ) -> None:
        self._peer = peer
        self._size = size
        self._spec = spec
        self._ids = ids
        self._settings = settings
        self._decoder = decoder
        self._known = known
        self._shards = shards_in(size)
        self._part = range(self._shards) if part is None else part
        if not self._part or self._part.step != 1 or not 0 <= self._part.start < self._part.stop <= self._shards:
            raise ValueError(f"{self._part} is no part of {self._shards} shards")
        self._snapshot: SnapshotReply | None = None
        self._snapshot_id = 0
        self._next_shard = self._part.start
        self._flying: dict[int, _Flying] = {}
        self._digests: list[int] = [0] * self._shards
        self._missing = len(self._part)
        self._started = 0.0
        self._nbytes = 0
        self._silent_at = float("inf")
        self._last_reply = 0.0
        self.longest_silence = 0.0
        self.over = False

    @property
    def deadline(self) -> float:
        """When `on_tick` wants to be called, if nothing arrives before."""
        return min(self._started + self._timeout, self._silent_at)

    def on_start(self, now: float) -> list[Action]:
        """Ask which version the peer serves, and for the beginning of it."""
        self._started = now
        self._silent_at = now + self._settings.request_timeout
        self._last_reply = now
        self._snapshot_id = next(self._ids)
        first = Send(self._snapshot_id, SnapshotRequest(self._spec, *(self._known or ("", 0))))
        return [first, *self._fill_window()]

    def on_tick(self, now: float) -> list[Action]:
        """Fail if a deadline has passed."""
        if self.over or now < self.deadline:
            return []
        if now >= self._started + self._timeout:
            text = f"{self._peer}: the pull was not done within {self._timeout:.3g} s"
            text += f" ({len(self._part) - self._missing} of {len(self._part)} MiB of the model had come)"
            return self._fail(PeerTimeout(text, "is the link slow? gossip.timeout and compress.codec bear on that"))
        text = f"{self._peer}: no answer for {self._settings.request_timeout:.3g} s"
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
        self.longest_silence = max(self.longest_silence, now - self._last_reply)
        self._last_reply = now
        self._silent_at = now + self._settings.request_timeout
        self._nbytes += sum(map(len, frames))
        try:
            match envelope.message:
                case SnapshotReply() as reply if self._snapshot is None:
                    return self._begin(reply)
                case RangeReply() as reply if self._snapshot is not None:
                    return self._receive(envelope.id, self._snapshot, reply, frames)
                case Refusal() as refused:
                    return self._fail(self._refused(refused))
            raise ProtocolError(f"{self._peer}: answered with a {type(envelope.message).__name__}")
        except PeerError as error:
            return self._fail(error)

    @property
    def _timeout(self) -> float:
        """Seconds for the whole pull, by what has come so far: a lost copy makes whole shards of small deltas."""
        settings = self._settings
        extended = settings.timeout + settings.byte_seconds * max(0, self._nbytes - settings.nbytes)
        return max(settings.timeout, min(extended, LONGEST_TIMEOUT))

    def _begin(self, reply: SnapshotReply) -> list[Action]:
        if reply.size != self._size:
            text = f"{self._peer}: serves {reply.size} elements, this model has {self._size}"
            raise IncompatiblePeer(text, code="model")
        if self._known and reply.incarnation == self._known[0] and reply.version <= self._known[1]:
            # Versions of one life only grow: an older one is what a server falls back to, or somebody repeats it.
            # The ranges asked for already are refused by a server that has ended the lease, and ignored here.
            self.over = True
            return [Unchanged(reply)]
        self._snapshot = reply
        return [Begin(reply)]

    def _receive(
        self, request_id: int, snapshot: SnapshotReply, reply: RangeReply, frames: Sequence[Frame]
    ) -> list[Action]:
        flying = self._flying.pop(request_id)
        first, count = flying.request.offset // SHARD_ELEMENTS, shards_in(flying.request.length)
        self._check_header(flying.request, snapshot, reply, frames, count)
        actions: list[Action] = []
        for place, frame in enumerate(frames):
            number = first + place
            try:
                if xxhash.xxh3_64_intdigest(frame) != reply.digests[place]:
                    raise RejectedWeights(f"{self._peer}: shard {number} arrived damaged", code="digest")
                update = self._decoder.decode(number, frame, reply.copies[place] if reply.copies else 0)
            except RejectedWeights as error:
                if flying.attempt == ATTEMPTS or error.code != "digest":
                    raise self._named(error) from None
                left = range(number, first + count)
                return [*actions, self._send_range(left, snapshot, flying.attempt + 1)]
            self._digests[number] = reply.digests[place]
            self._missing -= 1
            actions.append(Accept(number * SHARD_ELEMENTS, update.values, update.indices))
        if self._missing:
            return actions + self._fill_window()
        return [*actions, self._complete(snapshot)]

    def _check_header(
        self, request: RangeRequest, snapshot: SnapshotReply, reply: RangeReply, frames: Sequence[Frame], count: int
    ) -> None:
        copies = count if self._decoder.has_copies else 0
        if (reply.version, reply.offset, len(reply.digests)) != (snapshot.version, request.offset, count):
            raise ProtocolError(f"{self._peer}: answered for another range than asked")
        if len(reply.copies) != copies:
            raise ProtocolError(f"{self._peer}: stated {len(reply.copies)} digests of copies, not {copies}")
        if len(frames) != count:
            raise RejectedWeights(f"{self._peer}: sent {len(frames)} frames, not {count}", code="length")

    def _complete(self, snapshot: SnapshotReply) -> Complete:
        whole = self._decoder.name == "float32" and len(self._part) == self._shards
        if whole and combine_digests(self._digests) != snapshot.digest:
            raise RejectedWeights(
                f"{self._peer}: the shards are not those of version {snapshot.version}", code="digest"
            )
        self.over = True
        return Complete(snapshot)

    def _fill_window(self) -> list[Action]:
        actions: list[Action] = []
        while len(self._flying) < self._settings.window and self._next_shard < self._part.stop:
            stop = min(self._next_shard + self._settings.range_shards, self._part.stop)
            actions.append(self._send_range(range(self._next_shard, stop), self._snapshot, 1))
            self._next_shard = stop
        return actions

    def _send_range(self, shards: range, snapshot: SnapshotReply | None, attempt: int) -> Send:
        offset = shards.start * SHARD_ELEMENTS
        request = RangeRequest(
            incarnation=snapshot.incarnation if snapshot else "",
            version=snapshot.version if snapshot else self._snapshot_id,
            offset=offset,
            length=min(shards.stop * SHARD_ELEMENTS, self._size) - offset,
            codec=self._decoder.name,
            copies=tuple(map(self._decoder.digest, shards)) if self._decoder.has_copies else (),
            last=shards.stop == self._part.stop,
        )
        request_id = next(self._ids)
        self._flying[request_id] = _Flying(request, attempt)
        return Send(request_id, request)

    def _refused(self, refusal: Refusal) -> PeerError:
        kind = IncompatiblePeer if refusal.code in ("cluster", "model", "protocol-version") else PeerRefused
        return kind(f"{self._peer}: refused: {printable(refusal.message)}", code=refusal.code)

    def _named(self, error: RejectedWeights) -> RejectedWeights:
        if error.message.startswith(f"{self._peer}: "):
            return error
        return RejectedWeights(f"{self._peer}: {error.message}", error.remedy, code=error.code)

    def _fail(self, error: PeerError) -> list[Action]:
        self.over = True
        return [Fail(error)]
