"""What the configuration and an earlier start say about whom a node may find."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from p2pdl.config import Address, Configuration
from p2pdl.files import replace
from p2pdl.store.view import KnownMember
from p2pdl.types import NodeId

FILE_NAME = "members.json"


def preset_of(configuration: Configuration) -> str:
    """The preset, with `auto` decided: `local` if all nodes are on this machine by their addresses."""
    preset = configuration.membership.preset
    if preset != "auto":
        return preset
    return "local" if all(is_loopback(entry.address) for entry in configuration.nodes) else "lan"


def is_loopback(address: Address) -> bool:
    """Whether an address can only be this machine's own."""
    if address.host == "localhost":
        return True
    try:
        return ip_address(address.host).is_loopback
    except ValueError:
        return False


def remember(folder: Path, members: Iterable[KnownMember]) -> None:
    """Write down where the members were, for a start at which no node of the file may be there.

    Args:
        folder: The node's run folder.
        members: Whom the node knows.
    """
    known = {member.name: member.address for member in members if member.state != "left"}
    replace(folder / FILE_NAME, json.dumps(known, indent=2) + "\n")


def remembered(folder: Path) -> dict[NodeId, str]:
    """What `remember` wrote; empty if there is nothing that can be read."""
    try:
        known = json.loads((folder / FILE_NAME).read_text())
        return {str(name): str(Address.parse(address)) for name, address in known.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
