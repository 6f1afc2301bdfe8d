"""What a whole cluster looks like: the nodes of a file, or a node and the peers that it knows."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from p2pdl.clock import MonotonicClock
from p2pdl.errors import PeerError, PeerTimeout, ProtocolError
from p2pdl.node.security import looking
from p2pdl.protocol.messages import Envelope, StatusReply, StatusRequest
from p2pdl.puller.gathering import ASK_SECONDS, statuses
from p2pdl.puller.requests import Requester
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.types import JsonObject, NodeId
from p2pdl.wire import decode, encode

ASKER = "status"
"""The name under which this asks; a status is given to anybody of the cluster."""

WATCH_SECONDS = 0.5
WATCH_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How one node is.

    Attributes:
        name: The node's name.
        address: Where it was asked.
        status: Its last answer; None if there was none.
        error: Why there was none now.
    """

    name: NodeId
    address: str
    status: StatusReply | None
    error: str = ""

    def to_json(self) -> JsonObject:
        """The same as a JSON object, with the status' own fields beside the name."""
        answer = asdict(self.status) if self.status else {"state": "no answer"}
        return {"name": self.name, "address": self.address, "error": self.error or None, **answer}


def ask_nodes(
    cluster: str, addresses: Mapping[NodeId, str], timeout: float = ASK_SECONDS, keys: Path | None = None
) -> list[NodeStatus]:
    """Ask nodes how they are, all at once.

    Args:
        cluster: The cluster's name.
        addresses: `host:port` of each node.
        timeout: Seconds.
        keys: The folder of the keys; None where nothing is encrypted.

    Raises:
        StartupError: There is no key to ask with.
    """
    requester = _requester(cluster, addresses, keys)
    try:
        return _asked(requester, addresses, timeout)
    finally:
        requester.close()


def ask_around(address: str, timeout: float = ASK_SECONDS) -> tuple[str, list[NodeStatus]]:
    """Ask a node how it is, then every peer that it knows.

    Args:
        address: `host:port` of the node.
        timeout: Seconds for each of the two.

    Returns:
        The cluster's name, and the nodes, the one that was asked first.

    Raises:
        PeerError: The node does not answer, or is not a node.
    """
    cluster, name = identify(address, timeout)
    [first] = ask_nodes(cluster, {name: address}, timeout)
    if first.status is None:
        raise PeerError(f"{address}: {first.error}")
    peers = {str(row["name"]): str(row["address"]) for row in first.status.peers if {"name", "address"} <= row.keys()}
    peers.pop(name, None)
    return cluster, [first, *ask_nodes(cluster, peers, timeout)]


def identify(address: str, timeout: float = ASK_SECONDS) -> tuple[str, NodeId]:
    """The cluster and the name of the node at an address: every reply carries both, a refusal too.

    Raises:
        PeerError: It does not answer, or not as a node does.
    """
    client = ZmqClient()
    try:
        client.send(address, [encode(Envelope(1, "", ASKER, StatusRequest()))])
        received = client.receive(timeout)
    finally:
        client.close()
    if received is None:
        raise PeerTimeout(
            f"{address}: no answer within {timeout:g} s", "is a node running there, and is the address reachable?"
        )
    try:
        envelope = decode(received.frames[0] if received.frames else b"")
    except ProtocolError as error:
        raise ProtocolError(f"{address}: {error.message}", "is this really a p2pdl node?") from None
    return envelope.cluster, envelope.node


class StatusWatch:
    """Asks nodes how they are again and again, in a thread.

    Args:
        cluster: The cluster's name.
        addresses: `host:port` of each node.
        keys: The folder of the keys; None where nothing is encrypted.

    Raises:
        StartupError: There is no key to ask with.
    """

    def __init__(self, cluster: str, addresses: Mapping[NodeId, str], keys: Path | None = None) -> None:
        self._requester = _requester(cluster, addresses, keys)
        self._addresses = dict(addresses)
        self._latest: dict[NodeId, NodeStatus] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="p2pdl-status", daemon=True)
        self._thread.start()

    def latest(self) -> dict[NodeId, NodeStatus]:
        """Each node's last answer, with an error if it does not answer any more; empty before the first round."""
        return self._latest

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closed.wait(WATCH_SECONDS):
                known = self._latest
                self._latest = {
                    node.name: node
                    if node.status or node.name not in known
                    else replace(known[node.name], error=node.error)
                    for node in _asked(self._requester, self._addresses, WATCH_TIMEOUT_SECONDS)
                }
        finally:
            self._requester.close()


def _requester(cluster: str, addresses: Mapping[NodeId, str], keys: Path | None) -> Requester:
    return Requester(looking(keys, lambda: addresses), cluster, ASKER, MonotonicClock())


def _asked(requester: Requester, addresses: Mapping[NodeId, str], timeout: float) -> list[NodeStatus]:
    found = []
    for name, answer in statuses(requester, addresses, timeout).items():
        if isinstance(answer, PeerError):
            found.append(NodeStatus(name, addresses[name], None, answer.message.removeprefix(f"{addresses[name]}: ")))
        else:
            found.append(NodeStatus(name, addresses[name], answer))
    return found
