"""Checks of connections for tests: node2, node3 and so on are looked for at given ports."""

from __future__ import annotations

from p2pdl.config import Address, Configuration
from p2pdl.config.sections import NodeEntry
from p2pdl.node.connection_check import Check, Connections, check_connections
from p2pdl.node.connection_sighting import Expectation
from p2pdl.node.shared_settings import shared_settings
from p2pdl.transport.zeromq import ZmqClient
from tests.stores import dense_spec

SPEC = dense_spec(100)


def expectation(configuration: Configuration, mechanism: str = "NULL") -> Expectation:
    """What a node of the file must be, with a model of `SPEC`."""
    return Expectation("peers.yaml", "lab", mechanism, shared_settings(configuration), SPEC)


def check(
    configuration: Configuration, *ports: int, own: NodeEntry | None = None, host: str = "127.0.0.1"
) -> Connections:
    """Look for node2, node3 and so on at these ports."""
    others = [NodeEntry(name=f"node{n}", address=Address(host, port)) for n, port in enumerate(ports, start=2)]
    client = ZmqClient()
    try:
        return check_connections(expectation(configuration), own, others, client)
    finally:
        client.close()


def outcome(found: Check) -> tuple[str, str, str]:
    """Which step failed, how, and what is said of it."""
    assert found.failed is not None and found.failed == found.steps[-1]
    return found.failed.name, found.result, found.failed.detail
