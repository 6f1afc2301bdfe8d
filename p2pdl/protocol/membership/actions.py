"""What the membership asks its host to do."""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.protocol.membership.members import Member
from p2pdl.protocol.messages import MemberRequest


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a request; a reply goes to `Membership.on_reply`, silence to nobody.

    Attributes:
        id: To be echoed in the reply.
        address: `host:port`.
        request: The request.
    """

    id: int
    address: str
    request: MemberRequest


@dataclass(frozen=True, slots=True)
class Changed:
    """A line for the log: a member's state, life or address is another one.

    Attributes:
        member: As it is now; this node itself when others gave it up and it has contradicted.
        previous_state: As it was; empty for a member that is new.
        reason: For people.
    """

    member: Member
    previous_state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another process runs under this node's name, has answered at its address, and comes first: this node must end.

    Attributes:
        by: That process.
    """

    by: Member


Action = Ask | Changed | Superseded
