"""A closed door: who gets in, under which name, and that the thread which checks keys is always there."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import StartupError
from p2pdl.keys import AllowedKey, AllowList, allow, write_secret
from p2pdl.transport import door as door_module
from p2pdl.transport.contract import Asker
from p2pdl.transport.curve import Identity, load_identity, make_keypair, protect_server, public_of
from p2pdl.transport.door import STRANGER, Door
from p2pdl.transport.zeromq import ZmqClient, ZmqServer
from tests.key_folders import client_of, identity_of, make_keys, stranger
from tests.processes import free_port, wait_until

WAIT = 20.0
"""Seconds for what does happen: only a failure takes so long."""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys", "alpha", "beta", operators=("olga",))


@pytest.fixture
def guarded(keys: Path) -> Iterator[tuple[ZmqServer, str, Door]]:
    """A server with a door, and where it listens."""
    door, address = Door.of(keys, "alpha"), f"127.0.0.1:{free_port()}"
    with contextlib.closing(ZmqServer(address, door)) as server:
        yield server, address, door


def asker_of(server: ZmqServer, client: ZmqClient, address: str) -> Asker | None:
    """Who the server thinks has sent the client's request, which it answers."""
    client.send(address, [b"who am I"])
    request = server.receive(WAIT)
    assert request is not None and [bytes(frame) for frame in request.frames] == [b"who am I"]
    server.reply([b"see above"])
    received = client.receive(WAIT)
    assert received is not None and bytes(received.frames[0]) == b"see above"
    return request.asker


def x25519(scalar: bytes, u: int) -> bytes:
    """RFC 7748, section 5, in plain integers: the ladder over the field of 2^255 - 19."""
    prime = 2**255 - 19
    k = int.from_bytes(scalar, "little") & ~7 & (1 << 255) - 1 | 1 << 254
    x1, x2, z2, x3, z3, swapped = u, 1, 0, u, 1, 0
    for bit in reversed(range(255)):
        if swapped != (swapped := k >> bit & 1):
            x2, x3, z2, z3 = x3, x2, z3, z2
        plus, minus = (x2 + z2) % prime, (x2 - z2) % prime
        cross_plus, cross_minus = (x3 - z3) * plus % prime, (x3 + z3) * minus % prime
        difference = (plus * plus - minus * minus) % prime
        x3, z3 = (cross_plus + cross_minus) ** 2 % prime, x1 * (cross_plus - cross_minus) ** 2 % prime
        x2, z2 = plus * plus * minus * minus % prime, difference * (plus * plus + 121665 * difference) % prime
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, prime - 2, prime) % prime).to_bytes(32, "little")


@given(st.binary(min_size=32, max_size=32))
def test_public_key_is_curve25519s(secret: bytes) -> None:
    assert bytes.fromhex(public_of(secret.hex())) == x25519(secret, 9)


def test_pair_is_new_each_time_and_belongs_together() -> None:
    pairs = [make_keypair() for _ in range(3)]
    assert len({key for pair in pairs for key in pair}) == 6
    assert all(public_of(secret) == public and len(secret) == len(public) == 64 for secret, public in pairs)


def test_secret_is_not_shown() -> None:
    secret, public = make_keypair()
    shown = repr(Identity("alpha", secret, public))
    assert public in shown and secret not in shown


def test_identity_is_the_name_whose_key_is_listed(keys: Path) -> None:
    beta = load_identity(keys, "beta", AllowList(keys))
    assert (beta.name, beta.public) == ("beta", AllowList(keys).entries["beta"].public)
    assert public_of(beta.secret) == beta.public


def test_identity_whose_secret_belongs_to_another_public_key_is_refused(keys: Path) -> None:
    write_secret(keys, "beta", make_keypair()[0], force=True)
    with pytest.raises(StartupError, match="does not belong to the public key that .*allowed lists for beta") as caught:
        load_identity(keys, "beta", AllowList(keys))
    assert "p2pdl keygen --name beta --force" in caught.value.remedy


