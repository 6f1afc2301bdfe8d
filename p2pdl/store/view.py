"""Whom the node's server knows, as the node's other processes read it out of the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from p2pdl.store.block import Block
from p2pdl.types import NodeId


@dataclass(frozen=True, slots=True)
class KnownMember:
    """A member of the cluster.

    Attributes:
        name: Its name.
        address: `host:port` at which it is reached.
        key: Its public key; empty without encryption.
        state: `alive`, `suspect`, `dead`, `left`, or `unknown` for a node of the file that has not been heard of yet.
        since: Monotonic seconds of this machine since when it is in that state.
        error: Why it is not alive, for people; empty if it is.
    """

    name: NodeId
    address: str
    key: str
    state: str
    since: float
    error: str


class MemberView:
    """Follows the members; reading is cheap while nothing changes.

    Args:
        block: The server's block in the store.
    """

    def __init__(self, block: Block) -> None:
        self._block = block
        self._sequence = -1
        self._members: dict[NodeId, KnownMember] = {}
        self._superseded: str | None = None

    @property
    def members(self) -> Mapping[NodeId, KnownMember]:
        """All members by name, this node included; what was read last if the server is just writing."""
        self._follow()
        return self._members

    @property
    def superseded(self) -> str | None:
        """The address at which another process runs under this node's name, and has prevailed; None as a rule."""
        self._follow()
        return self._superseded

    def close(self) -> None:
        """Let go of the block."""
        self._block.close()

    def _follow(self) -> None:
        sequence = self._block.sequence
        if sequence == self._sequence or (content := self._block.read()) is None:
            return
        self._sequence = sequence
        view = json.loads(content)
        self._members = {row["name"]: KnownMember(**row) for row in view["members"]}
        self._superseded = view["superseded"]
