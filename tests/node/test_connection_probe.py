"""What a check sees from below ZeroMQ: names, connections, greetings, and whether a port is free."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading

import pytest

from p2pdl.config import Address
from p2pdl.node import connection_probe
from p2pdl.node.connection_probe import bind_error, connect, greet, resolve
from tests.node.listeners import black_hole
from tests.pretended_clusters import free_ports
from tests.processes import server
from tests.stores import new_store


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
