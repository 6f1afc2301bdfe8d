"""What a protocol core asks its host to do."""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.errors import PeerError
from p2pdl.protocol.messages import Request, SnapshotReply
from p2pdl.types import Float32Vector, Indices


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request to the peer of this pull."""

    id: int
    request: Request


@dataclass(frozen=True, slots=True)
class Begin:
    """The peer has said which version it serves; shards of it follow."""

    snapshot: SnapshotReply


@dataclass(frozen=True, slots=True)
class Accept:
    """These elements of the peer's vector are checked and may be used.

    Attributes:
        offset: First element of the shard.
        values: The values; valid only until the next reply is handled.
        indices: Which elements of the shard they are, ascending; None for all of them.
    """

    offset: int
    values: Float32Vector
    indices: Indices | None


@dataclass(frozen=True, slots=True)
class Complete:
    """Everything asked for has been accepted."""

    snapshot: SnapshotReply


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The peer has published nothing since the version that this node knows; nothing was transferred."""

    snapshot: SnapshotReply


@dataclass(frozen=True, slots=True)
class Fail:
    """The pull is over without a usable vector."""

    error: PeerError


Action = Send | Begin | Accept | Complete | Unchanged | Fail
