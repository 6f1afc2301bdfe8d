"""How a node joins a run of which it knows one live node: it takes over the settings that all nodes share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from p2pdl.clock import MonotonicClock
from p2pdl.config import Configuration
from p2pdl.errors import NotJoined, PeerError
from p2pdl.node.security import connecting, keys_folder
from p2pdl.node.shared_settings import differences, shared_settings, with_settings
from p2pdl.protocol.messages import SettingsReply, SettingsRequest
from p2pdl.puller.requests import Requester
from p2pdl.types import JsonObject, NodeId

ASK_SECONDS = 5.0


def join(configuration: Configuration, node: NodeId, places: Mapping[str, NodeId]) -> tuple[Configuration, list[str]]:
    """Ask the nodes at some addresses, one after another, what the cluster trains.

    Args:
        configuration: As read from this node's file.
        node: This node's name.
        places: Nodes of the cluster, of which one that answers is enough: name by `host:port`, empty where the name is
            not known, which does only without encryption.

    Returns:
        The configuration with the cluster's shared settings, and one line for each setting in which the file disagrees.

    Raises:
        NotJoined: None of them answered.
        IncompatiblePeer: One answered for another cluster, or its settings cannot be used here.
    """
    listed = {entry.name: str(entry.address) for entry in configuration.nodes}
    known = listed | {name: address for address, name in places.items() if name}
    client = connecting(keys_folder(configuration), node, lambda: known)()
    requester = Requester(client, configuration.cluster.name, node, MonotonicClock())
    failures = []
    try:
        for address in places:
            try:
                reply, payload = requester.ask(address, SettingsRequest(), ASK_SECONDS)
                settings = _read(address, reply, payload)
            except PeerError as error:
                failures.append(error.message)
                continue
            joined = with_settings(configuration, node, settings)
            return joined, disagreements(configuration, joined)
    finally:
        requester.close()
    raise NotJoined(
        f"no node to join: {'; '.join(failures)}",
        "name a node that runs: --join HOST:PORT, with the address at which it listens",
    )


def disagreements(own: Configuration, joined: Configuration) -> list[str]:
    """One line for each setting in which a node's file disagrees with the cluster that it joins."""
    found = differences(shared_settings(own), shared_settings(joined))
    return [
        f"{it.key} is {json.dumps(it.there)} in the cluster and {json.dumps(it.here)} in {own.file.name}; "
        "the cluster's value is used"
        for it in found
        if it.key != "nodes"
    ]


def _read(address: str, reply: object, payload: Sequence[memoryview]) -> JsonObject:
    if not isinstance(reply, SettingsReply) or len(payload) != 1:
        raise PeerError(f"{address}: did not answer with its settings")
    try:
        settings = json.loads(bytes(payload[0]))
    except (ValueError, RecursionError):
        raise PeerError(f"{address}: answered with settings that are not JSON") from None
    if not isinstance(settings, dict):
        raise PeerError(f"{address}: answered with settings that are not JSON")
    return settings
