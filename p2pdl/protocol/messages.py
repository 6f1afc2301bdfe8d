"""Every message of the wire as a typed value; `docs/protocol.md` describes the same in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from p2pdl.protocol.fields import Count, Figures, Flag, Name, Number, Scalar, Table, Text, WholeList, Word
from p2pdl.protocol.worker_messages import BeginRequest as BeginRequest
from p2pdl.protocol.worker_messages import InitialRequest as InitialRequest
from p2pdl.protocol.worker_messages import JoinRequest as JoinRequest
from p2pdl.protocol.worker_messages import LeaveRequest as LeaveRequest
from p2pdl.protocol.worker_messages import PushRequest as PushRequest
from p2pdl.protocol.worker_messages import WorkerReply as WorkerReply
from p2pdl.protocol.worker_messages import WorkerRequest as WorkerRequest

PROTOCOL_VERSION = 4
"""Raised whenever a node of the version before could misread a message."""

RANGE_SHARDS = 16
"""Shards that one range request may ask for, at most."""

REPLY_LIMIT = (4 << 20) + (64 << 10)
"""Bytes of one range reply: 4 shards of float32, 16 of int8, and what their codecs add."""

RUMOUR_ROWS = 8
"""Rows about members that a probe and its reply carry, at most."""

MEMBER_ROWS = 512
"""Rows about members in one exchange of the whole list, at most; fewer where a header could not hold them."""

Place = Annotated[str, Text(300)]
Rumours = Annotated[tuple[dict[str, Scalar], ...], Table(RUMOUR_ROWS)]
Members = Annotated[tuple[dict[str, Scalar], ...], Table(MEMBER_ROWS)]


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Which version would you serve me? Sent before a pull.

    Attributes:
        spec: Digest of the asker's WeightSpec.
        known_incarnation: Incarnation of the version that the asker has already; empty if it has none.
        known_version: That version. If it is still the newest, the asker will not pull it again, and nothing is kept
            for it.
    """

    spec: Name
    known_incarnation: Name = ""
    known_version: Count = 0


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    """The newest version, which stays available while it is the newest or the one before.

    Attributes:
        incarnation: Random name of the serving node's life; versions count within it.
        version: Counter of publications.
        step: Optimizer steps behind the weights.
        samples: Training samples behind the weights.
        loss: Smoothed training loss as the peer claims it; None before its first step.
        final: True for the last weights of a node that has done all its steps.
        digest: Word of the whole vector.
        size: Elements of the vector.
        age: Seconds since the version was published.
        rumours: News about members, as in a `ProbeReply`; empty while there is none.
    """

    incarnation: Name
    version: Count
    step: Count
    samples: Count
    loss: Number
    final: Annotated[bool, Flag()]
    digest: Word
    size: Count
    age: Number
    rumours: Rumours = ()


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """Send me these shards of that version.

    Attributes:
        incarnation: As the SnapshotReply gave it; empty for the version granted to an earlier SnapshotRequest, so that
            a pull need not wait for its reply.
        version: As the SnapshotReply gave it; with an empty incarnation, the id of that SnapshotRequest.
        offset: First element; a multiple of the shard's size.
        length: Number of elements: whole shards, at most `RANGE_SHARDS` of them, the vector's last one shorter.
        codec: How to encode each shard.
        copies: For a delta codec the digest of the asker's copy of each shard, 0 where it has none; else empty.
        last: True if the asker will ask for nothing more of this version.
    """

    incarnation: Name
    version: Word
    offset: Count
    length: Count
    codec: Name
    copies: Annotated[tuple[int, ...], WholeList(RANGE_SHARDS)]
    last: Annotated[bool, Flag()]


@dataclass(frozen=True, slots=True)
class RangeReply:
    """The shards asked for follow, encoded, one frame each, in order.

    Attributes:
        version: The version they belong to.
        offset: As asked.
        digests: Digest of each frame.
        copies: For a delta codec the digest that the asker's copy of each shard has afterwards; else empty.
    """

    version: Count
    offset: Count
    digests: Annotated[tuple[int, ...], WholeList(RANGE_SHARDS)]
    copies: Annotated[tuple[int, ...], WholeList(RANGE_SHARDS)]


@dataclass(frozen=True, slots=True)
class SpecRequest:
    """How is your model laid out? Asked once about a peer whose model differs, to name the difference."""


@dataclass(frozen=True, slots=True)
class SpecReply:
    """The rows of the WeightSpec follow as UTF-8 lines, in frames of at most 1 MiB.

    Attributes:
        spec: The digest of the WeightSpec.
    """

    spec: Name


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """How are you? Answered at any time, by a node that has no weights yet too."""