def test_identity_that_is_not_listed_is_refused(keys: Path) -> None:
    write_secret(keys, "gamma", make_keypair()[0])
    with pytest.raises(StartupError, match="lists no key for gamma") as caught:
        load_identity(keys, "gamma", AllowList(keys))
    assert "p2pdl keygen --name gamma" in caught.value.remedy


def test_asker_is_the_name_of_the_key_whatever_else_is_said(guarded: tuple[ZmqServer, str, Door], keys: Path) -> None:
    server, address, door = guarded
    for name, expected in [("beta", Asker("beta")), ("olga", Asker("olga", operator=True)), ("alpha", Asker("alpha"))]:
        with contextlib.closing(client_of(identity_of(keys, name), door.identity.public)) as client:
            assert [asker_of(server, client, address) for _ in range(3)] == [expected] * 3


def test_clients_side_by_side_are_told_apart(guarded: tuple[ZmqServer, str, Door], keys: Path) -> None:
    server, address, door = guarded
    clients = {name: client_of(identity_of(keys, name), door.identity.public) for name in ("alpha", "beta", "olga")}
    for _ in range(4):
        for name, client in clients.items():
            client.send(address, [name.encode()])
    for _ in range(12):
        request = server.receive(WAIT)
        assert request is not None and request.asker is not None
        assert bytes(request.frames[0]).decode() == request.asker.name
        server.reply([b"", *request.frames])
    for name, client in clients.items():
        received = [client.receive(WAIT) for _ in range(4)]
        assert [each and bytes(each.frames[1]) for each in received] == [name.encode()] * 4
        client.close()


def test_server_without_a_door_cannot_tell() -> None:
    address = f"127.0.0.1:{free_port()}"
    with contextlib.closing(ZmqServer(address)) as server, contextlib.closing(ZmqClient()) as client:
        assert asker_of(server, client, address) is None
        assert server.keep(0.0) == 0


def test_large_replies_come_through_encrypted(guarded: tuple[ZmqServer, str, Door], keys: Path) -> None:
    server, address, door = guarded
    shards = [os.urandom(1 << 20) for _ in range(4)]
    with contextlib.closing(client_of(identity_of(keys, "beta"), door.identity.public)) as client:
        client.send(address, [b"all"])
        assert server.receive(WAIT) is not None
        server.reply([b"header", *shards])
        received = client.receive(WAIT)
        assert received is not None and [bytes(frame) for frame in received.frames] == [b"header", *shards]


def test_reset_keeps_the_door(guarded: tuple[ZmqServer, str, Door], keys: Path) -> None:
    server, address, door = guarded
    server.reset()
    outsider = client_of(stranger(), door.identity.public)
    with (
        contextlib.closing(outsider),
        contextlib.closing(client_of(identity_of(keys, "beta"), door.identity.public)) as client,
    ):
        outsider.send(address, [b"let me in"])
        assert wait_until(lambda: server.keep(0.0) == 1, WAIT)
        assert asker_of(server, client, address) == Asker("beta")


