"""Where the other nodes are and how the membership sees them: from the file at first, then from the node's server."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from p2pdl.store.view import MemberView
from p2pdl.types import NodeId


class Directory:
    """The other nodes by name.

    Args:
        own: This node's name.
        listed: Address by name of the nodes of the file.
        view: Whom the node's server knows; None where there is no membership.

    Attributes:
        addresses: `host:port` by name; it follows the changes.
        states: State by name, as `KnownMember` has it; it follows the changes.
    """

    def __init__(self, own: NodeId, listed: Mapping[NodeId, str], view: MemberView | None = None) -> None:
        self._own = own
        self._view = view
        self._seen: object = None
        self._addresses = {name: address for name, address in listed.items() if name != own}
        self._states = dict.fromkeys(self._addresses, "unknown")
        self.addresses: Mapping[NodeId, str] = MappingProxyType(self._addresses)
        self.states: Mapping[NodeId, str] = MappingProxyType(self._states)

    def refresh(self) -> bool:
        """Take over what the server knows; True if that has changed. Costs next to nothing if not."""
        members = self._view.members if self._view is not None else {}
        if not members or members is self._seen:
            return False
        self._seen = members
        for name, member in members.items():
            if name != self._own:
                self._addresses[name] = member.address
                self._states[name] = member.state
        for name, state in self._states.items():
            # The server leaves out who matters least where it knows very many; what was read of them before is old.
            if name not in members and state in ("alive", "suspect"):
                self._states[name] = "dead"
        return True

    def name_at(self, address: str) -> NodeId | None:
        """The node at an address; None if nobody is known to be there."""
        return next((name for name, place in self._addresses.items() if place == address), None)