@dataclass(frozen=True, slots=True)
class StatusReply:
    """How the node is.

    Attributes:
        incarnation: Random name of this life of the node.
        state: One of `STATES`.
        step: Optimizer steps done.
        steps: Optimizer steps to do in all; 0 if not known yet.
        samples: Training samples seen.
        loss: Smoothed training loss.
        age: Seconds since the trainer last reported.
        figures: Further figures by name, as in `metrics.jsonl`.
        peers: One row for each peer this node knows: name, address, state, last error.
    """

    incarnation: Name
    state: Name
    step: Count
    steps: Count
    samples: Count
    loss: Number
    age: Number
    figures: Annotated[dict[str, Scalar], Figures()]
    peers: Annotated[tuple[dict[str, Scalar], ...], Table()]


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Are you there? Sent to one member after another.

    Attributes:
        target: The node that the asker expects here.
        rumours: The asker's own row first, then news about members, as `docs/protocol.md` says.
    """

    target: Name
    rumours: Rumours


@dataclass(frozen=True, slots=True)
class ProbeReply:
    """I am here. Answers every request about members but `SyncRequest`.

    Attributes:
        life: Random name of this life of the node.
        rumours: The node's own row first, then news about members; nothing while the node is still joining.
    """

    life: Word
    rumours: Rumours


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """Please probe this member for me; it has not answered me. The reply says only that this is being done.

    Attributes:
        target: The member.
        address: Where it is.
        sequence: Chosen by the asker.
        rumours: As in a `ProbeRequest`.
    """

    target: Name
    address: Place
    sequence: Word
    rumours: Rumours


@dataclass(frozen=True, slots=True)
class RelayedRequest:
    """The member that you asked me to probe has answered.

    Attributes:
        target: The member.
        sequence: That of the `RelayRequest`.
        rumours: As in a `ProbeRequest`, with what the member said of itself.
    """

    target: Name
    sequence: Word
    rumours: Rumours


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """Do we know the same members? Sent on joining, and now and then.

    Attributes:
        digest: Of the asker's whole list of members.
        members: Nothing in a first request; what the other's list lacks in a second one, if they still differ then.
    """

    digest: Word
    members: Members


@dataclass(frozen=True, slots=True)
class SyncReply:
    """What this node knows.

    Attributes:
        digest: Of this node's list, after it has taken in what the request brought.
        members: The list, or what the request's rows lack if it has any; empty if the digests agree.
    """

    digest: Word
    members: Members


@dataclass(frozen=True, slots=True)
class SettingsRequest:
    """What does this cluster train? Asked by a node that joins."""


@dataclass(frozen=True, slots=True)
class SettingsReply:
    """The settings that all nodes share follow as one frame of JSON."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no other reply.

    Attributes:
        code: One of `REFUSALS`.
        message: For people.
    """

    code: Name
    message: Annotated[str, Text(1024)]


STATES = ("starting", "ready", "training", "finished", "merged", "stopped", "failed")
"""What a node can be doing.

starting: building its model · ready: waiting for others that start · training · finished: all steps done, final
weights served · merged: final merge done · stopped: ended early on request · failed.
"""

REFUSALS = {
    "bad-request": "the request is not of this protocol",
    "protocol-version": "the two nodes speak different versions of the protocol",
    "cluster": "the request is for a node of another cluster",
    "model": "the two nodes train different models",
    "identity": "the asker's key is not one of this cluster's, or does not belong to the name that it claims",
    "forbidden": "the asker's key allows it to look, not to take part",
    "not-ready": "the node has not published any weights yet",
    "busy": "the node is serving as many pulls as it may",
    "version-gone": "the version asked for has been replaced twice since",
    "no-lease": "the version asked for in advance was not granted",
    "not-finite": "the weights asked for are not finite and cannot be encoded",
    "not-a-server": "the node is no parameter server",
    "not-joined": "the worker has not joined, or was not heard of for longer than its lease",
    "outside-window": "the iteration is not one that may be pushed now",
    "other-iteration": "the worker is at another iteration",
    "not-pulled": "the worker pushes before it has pulled any weights",
    "too-stale": "the push was made from weights that are too old",
    "payload": "what was pushed is damaged, or cannot be applied",
    "internal": "the server failed to answer; its log says why",
}
"""Refusal codes and what each means."""

MemberRequest = ProbeRequest | RelayRequest | RelayedRequest | SyncRequest
MemberReply = ProbeReply | SyncReply
Request = SnapshotRequest | RangeRequest | SpecRequest | StatusRequest | SettingsRequest | MemberRequest | WorkerRequest
Reply = SnapshotReply | RangeReply | SpecReply | StatusReply | SettingsReply | MemberReply | WorkerReply | Refusal
Message = Request | Reply

MESSAGE_TYPES: dict[str, type] = {
    "snapshot": SnapshotRequest,
    "range": RangeRequest,
    "spec": SpecRequest,
    "status": StatusRequest,
    "settings": SettingsRequest,
    "probe": ProbeRequest,
    "relay": RelayRequest,
    "relayed": RelayedRequest,
    "sync": SyncRequest,
    "join": JoinRequest,
    "initial": InitialRequest,
    "push": PushRequest,
    "begin": BeginRequest,
    "leave": LeaveRequest,
    "snapshot-reply": SnapshotReply,
    "range-reply": RangeReply,
    "spec-reply": SpecReply,
    "status-reply": StatusReply,
    "settings-reply": SettingsReply,
    "probe-reply": ProbeReply,
    "sync-reply": SyncReply,
    "worker-reply": WorkerReply,
    "refusal": Refusal,
}
"""Name of each message on the wire."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and what every message carries.

    Attributes:
        id: Chosen by the asker, echoed in the reply.
        cluster: The sender's cluster.
        node: The sender's name, as it claims.
        message: The message.
    """

    id: int
    cluster: str
    node: str
    message: Message
