"""Whether a node's connections are encrypted, and with which keys: `security` of the file, with `auto` decided."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from p2pdl.config import Address, Configuration
from p2pdl.errors import P2pdlError, StartupError
from p2pdl.keys import ALLOWED_FILE, AllowList, secret_path
from p2pdl.node.membership import is_loopback
from p2pdl.transport.curve import Identity, load_identity
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.types import NodeId

Addresses = Callable[[], Mapping[NodeId, str]]
"""Says where each node is now: `host:port` by name."""


def keys_folder(configuration: Configuration) -> Path | None:
    """The folder of the keys that connections use; None if they are not encrypted.

    Args:
        configuration: The cluster.

    Raises:
        StartupError: There are no keys, and the file neither says that none are wanted nor keeps to one machine.
    """
    mode = configuration.security.mode
    folder = configuration.resolve(configuration.security.keys)
    if mode == "none":
        return None
    if _has_list(folder):
        return folder
    exposed = _exposed(configuration)
    if mode == "auto" and not exposed:
        return None
    why = "`security: curve` needs keys" if mode == "curve" else f"{exposed} can be reached from other machines"
    raise StartupError(
        f"{why}, and {folder} has no list of those that may take part",
        f"`p2pdl keygen --config {shlex.quote(str(configuration.file))}` makes keys and says what to copy where; or "
        "write `security: none` if everybody who can reach the nodes is trusted",
    )


def warning(configuration: Configuration) -> str:
    """What is to be said at every start of a node; empty if there is nothing."""
    exposed = _exposed(configuration) if configuration.security.mode == "none" else ""
    if not exposed:
        return ""
    return (
        f"security: none: whoever can reach {exposed} can read the weights of this cluster, and can take part under "
        f"any name\n  -> `p2pdl keygen --config {shlex.quote(str(configuration.file))}` makes keys; then write "
        "`security: curve`"
    )


def connecting(folder: Path | None, name: NodeId, addresses: Addresses) -> Callable[[], ZmqClient]:
    """How a node connects to the others.

    Args:
        folder: The folder of the keys; None to encrypt nothing.
        name: The node's name.
        addresses: Where the others are; asked for each connection.

    Returns:
        A function that makes clients, each for one thread.

    Raises:
        StartupError: The node's secret or the list cannot be used.
    """
    if folder is None:
        return ZmqClient
    identity = load_identity(folder, name, AllowList(folder))
    return lambda: _client(identity, AllowList(folder), addresses)


def looking(folder: Path | None, addresses: Addresses) -> ZmqClient:
    """How somebody connects who only asks how the nodes are, with any key that is here, an operator's rather.

    Args:
        folder: The folder of the keys; None to encrypt nothing.
        addresses: Where the nodes are; asked for each connection.

    Raises:
        StartupError: The list cannot be used, or no secret that belongs to it is here.
    """
    if folder is None:
        return ZmqClient()
    allowed = AllowList(folder)
    return _client(_any_identity(folder, allowed), allowed, addresses)


def _any_identity(folder: Path, allowed: AllowList) -> Identity:
    names = sorted(allowed.entries, key=lambda name: not allowed.entries[name].operator)
    present = [name for name in names if secret_path(folder, name).exists()]
    if not present:
        raise StartupError(
            f"{folder} has no secret key, and these nodes answer only to listed keys",
            "`p2pdl keygen --operator NAME` makes one for looking; the list then goes to the machines of the nodes",
        )
    return load_identity(folder, present[0], allowed)


def _client(identity: Identity, allowed: AllowList, addresses: Addresses) -> ZmqClient:
    def server_key(address: str) -> str | None:
        try:
            allowed.reload()
        except P2pdlError:
            # The node's server says what is wrong with the list; what was read before is what counts.
            pass
        names = (name for name, place in addresses().items() if place == address)
        return next((allowed.node_keys[name] for name in names if name in allowed.node_keys), None)

    return ZmqClient(identity=identity, server_key=server_key)


def _has_list(folder: Path) -> bool:
    try:
        return (folder / ALLOWED_FILE).exists()
    except PermissionError:
        # Whoever reads it next says so.
        return True


def _exposed(configuration: Configuration) -> str:
    """Where the nodes can be reached from other machines; empty if all are this machine's alone."""
    places = dict.fromkeys(str(place) for place in _places(configuration) if not is_loopback(place))
    return ", ".join(places)


def _places(configuration: Configuration) -> Iterator[Address]:
    for entry in configuration.nodes:
        yield entry.address
        if entry.bind is not None:
            yield entry.bind
