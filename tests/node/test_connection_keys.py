"""The check of connections where they are encrypted: whose key opens which door, and what is said where none does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdl.config import Address, load
from p2pdl.keys import AllowedKey, AllowList, allow, secret_path, write_secret
from p2pdl.node.connection_check import Connections, check_connections
from p2pdl.node.connection_client import asking
from p2pdl.transport.curve import make_keypair, public_of
from tests.key_folders import identity_of, make_keys
from tests.node.connections import SPEC, check, expectation, outcome
from tests.pretended_clusters import write_configuration
from tests.processes import free_port, server
from tests.stores import new_store, writing


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys", "node1", "node2", "node3", operators=("olga",))


def check_with_keys(folder: Path, own: str | None, port: int) -> Connections:
    """Look for node2 at a port, with the keys that lie beside the file."""
    file = write_configuration(folder, ports=[free_port(), port])
    configuration = load(file)
    entry = configuration.node(own) if own else None
    ways = asking(configuration, entry)
    with contextlib.closing(ways.client):
        assert ways.mechanism == "CURVE"
        expected = expectation(configuration, ways.mechanism)
        return check_connections(expected, entry, configuration.nodes[1:], ways.client, ways.key)


@contextlib.contextmanager
def node2(keys: Path | str) -> Iterator[int]:
    """The port of a server of node2 with these keys; none if the folder is empty text."""
    with new_store() as store, writing(store, SPEC), server(store, node="node2", keys=keys) as running:
        assert running.ready == ""
        yield Address.parse(running.address).port


@pytest.mark.parametrize("own", ["node1", None])
def test_encrypted_node_passes_for_a_node_and_for_an_operator(tmp_path: Path, keys: Path, own: str | None) -> None:
    with node2(keys) as port:
        found = check_with_keys(tmp_path, own, port)
    assert found.passed
    assert found.peers[0].steps[2].detail == "ZeroMQ with encryption (CURVE)"
    assert found.peers[0].steps[-1].name == "round trip"
    if own is not None:
        assert found.own is not None
        assert found.own.steps[0].detail == "the key of node1 is here and on the list"


def list_without(keys: Path, folder: Path, key: str, *names: str) -> Path:
    """Another machine's folder: node2 with this secret, and a list of these nodes alone."""
    listed = AllowList(keys).entries
    write_secret(folder, "node2", key)
    allow(folder, [AllowedKey("node2", public_of(key)), *(listed[name] for name in names)])
    return folder


def test_key_that_is_not_listed_there_is_told_apart_from_another_key_there(tmp_path: Path, keys: Path) -> None:
    right, other = identity_of(keys, "node2").secret, make_keypair()[0]
    with node2(list_without(keys, tmp_path / "theirs", right, "node3")) as port:
        [denied] = check_with_keys(tmp_path, "node1", port).peers
    with node2(list_without(keys, tmp_path / "others", other, "node1")) as port:
        [stranger] = check_with_keys(tmp_path, "node1", port).peers
    assert outcome(denied)[:2] == outcome(stranger)[:2] == ("handshake", "refuses")
    assert "does not let this node in, whose key is not on the list there" in outcome(denied)[2]
    assert "has another key than the one listed for it here" in outcome(stranger)[2]
    assert all(found.failed and found.failed.remedy for found in (denied, stranger))


def test_encryption_on_one_side_only_is_seen_in_the_greeting(tmp_path: Path, keys: Path) -> None:
    with node2("") as port:
        [open_there] = check_with_keys(tmp_path, "node1", port).peers
    with node2(keys) as port:
        [closed_there] = check(load(write_configuration(tmp_path, nodes=2)), port).peers
    assert outcome(open_there)[:2] == outcome(closed_there)[:2] == ("greeting", "refuses")
    assert "speaks without encryption (NULL), and peers.yaml asks for it" in outcome(open_there)[2]
    assert "wants encryption, and peers.yaml has none" in outcome(closed_there)[2]


def test_machine_without_a_key_still_says_what_it_can(tmp_path: Path, keys: Path) -> None:
    secret_path(keys, "node1").unlink()
    with node2(keys) as port:
        found = check_with_keys(tmp_path, "node1", port)
    assert found.own is not None and outcome(found.own)[:2] == ("key", "no key")
    assert "there is no secret key for node1 on this machine" in outcome(found.own)[2]
    assert outcome(found.peers[0])[:2] == ("handshake", "refuses")
    assert "this machine has no key to ask with" in outcome(found.peers[0])[2]
