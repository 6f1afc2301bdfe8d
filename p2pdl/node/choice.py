"""Which node of the file this process is: by name, or the first entry of this machine that does not run yet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from p2pdl.config import Address, Configuration
from p2pdl.config.sections import NodeEntry
from p2pdl.errors import AddressInUse, NodeChoiceError, RunDirectoryUnusable
from p2pdl.node.run_folder import create_run_folder
from p2pdl.types import NodeId


class Claim:
    """A node of the file that this process, and no other one on this machine, runs.

    The claim is a lock that the system gives up when the process ends, however it ends.

    Args:
        node: The node's name.
        descriptor: The locked file's descriptor.
    """

    def __init__(self, node: NodeId, descriptor: int) -> None:
        self.node = node
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others run the node."""
        os.close(self._descriptor)


def claim_node(configuration: Configuration, name: str | None) -> Claim:
    """Decide which node to run, and claim it.

    Args:
        configuration: The cluster.
        name: The node's name; None to find the first entry whose address is this machine's and that does not run.

    Raises:
        NodeChoiceError: No such node, none of this machine's, or all of them run already.
        AddressInUse: The named node's port is taken.
        RunDirectoryUnusable: Claims cannot be written there.
    """
    locks = create_run_folder(configuration)
    if name is not None:
        entry = configuration.node(name)
        claim = _try_claim(locks, name)
        if claim is None:
            raise NodeChoiceError(
                f"node {name!r} runs already on this machine (process {_owner(locks, name)})",
                "stop that one first, or choose another name",
            )
        if not _is_free(entry.bind or entry.address):
            claim.release()
            raise _in_use(name, entry.bind or entry.address)
        return claim
    local = [entry for entry in configuration.nodes if is_this_machines(entry)]
    if not local:
        addresses = ", ".join(f"{entry.name} {entry.address}" for entry in configuration.nodes)
        raise NodeChoiceError(
            f"no node of {configuration.file} has an address of this machine ({addresses})",
            "say which one this is with --name, or correct the addresses under `nodes`",
        )
    busy: list[AddressInUse] = []
    for entry in local:
        claim = _try_claim(locks, entry.name)
        if claim is None:
            continue
        if _is_free(entry.bind or entry.address):
            return claim
        claim.release()
        busy.append(_in_use(entry.name, entry.bind or entry.address))
    if busy:
        raise busy[0]
    running = ", ".join(f"{entry.name} (process {_owner(locks, entry.name)})" for entry in local)
    raise NodeChoiceError(f"every node of this machine runs already: {running}", "nothing is left to start here")


def is_this_machines(entry: NodeEntry) -> bool:
    """Whether a node of the file belongs here; a `bind` of 0.0.0.0 is every machine's and says nothing."""
    if is_local(entry.address):
        return True
    return entry.bind is not None and not entry.bind.is_wildcard and is_local(entry.bind)


def is_local(address: Address) -> bool:
    """Whether the address belongs to this machine: only then can a socket be bound to it."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address.host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(target)
    except OSError:
        return False
    return True


def _is_free(address: Address) -> bool:
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does: connections of a server that has just ended do not hold the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError:
        return False
    return True


def _in_use(node: NodeId, address: Address) -> AddressInUse:
    return AddressInUse(
        f"node {node!r} cannot listen on {address}: the port is in use, or the address is not this machine's",
        "stop the other program, give the node another port under `nodes`, or set its `bind`",
    )


def _try_claim(folder: Path, node: NodeId) -> Claim | None:
    path = _lock_file(folder, node)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunDirectoryUnusable(
            f"{path}, which keeps two processes from running one node, cannot be opened: {error.strerror}",
            "make the run directory yours, or run in another one with --set cluster.runs=PATH",
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    # A full disk costs others the number of this process, and this one nothing.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return Claim(node, descriptor)


def _owner(folder: Path, node: NodeId) -> str:
    try:
        return _lock_file(folder, node).read_text() or "unknown"
    except OSError:
        return "unknown"


def _lock_file(folder: Path, node: NodeId) -> Path:
    return folder / f".{node}.lock"
