"""Why a connection does not come about: each case is made to happen, and the client says which it was."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdl.errors import PeerError
from p2pdl.keys import AllowedKey, allow
from p2pdl.transport import zeromq
from p2pdl.transport.door import Door
from p2pdl.transport.zeromq import ZmqClient, ZmqServer
from tests.key_folders import client_of, identity_of, make_keys, stranger
from tests.processes import free_port, wait_until

WAIT = 20.0
"""Seconds for what does happen: only a failure takes so long."""

TRIES = 8
"""Of the cases in which what the client sees depends on who is faster."""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys", "alpha", "beta")


@contextlib.contextmanager
def serving(door: Door | None = None, address: str = "") -> Iterator[tuple[ZmqServer, str]]:
    address = address or f"127.0.0.1:{free_port()}"
    with contextlib.closing(ZmqServer(address, door)) as server:
        yield server, address


def code_of(client: ZmqClient, address: str) -> str:
    """What the client says after a moment; empty as long as it knows nothing."""
    assert client.receive(0.01) is None
    reason = client.reason(address)
    return reason.code if reason else ""


def reason_after_asking(client: ZmqClient, address: str, *codes: str) -> PeerError:
    """The reason, once it is one of these; the client is closed."""
    with contextlib.closing(client):
        client.send(address, [b"hello"])
        assert wait_until(lambda: code_of(client, address) in codes, WAIT), code_of(client, address)
        reason = client.reason(address)
    assert reason is not None and reason.message.startswith(f"{address}: ") and reason.remedy
    return reason


def exchange(server: ZmqServer, client: ZmqClient, address: str) -> None:
    """One request and its reply."""
    client.send(address, [b"hello"])
    assert server.receive(WAIT) is not None
    server.reply([b"welcome"])
    assert client.receive(WAIT) is not None


@pytest.mark.parametrize("encrypted", [False, True])
def test_reason_is_none_before_anything_is_tried_and_while_all_is_well(keys: Path, encrypted: bool) -> None:
    door = Door.of(keys, "alpha") if encrypted else None
    client = client_of(identity_of(keys, "beta"), door.identity.public) if door else ZmqClient()
    with serving(door) as (server, address), contextlib.closing(client):
        assert client.reason(address) is None
        exchange(server, client, address)
        assert client.reason(address) is None
        assert client.receive(0.05) is None and client.reason(address) is None


def test_key_that_is_not_listed_is_denied_until_it_is_listed_and_the_connection_made_anew(keys: Path) -> None:
    door, newcomer = Door.of(keys, "alpha"), stranger("gamma")
    with serving(door) as (server, address), contextlib.closing(client_of(newcomer, door.identity.public)) as client:
        client.send(address, [b"hello"])
        assert wait_until(lambda: code_of(client, address) == "denied", WAIT)
        assert server.receive(0.0) is None
        # The socket is at its end a moment later, and then says so rather than that its queue is full.
        said: list[PeerError] = []

        def is_at_its_end() -> bool:
            try:
                client.send(address, [b"again"])
            except PeerError as error:
                said.append(error)
            return bool(said) and said[-1].code == "denied"

        assert wait_until(is_at_its_end, WAIT)
        assert "whose key is not on the list there" in said[-1].message
        allow(keys, [AllowedKey("gamma", newcomer.public)])
        assert server.keep(time.monotonic()) == 1
        client.reset(address)
        reason = client.reason(address)
        assert reason is not None and reason.code == "denied", "it is known until a connection stands"
        exchange(server, client, address)
        assert client.reason(address) is None


def test_server_with_another_key_than_expected_ends_the_handshake(keys: Path) -> None:
    with serving(Door.of(keys, "alpha")) as (server, address):
        client = client_of(identity_of(keys, "beta"), stranger().public)
        reason = reason_after_asking(client, address, "handshake")
        assert "another key than the one listed for it here" in reason.message
        assert server.receive(0.0) is None


def test_client_without_a_key_does_not_get_into_an_encrypted_server(keys: Path) -> None:
    with serving(Door.of(keys, "alpha")) as (server, address):
        for _ in range(TRIES):
            reason = reason_after_asking(ZmqClient(), address, "handshake", "encryption")
            assert "takes encrypted connections only" in reason.message
        assert server.receive(0.0) is None


def test_client_with_a_key_sends_nothing_to_a_server_without_encryption(keys: Path) -> None:
    with serving() as (server, address):
        for _ in range(TRIES):
            client = client_of(identity_of(keys, "beta"), stranger().public)
            reason = reason_after_asking(client, address, "handshake", "encryption")
            assert "takes no encrypted connections" in reason.message
        assert server.receive(0.0) is None


def test_server_that_fails_to_check_keys_says_so_and_checks_the_next_one(
    keys: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    door, beta = Door.of(keys, "alpha"), identity_of(keys, "beta")
    is_allowed = door.is_allowed
    failures = iter([ZeroDivisionError("by zero")])

    def fails_once(key: bytes, address: str) -> bool:
        for failure in failures:
            raise failure
        return is_allowed(key, address)

    monkeypatch.setattr(door, "is_allowed", fails_once)
    with serving(door) as (server, address), contextlib.closing(client_of(beta, door.identity.public)) as client:
        client.send(address, [b"hello"])
        assert wait_until(lambda: code_of(client, address) == "denied", WAIT)
        assert "could not check this node's key" in str(client.reason(address))
        assert "ZeroDivisionError: by zero" in caplog.text
        client.reset(address)
        exchange(server, client, address)


def test_port_on_which_nobody_listens_refuses() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        reason = reason_after_asking(ZmqClient(), address, "connection-refused")
    assert reason.message == f"{address}: refuses connections"


def test_address_that_does_not_answer_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeromq, "CONNECT_TIMEOUT_MS", 300)
    with contextlib.ExitStack() as stack:
        # One connection fills the queue of this listener; the kernel does not answer those after it.
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        stack.enter_context(socket.create_connection(listener.getsockname()))
        client = stack.enter_context(contextlib.closing(ZmqClient()))
        client.send(address, [b"hello"])
        assert wait_until(lambda: code_of(client, address) == "unreachable", WAIT)
        # While the first attempt runs, and after it and further ones have ended.
        began = time.monotonic()
        while time.monotonic() < began + 1.0:
            assert code_of(client, address) == "unreachable"


def test_name_that_leads_nowhere_is_named() -> None:
    reason = reason_after_asking(ZmqClient(), "no-such-host.invalid:7101", "unresolved")
    assert "its name does not lead to a machine" in reason.message


def test_process_that_takes_connections_and_says_nothing_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert "says nothing" in reason_after_asking(ZmqClient(), address, "silent").message


@contextlib.contextmanager
def answering(greeting: bytes) -> Iterator[str]:
    """Something else than a node: it says one thing to whoever connects, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(greeting)
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(4096)

        thread = threading.Thread(target=answer, name="p2pdl-test-answer")
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "greeting, code", [(b"", "handshake"), (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100), "not-a-node")]
)
def test_other_program_is_no_node(greeting: bytes, code: str) -> None:
    with answering(greeting) as address:
        assert reason_after_asking(ZmqClient(), address, code).code == code


