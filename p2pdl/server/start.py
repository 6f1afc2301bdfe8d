"""What a server process is told about where to look for the other nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pdl.types import NodeId


@dataclass(frozen=True, slots=True)
class MembershipStart:
    """How a node begins to look for the others.

    Attributes:
        address: `host:port` at which the others reach it.
        life: Random name of this life of the node, the same for every server process of it.
        preset: A key of `PRESETS`.
        contacts: Address by name of the nodes of the file.
        join: Addresses of further nodes to begin with.
        seed: Of this node's chances.
    """

    address: str
    life: int
    preset: str
    contacts: dict[NodeId, str]
    join: list[str] = field(default_factory=list)
    seed: int = 0
