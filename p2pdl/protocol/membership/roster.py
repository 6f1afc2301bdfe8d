"""The list of members that one node keeps, and a digest of it by which two nodes compare theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from p2pdl.protocol.membership.members import Member, Row, to_row
from p2pdl.types import NodeId

NEARLY = 0.99
"""Share of the time to being forgotten after which nobody hears of a gone member for the first time: no two nodes
forget it at one moment, and none should learn it again from another."""


@dataclass(slots=True)
class Known:
    """One entry of the list.

    Attributes:
        member: The highest claim about it.
        since: Monotonic seconds of this machine since when it is in that state.
        error: Why it is not alive, or what went wrong last, for people; empty if nothing did.
        accuser: Who suspects it; empty if nobody does of its own knowledge.
    """

    member: Member
    since: float
    error: str = ""
    accuser: NodeId = ""


class Roster:
    """The members by name; this node is one of them.

    Args:
        own: This node.
        contacts: Addresses of nodes that are never forgotten, by name; `unknown` until somebody has heard of them.
        now: Monotonic seconds.

    Attributes:
        known: All entries.
        digest: 64 bits over all that has been heard of; equal for nodes that agree.
        present: The other members that are alive or suspected, in no particular order.
        arrivals: Those that have become present since somebody last emptied this list.
        absent: Nodes that are dead or unknown, and contacts that have left; a set in the order of their going.
    """

    def __init__(self, own: Member, contacts: Mapping[NodeId, str], now: float) -> None:
        self._own_name = own.name
        self._contacts = {name: address for name, address in contacts.items() if name != own.name}
        self._known: dict[NodeId, Known] = {}
        self._rows: dict[NodeId, Row] = {}
        self._members: dict[NodeId, Member] = {}
        self.known: Mapping[NodeId, Known] = MappingProxyType(self._known)
        self.members: Mapping[NodeId, Member] = MappingProxyType(self._members)
        self.digest = 0
        self.present: list[NodeId] = []
        self.arrivals: list[NodeId] = []
        self.absent: dict[NodeId, None] = {}
        self.put(own, now)
        for name, address in self._contacts.items():
            self.put(Member(name, address, "", 0, 0, "unknown"), now)

    @property
    def own(self) -> Member:
        """This node."""
        return self._known[self._own_name].member

    @property
    def contacts(self) -> Mapping[NodeId, str]:
        """The nodes of the file, but this one."""
        return self._contacts

    @property
    def size(self) -> int:
        """Members present, this node included."""
        return len(self.present) + 1

    def put(self, member: Member, now: float, accuser: NodeId = "", age: int = 0) -> None:
        """Replace what is known about a member.

        Args:
            member: The claim.
            now: Monotonic seconds.
            accuser: Who suspects it.
            age: Seconds since it is gone.
        """
        before = self._known.get(member.name)
        was_present = before is not None and before.member.is_present
        if before is None:
            self._known[member.name] = Known(member, now - age, "", accuser)
        else:
            self._note_leaving(before.member)
            if (before.member.state, before.member.life) != (member.state, member.life):
                before.since = now - age
            before.member, before.accuser = member, accuser
        self._note_coming(member, was_present)

    def row(self, name: NodeId, now: float) -> Row:
        """What this node says about a member; not to be changed."""
        row = self._rows.get(name)
        if row is None:
            known = self._known[name]
            row = to_row(known.member, known.accuser, math.ceil(max(0.0, now - known.since)))
        return row

    def has_row(self, row: Mapping[str, object]) -> bool:
        """True if a row says what is known anyway; a quick look for the most frequent case."""
        name = row.get("name")
        return type(name) is str and self._rows.get(name) == row

    def would_say(self, row: Mapping[str, object], now: float) -> bool:
        """True if a row is what this node itself says."""
        name = row.get("name")
        return type(name) is str and name in self._known and self.row(name, now) == row

    def gone(self) -> list[tuple[float, NodeId]]:
        """Since when members are gone, and their names; but no contacts, which are never forgotten."""
        return [
            (known.since, name)
            for name, known in self._known.items()
            if known.member.is_gone and name not in self._contacts and name != self._own_name
        ]

    def drop(self, name: NodeId) -> None:
        """Forget a member."""
        self._note_leaving(self._known.pop(name).member)

    def _note_leaving(self, member: Member) -> None:
        self.digest ^= member.fingerprint
        self._rows.pop(member.name, None)
        self._members.pop(member.name, None)
        self.absent.pop(member.name, None)
        if member.is_present and member.name != self._own_name:
            self.present.remove(member.name)

    def _note_coming(self, member: Member, was_present: bool) -> None:
        self.digest ^= member.fingerprint
        if member.state != "unknown":
            self._members[member.name] = member
        if member.state == "alive":
            self._rows[member.name] = to_row(member)
        if member.name == self._own_name:
            return
        if member.is_present:
            self.present.append(member.name)
            if not was_present:
                self.arrivals.append(member.name)
        elif member.state != "left" or member.name in self._contacts:
            self.absent[member.name] = None
