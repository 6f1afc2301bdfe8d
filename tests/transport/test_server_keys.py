"""The key that a server must have is looked up again while a connection stands: the list of keys may have changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pdl.clock import VirtualClock
from p2pdl.errors import PeerError
from p2pdl.transport import zeromq
from p2pdl.transport.contract import Asker
from p2pdl.transport.door import LOOK_SECONDS, Door
from p2pdl.transport.zeromq import ZmqClient, ZmqServer
from tests.key_folders import identity_of, make_keys
from tests.processes import free_port

WAIT = 20.0
"""Seconds for what does happen: only a failure takes so long."""


class Looked:
    """A client of `beta`, whose list says what the test wants, and whose time passes only when told to.

    Attributes:
        client: The client.
        key: The key of every server, by the list.
        looks: The addresses whose key has been looked up.
        clock: The client's time.
    """

    def __init__(self, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.key: str | None = identity_of(keys, "alpha").public
        self.looks: list[str] = []
        self.clock = VirtualClock()
        monkeypatch.setattr(zeromq, "time", SimpleNamespace(monotonic=self.clock.now, sleep=time.sleep))
        self.client = ZmqClient(identity=identity_of(keys, "beta"), server_key=self._look)

    def _look(self, address: str) -> str | None:
        self.looks.append(address)
        return self.key

    def let_pass(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now() + seconds)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys", "alpha", "beta", "gamma")


@pytest.fixture
def looked(keys: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looked]:
    made = Looked(keys, monkeypatch)
    with contextlib.closing(made.client):
        yield made


def is_answered(server: ZmqServer, client: ZmqClient, address: str) -> bool:
    """Whether a request comes to the server, and its reply back."""
    client.send(address, [b"hello"])
    request = server.receive(WAIT)
    assert request is not None and request.asker == Asker("beta")
    server.reply([b"welcome"])
    return client.receive(WAIT) is not None


def test_key_is_looked_up_now_and_then_while_a_connection_stands(looked: Looked, keys: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with contextlib.closing(ZmqServer(address, Door.of(keys, "alpha"))) as server:
        for pause, looks in [(0.0, 1), (0.9, 1), (0.1, 2), (0.9, 2), (5.0, 3), (0.9, 3)]:
            looked.let_pass(pause * LOOK_SECONDS)
            [before] = [*looked.client.sockets()] or [None]
            assert is_answered(server, looked.client, address)
            assert looked.looks == [address] * looks
            assert before in (None, *looked.client.sockets()), "the same connection stands"


def test_server_that_was_taken_off_the_list_is_sent_nothing_more(looked: Looked, keys: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with contextlib.closing(ZmqServer(address, Door.of(keys, "alpha"))) as server:
        assert is_answered(server, looked.client, address)
        looked.key = None
        looked.let_pass(0.9 * LOOK_SECONDS)
        assert is_answered(server, looked.client, address), "nobody has looked yet"
        # A reply that comes too late: it was asked for before, and must not be taken for an answer.
        looked.client.send(address, [b"late"])
        assert server.receive(WAIT) is not None
        server.reply([b"too late"])
        looked.let_pass(0.1 * LOOK_SECONDS)
        for _ in range(2):
            with pytest.raises(PeerError) as caught:
                looked.client.send(address, [b"hello"])
            assert caught.value.code == "no-key"
        assert not [*looked.client.sockets()] and looked.client.receive(0.0) is None
        assert server.receive(0.05) is None
        looked.key = identity_of(keys, "alpha").public
        assert is_answered(server, looked.client, address), "it is on the list again"


def test_server_that_has_a_new_key_is_connected_to_with_that_one(looked: Looked, keys: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with contextlib.closing(ZmqServer(address, Door.of(keys, "alpha"))) as server:
        assert is_answered(server, looked.client, address)
    with contextlib.closing(ZmqServer(address, Door.of(keys, "gamma"))) as server:
        looked.key = identity_of(keys, "gamma").public
        looked.let_pass(LOOK_SECONDS)
        assert is_answered(server, looked.client, address)
        assert looked.looks.count(address) == 3, "for the first connection, to compare, and for the second one"


def test_client_without_encryption_asks_for_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeromq, "LOOK_SECONDS", 0.0)
    asked: list[str] = []
    client = ZmqClient(server_key=lambda address: asked.append(address))
    address = f"127.0.0.1:{free_port()}"
    with contextlib.closing(client), contextlib.closing(ZmqServer(address)) as server:
        for _ in range(3):
            client.send(address, [b"hello"])
            assert server.receive(WAIT) is not None
            server.reply([b"welcome"])
            assert client.receive(WAIT) is not None
    assert asked == []
