"""The check of connections against what really listens: nodes, other programs, and nothing at all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from p2pdl.config import Address, Configuration, load
from p2pdl.config.sections import NodeEntry
from p2pdl.node.connection_check import LIMIT_SECONDS
from p2pdl.node.shared_settings import shared_settings
from p2pdl.protocol.messages import PROTOCOL_VERSION
from p2pdl.spec import WeightSpec
from tests.node.connections import SPEC, check, outcome
from tests.node.listeners import Handler, black_hole, http_server, node_like, replying, talking
from tests.pretended_clusters import write_configuration
from tests.processes import free_port, is_stopped, server, wait_until
from tests.stores import new_store, writing

OTHER_SPEC = WeightSpec.layout([("dense/kernel", (99,), "float32", True)])

OTHER_VERSION = f"protocol version {PROTOCOL_VERSION + 1}, this node"

GRACE_SECONDS = 3.0
"""What a busy machine may add to a limit."""


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return load(write_configuration(tmp_path, nodes=2))


@pytest.fixture
def settings(configuration: Configuration) -> bytes:
    return json.dumps(shared_settings(configuration)).encode()


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
        (lambda right: replying(other_version(right)), "protocol", "other version", OTHER_VERSION),
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
