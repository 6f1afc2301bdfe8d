"""What a check of a connection expects of a node, what it has seen of it so far, and what one step came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2pdl.config import Address
from p2pdl.errors import PeerError
from p2pdl.protocol.messages import Envelope, StatusReply
from p2pdl.spec import WeightSpec
from p2pdl.types import JsonObject, NodeId


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a node of this file must be.

    Attributes:
        file: Name of the file, for messages.
        cluster: Its cluster.
        mechanism: `NULL`, or `CURVE` if the file wants encryption.
        settings: The file's settings as `shared_settings` gives them.
        spec: Layout of the file's model.
    """

    file: str
    cluster: str
    mechanism: str
    settings: JsonObject
    spec: WeightSpec


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the name service said.

    Attributes:
        hosts: Numeric addresses, in its order.
        error: Why there are none.
    """

    hosts: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a TCP connection went.

    Attributes:
        host: Numeric address.
        error: 0 if it was accepted, else the error's number.
        seconds: How long was waited.
    """

    host: str
    error: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the other end said first.

    Attributes:
        mechanism: `NULL`, `CURVE` or the like; empty if it does not speak ZMTP 3.
        other: What else it looks like, such as `HTTP`; empty if that cannot be said.
        closed: True if it closed the connection.
        seconds: How long was waited.
    """

    mechanism: str
    other: str = ""
    closed: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply of a node.

    Attributes:
        envelope: The reply and who sent it.
        payload: What followed.
        seconds: Between the question and this.
    """

    envelope: Envelope
    payload: Sequence[bytes | memoryview]
    seconds: float


Answer = Heard | PeerError
"""A reply, or why there is none that can be read."""


@dataclass(slots=True)
class Sighting:
    """What has been seen of a node's address so far; None is what nobody has looked at yet.

    Attributes:
        name: The node that the file says is there.
        address: Where.
        resolved: Its numeric addresses.
        attempts: A connection to each of them.
        greeting: Of the one that ZeroMQ dials.
        answer: To a status request.
        settings: To a settings request.
        spec: To a spec request.
        round_trips: Seconds of each of some further status requests.
        lost: Why it answered no more of them.
        status: The newest status.
    """

    name: NodeId
    address: Address
    resolved: Resolved | None = None
    attempts: tuple[Attempt, ...] | None = None
    greeting: Greeting | None = None
    answer: Answer | None = None
    settings: Answer | None = None
    spec: Answer | None = None
    round_trips: list[float] = field(default_factory=list)
    lost: PeerError | None = None
    status: StatusReply | None = None

    @property
    def dialled(self) -> str:
        """The numeric address that ZeroMQ takes: of a name the first one of IPv4; empty if there is none."""
        hosts = self.resolved.hosts if self.resolved else ()
        return next((host for host in hosts if self.address.is_ipv6 or ":" not in host), "")


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a check came to.

    Attributes:
        name: `name`, `route`, `greeting`, `handshake`, `protocol`, `cluster`, `node`, `settings`, `model` or
            `round trip`.
        ok: None if it cannot be said yet, which is no failure.
        detail: What was found.
        remedy: What to do about it; empty if nothing is to be done.
        result: A failure in two words.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""
    result: str = ""