def test_server_that_comes_back_ends_the_reason() -> None:
    address = f"127.0.0.1:{free_port()}"
    with contextlib.closing(ZmqClient()) as client:
        client.send(address, [b"hello"])
        assert wait_until(lambda: code_of(client, address) == "connection-refused", WAIT)
        with serving(address=address) as (server, _):
            assert server.receive(WAIT) is not None
            server.reply([b"welcome"])
            assert client.receive(WAIT) is not None
            assert client.reason(address) is None


def test_unknown_key_of_a_server_is_an_error_before_anything_is_sent(keys: Path) -> None:
    asked: list[str] = []

    def server_key(address: str) -> str | None:
        asked.append(address)
        return None

    client = ZmqClient(identity=identity_of(keys, "beta"), server_key=server_key)
    with serving() as (server, address), contextlib.closing(client):
        with pytest.raises(PeerError, match=f"^{address}: which key the node there must have is not known") as caught:
            client.send(address, [b"hello"])
        assert (caught.value.code, asked) == ("no-key", [address])
        assert "must both name it" in caught.value.remedy
        assert server.receive(0.05) is None


def test_only_so_many_reasons_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeromq, "REMEMBERED_TROUBLES", 2)
    addresses = [f"no-such-host-{number}.invalid:7101" for number in range(3)]
    with contextlib.closing(ZmqClient()) as client:
        for address in addresses:
            client.send(address, [b"hello"])
        assert wait_until(lambda: all(code_of(client, address) for address in addresses), WAIT)
        for address in addresses:
            client.reset(address)
        assert [client.reason(address) is not None for address in addresses] == [False, True, True]