def test_server_whose_checking_thread_is_gone_lets_nobody_in(keys: Path) -> None:
    """As measured: without an enforced domain such a server serves anybody who knows its public key."""
    alpha, beta = identity_of(keys, "alpha"), identity_of(keys, "beta")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.REP) as server, contextlib.closing(client_of(beta, alpha.public)) as client:
        protect_server(server, alpha)
        port = server.bind_to_random_port("tcp://127.0.0.1")
        client.send(address := f"127.0.0.1:{port}", [b"hello"])

        def is_kept_out() -> bool:
            assert client.receive(0.01) is None
            reason = client.reason(address)
            return reason is not None and reason.code == "handshake"

        assert wait_until(is_kept_out, WAIT)
        assert not server.poll(100)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_checking_thread_that_died_is_started_again_and_clients_get_in_by_themselves(
    guarded: tuple[ZmqServer, str, Door], keys: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, address, door = guarded

    def checking_threads() -> int:
        return sum(thread.name == "p2pdl-zap" for thread in threading.enumerate())

    def die(key: bytes, address: str) -> bool:
        raise SystemExit

    before = checking_threads()
    with monkeypatch.context() as patched:
        patched.setattr(server._authenticator, "_is_allowed", die)
        with contextlib.closing(client_of(stranger(), door.identity.public)) as killer:
            killer.send(address, [b"x"])
            assert wait_until(lambda: checking_threads() == before - 1, WAIT)
    with contextlib.closing(client_of(identity_of(keys, "beta"), door.identity.public)) as client:
        client.send(address, [b"hello"])
        # It cannot come in, and goes on trying.
        assert wait_until(lambda: client.receive(0.01) is None and client.reason(address) is not None, WAIT)
        assert server.receive(0.0) is None

        def is_kept() -> bool:
            server.keep(time.monotonic())
            return checking_threads() == before

        assert wait_until(is_kept, WAIT)
        assert "had died" in caplog.text
        request = server.receive(WAIT)
        assert request is not None and request.asker == Asker("beta")


def test_list_is_followed_while_the_server_runs(
    guarded: tuple[ZmqServer, str, Door], keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, address, door = guarded
    caplog.set_level(logging.INFO)
    beta, gamma = identity_of(keys, "beta"), stranger("gamma")
    now = 100.0
    with contextlib.closing(client_of(beta, door.identity.public)) as member:
        assert asker_of(server, member, address) == Asker("beta")
        server.keep(now)
        lines = (keys / "allowed").read_text().splitlines(keepends=True)
        (keys / "allowed").write_text("".join(line for line in lines if not line.startswith("beta ")))
        allow(keys, [AllowedKey("gamma", gamma.public)])
        server.keep(now + door_module.LOOK_SECONDS / 2)
        assert asker_of(server, member, address) == Asker("beta"), "nobody has looked yet"
        server.keep(now := now + door_module.LOOK_SECONDS)
        # Its connection stands, but its key opens nothing any more.
        assert asker_of(server, member, address) == STRANGER
        assert sorted(door.allowed.node_keys) == ["alpha", "gamma"]
        assert "alpha, gamma may take part" in caplog.text
    with contextlib.closing(client_of(gamma, door.identity.public)) as newcomer:
        assert asker_of(server, newcomer, address) == Asker("gamma")


def test_broken_list_is_told_once_and_the_one_before_stays(
    guarded: tuple[ZmqServer, str, Door], keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, address, door = guarded
    good = (keys / "allowed").read_text()
    with contextlib.closing(client_of(identity_of(keys, "beta"), door.identity.public)) as client:
        for content in ("beta public 123\n", None):
            caplog.clear()
            (keys / "allowed").unlink()
            if content is not None:
                (keys / "allowed").write_text(content)
            for now in (100.0, 200.0, 300.0):
                server.keep(now + 1000 * (content is None))
            assert len(caplog.records) == 1 and "is left as it was" in caplog.text
            assert asker_of(server, client, address) == Asker("beta")
        (keys / "allowed").write_text("\n".join(line for line in good.splitlines() if not line.startswith("alpha ")))
        server.keep(5000.0)
        assert "does not hold this node's own key any more" in caplog.text


def test_strangers_are_counted_and_each_is_logged_once(
    guarded: tuple[ZmqServer, str, Door], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, door = guarded
    monkeypatch.setattr(door_module, "REMEMBERED", 2)
    strangers = [bytes.fromhex(stranger().public) for _ in range(3)]
    for _ in range(4):
        assert not any(door.is_allowed(key, "10.0.0.9") for key in strangers)
    assert door.take_turned_away() == 12 and door.take_turned_away() == 0
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and all("10.0.0.9" in text for text in said)
    assert [key.hex() in text for key, text in zip(strangers, said, strict=False)] == [True, True]
    assert door.is_allowed(bytes.fromhex(door.identity.public), "10.0.0.9")
    assert door.take_turned_away() == 0
