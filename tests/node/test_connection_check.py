"""The check of connections against what really listens: nodes, other programs, and nothing at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from p2pdl.config import Address, Configuration, load
from p2pdl.config.sections import NodeEntry
from p2pdl.keys import AllowedKey, AllowList, allow, secret_path, write_secret
from p2pdl.node import connection_probe
from p2pdl.node.connection_check import LIMIT_SECONDS, Check, Connections, check_connections
from p2pdl.node.connection_client import asking
from p2pdl.node.connection_probe import bind_error, connect, greet, resolve
from p2pdl.node.connection_sighting import Expectation
from p2pdl.node.shared_settings import shared_settings
from p2pdl.spec import WeightSpec
from p2pdl.transport.curve import make_keypair, public_of
from p2pdl.transport.zeromq import ZmqClient
from tests.key_folders import identity_of, make_keys
from tests.node.listeners import Handler, black_hole, http_server, node_like, replying, talking
from tests.pretended_clusters import free_ports, write_configuration
from tests.processes import free_port, is_stopped, server, wait_until
from tests.stores import dense_spec, new_store, writing

SPEC = dense_spec(100)
OTHER_SPEC = WeightSpec.layout([("dense/kernel", (99,), "float32", True)])

GRACE_SECONDS = 3.0
"""What a busy machine may add to a limit."""


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return load(write_configuration(tmp_path, nodes=2))


@pytest.fixture
def settings(configuration: Configuration) -> bytes:
    return json.dumps(shared_settings(configuration)).encode()


def check(
    configuration: Configuration, *ports: int, own: NodeEntry | None = None, host: str = "127.0.0.1"
) -> Connections:
    """Look for node2, node3 and so on at these ports."""
    expected = Expectation("peers.yaml", "lab", "NULL", shared_settings(configuration), SPEC)
    others = [NodeEntry(name=f"node{n}", address=Address(host, port)) for n, port in enumerate(ports, start=2)]
    client = ZmqClient()
    try:
        return check_connections(expected, own, others, client)
    finally:
        client.close()


def outcome(found: Check) -> tuple[str, str, str]:
    """Which step failed, how, and what is said of it."""
    assert found.failed is not None and found.failed == found.steps[-1]
    return found.failed.name, found.result, found.failed.detail


def test_node_that_is_right_passes_and_says_how_it_is(configuration: Configuration, settings: bytes) -> None:
    with replying(node_like(SPEC, settings)) as port:
        found = check(configuration, port)
    assert found.passed
    [peer] = found.peers
    assert (peer.failed, peer.result, len(peer.steps)) == (None, "passed", 10)
    assert all(step.ok for step in peer.steps)
    assert peer.round_trip is not None and 0 < peer.round_trip < GRACE_SECONDS
    assert peer.status is not None and (peer.status.state, peer.status.step) == ("training", 5)
    told = json.loads(json.dumps(found.to_json()))
    assert told["passed"] is True and told["own"] is None
    assert told["peers"][0]["training"] == {"state": "training", "step": 5, "steps": 20}
    assert [step.keys() for step in told["peers"][0]["steps"]] == [{"name", "ok", "detail", "remedy"}] * 10


def test_real_server_passes_too(configuration: Configuration) -> None:
    with new_store() as store, writing(store, SPEC), server(store, node="node2") as running:
        [peer] = check(configuration, Address.parse(running.address).port).peers
    assert peer.failed is None
    # It was not told any settings, as the server of a script is not.
    assert [step.name for step in peer.steps if step.ok is None] == ["settings"]


def test_name_is_resolved_as_zeromq_does_it(configuration: Configuration, settings: bytes) -> None:
    with replying(node_like(SPEC, settings)) as port:
        [peer] = check(configuration, port, host="localhost").peers
    assert peer.result == "passed"
    assert "localhost is" in peer.steps[0].detail and "127.0.0.1" in peer.steps[0].detail


@contextlib.contextmanager
def nothing() -> Iterator[int]:
    yield free_port()


def other_version(handler: Handler) -> Handler:
    """The same node, a version of the protocol later."""

    def handle(header: bytes) -> list[bytes]:
        reply, *payload = handler(header)
        fields = msgpack.unpackb(reply)
        return [msgpack.packb({**fields, "protocol": fields["protocol"] + 1}), *payload]

    return handle


def lines_of(settings: bytes) -> bytes:
    """The same settings, but for two of them."""
    changed = json.loads(settings)
    changed["train"]["seed"], changed["data"]["partition"] = 99, "by-class"
    return json.dumps(changed).encode()


@pytest.mark.parametrize(
    ("listening", "step", "result", "detail"),
    [
        (lambda right: nothing(), "route", "not running", "nothing listens there"),
        (lambda right: black_hole(), "greeting", "silent", "accepts connections and says nothing for 1.0 s"),
        (lambda right: http_server(), "greeting", "not a node", "it looks like HTTP"),
        (
            lambda right: talking(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")),
            *("greeting", "not a node", "it looks like SSH"),
        ),
        (lambda right: talking(lambda connection: None), "greeting", "not a node", "closes them at once"),
        (lambda right: talking(lambda connection: tls(connection)), "greeting", "not a node", "it looks like TLS"),
        (
            lambda right: talking(lambda connection: connection.sendall(b"what?\r\n")),
            *("greeting", "not a node", "it looks like nothing known (it begins with b'what?"),
        ),
        (
            lambda right: talking(lambda connection: connection.sendall(b"\xff" + bytes(7) + b"\x01\x7f\x01\x03")),
            *("greeting", "not a node", "it looks like ZeroMQ of an old version"),
        ),
        (lambda right: replying(lambda header: [b"hello"]), "handshake", "not a node", "not as a node of p2pdl does"),
        (lambda right: replying(other_version(right)), "protocol", "other version", "protocol version 4, this node"),
        (
            lambda right: replying(node_like(SPEC, b"{}", cluster="kitchen")),
            *("cluster", "other cluster", "belongs to cluster 'kitchen'"),
        ),
        (lambda right: replying(node_like(SPEC, b"{}", node="node9")), "node", "other node", "the node node9 answers"),
        (
            lambda right: replying(lambda header: right(header)[:1] + [b"[]"][: len(right(header)) - 1]),
            *("settings", "other version", "not those of this version"),
        ),
    ],
)
def test_first_step_that_fails_is_named(
    configuration: Configuration,
    settings: bytes,
    listening: Callable[[Handler], contextlib.AbstractContextManager[int]],
    step: str,
    result: str,
    detail: str,
) -> None:
    with listening(node_like(SPEC, settings)) as port:
        found = check(configuration, port)
    assert not found.passed
    failed, kind, said = outcome(found.peers[0])
    assert (failed, kind) == (step, result)
    assert detail in said


def tls(connection: socket.socket) -> None:
    """A server without a certificate: it understands a client, and cannot serve it."""
    with contextlib.suppress(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(connection, server_side=True).close()


def test_other_settings_and_another_model_are_listed(configuration: Configuration, settings: bytes) -> None:
    with (
        replying(node_like(SPEC, lines_of(settings))) as other_settings,
        replying(node_like(OTHER_SPEC, settings, node="node3")) as other_model,
        replying(node_like(None, settings, node="node4")) as no_model,
    ):
        first, second, third = check(configuration, other_settings, other_model, no_model).peers
    assert outcome(first)[:2] == ("settings", "other settings")
    assert 'data.partition is "by-class" there' in outcome(first)[2] and "train.seed is 99 there" in outcome(first)[2]
    assert outcome(second)[:2] == ("model", "other model")
    assert "dense/kernel float32[100] here and dense/kernel float32[99] there" in outcome(second)[2]
    assert third.failed is None and [step.name for step in third.steps if step.ok is None] == ["model"]


def test_stopped_node_is_told_apart_from_one_that_does_not_run(configuration: Configuration) -> None:
    with new_store() as store, server(store, node="node2") as running:
        port = Address.parse(running.address).port
        os.kill(running.process.pid, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(running.process.pid), 10.0)
        stopped, absent = check(configuration, port, free_port()).peers
    assert outcome(stopped)[:2] == ("greeting", "silent")
    assert outcome(absent)[:2] == ("route", "not running")


def test_many_nodes_are_looked_at_in_the_time_of_one(configuration: Configuration, settings: bytes) -> None:
    def deaf(header: bytes) -> list[bytes]:
        """Answers the first question, and the others with what belongs to none."""
        reply, *payload = right(header)
        fields = msgpack.unpackb(reply)
        return [msgpack.packb({**fields, "id": 10**6}) if fields["type"] != "status-reply" else reply, *payload]

    right = node_like(SPEC, settings, node="node22")
    with contextlib.ExitStack() as stack:
        holes = [stack.enter_context(black_hole()) for _ in range(20)]
        silent = stack.enter_context(replying(deaf))
        began = time.monotonic()
        found = check(configuration, *holes, silent)
        took = time.monotonic() - began
    assert {peer.result for peer in found.peers} == {"silent"}
    assert outcome(found.peers[20])[0] == "settings"
    assert took < LIMIT_SECONDS + GRACE_SECONDS


def own_entry(port: int, bind: str | None = None) -> NodeEntry:
    listen = Address.parse(bind) if bind else None
    return NodeEntry(name="node1", address=Address("127.0.0.1", port), bind=listen)


def test_own_side_says_whether_the_port_is_free(configuration: Configuration, settings: bytes) -> None:
    own = check(configuration, own=own_entry(free_port())).own
    assert own is not None and [step.name for step in own.steps] == ["address", "port"]
    assert own.failed is None and "is free" in own.steps[1].detail

    with replying(node_like(SPEC, settings, node="node1")) as port:
        own = check(configuration, own=own_entry(port)).own
        assert own is not None and own.failed is None
        assert own.steps[1].detail == "node1 runs already and listens there"
        assert own.status is not None and own.round_trip is not None
        elsewhere = check(configuration, own=own_entry(port, bind=f"0.0.0.0:{port}")).own
        assert elsewhere is not None and elsewhere.failed is None and elsewhere.address == f"127.0.0.1:{port}"

    with replying(node_like(SPEC, settings, node="node5")) as port:
        own = check(configuration, own=own_entry(port)).own
        assert own is not None and outcome(own)[:2] == ("port", "port taken")
        assert "the node node5 answers, not node1" in outcome(own)[2]

    with http_server() as port:
        own = check(configuration, own=own_entry(port)).own
        assert own is not None and outcome(own)[:2] == ("port", "port taken")
        assert "it looks like HTTP" in outcome(own)[2]


def test_bind_of_another_machine_is_a_failure_of_this_side(configuration: Configuration) -> None:
    # An address for documentation, which no machine has.
    found = check(configuration, own=own_entry(7101, bind="192.0.2.7:7101"))
    assert not found.passed and found.own is not None
    assert outcome(found.own)[:2] == ("address", "not this machine")


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
        expected = Expectation("peers.yaml", "lab", ways.mechanism, shared_settings(configuration), SPEC)
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


def test_encryption_on_one_side_only_is_seen_in_the_greeting(
    tmp_path: Path, configuration: Configuration, keys: Path
) -> None:
    with node2("") as port:
        [open_there] = check_with_keys(tmp_path, "node1", port).peers
    with node2(keys) as port:
        [closed_there] = check(configuration, port).peers
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


def test_name_service_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    freed = threading.Event()
    monkeypatch.setattr(connection_probe.socket, "getaddrinfo", lambda *arguments, **options: freed.wait() and [])
    try:
        assert resolve("127.0.0.1", 0.05).hosts == ("127.0.0.1",)
        found = resolve("gpu2", 0.05)
    finally:
        freed.set()
    assert found.hosts == () and found.error == "the name service has not answered within 0.1 s"


def test_name_that_does_not_exist_has_a_reason() -> None:
    found = resolve("no-such-machine.invalid", 30.0)
    assert found.hosts == () and found.error


def test_every_address_is_tried_at_once() -> None:
    with black_hole() as port:
        attempts = connect(["127.0.0.1", "::1"], port, 5.0)
    assert [attempt.host for attempt in attempts] == ["127.0.0.1", "::1"]
    assert attempts[0].error == 0 and attempts[1].error != 0


def test_connection_that_nobody_takes_times_out() -> None:
    with socket.socket() as listening, contextlib.ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        # The queue of the listener holds one or two connections; from then on packets are dropped.
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        [attempt] = connect(["127.0.0.1"], port, 0.2)
    assert (attempt.error, attempt.seconds) == (errno.ETIMEDOUT, 0.2)


def test_greeting_leaves_a_real_server_as_it_was() -> None:
    with new_store() as store, server(store) as running:
        place = Address.parse(running.address)
        assert [greet(place.host, place.port, 5.0).mechanism for _ in range(20)] == ["NULL"] * 20
        assert bind_error(place) == bind_error(Address("0.0.0.0", place.port)) == errno.EADDRINUSE
        assert running.process.poll() is None
    assert bind_error(place) == 0


def test_ports_of_a_file_can_be_listened_on() -> None:
    assert [bind_error(Address("localhost", port)) for port in free_ports(2)] == [0, 0]
    assert bind_error(Address("no-such-machine.invalid", 7101)) == errno.EADDRNOTAVAIL
