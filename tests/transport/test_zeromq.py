"""What only the ZeroMQ transport promises: clear errors for addresses, and limits on frames and queues."""

from __future__ import annotations

import contextlib
import socket
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from p2pdl.errors import AddressInUse, PeerError, StartupError
from p2pdl.transport import zeromq
from p2pdl.transport.zeromq import ZmqClient, ZmqServer
from p2pdl.wire import FRAME_LIMIT, HEADER_LIMIT
from tests.processes import free_port, wait_until
from tests.transport.worlds import ZmqWorld


def test_server_port_of_another_program_is_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AddressInUse, match=f"cannot listen on {address}") as caught:
            ZmqServer(address)
        assert "another port" in caught.value.remedy


def test_server_port_of_another_server_is_in_use_until_that_has_closed() -> None:
    address = f"127.0.0.1:{free_port()}"
    first = ZmqServer(address)
    with pytest.raises(AddressInUse):
        ZmqServer(address)
    first.close()
    ZmqServer(address).close()


def test_server_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartupError, match="cannot listen on 203.0.113.7:7101: ") as caught:
        ZmqServer("203.0.113.7:7101")
    assert not isinstance(caught.value, AddressInUse)
    assert "this machine" in caught.value.remedy


def test_server_listens_on_ipv6() -> None:
    address = f"[::1]:{free_port()}"
    try:
        server = ZmqServer(address)
    except StartupError:
        pytest.skip("this machine has no IPv6")
    client = ZmqClient()
    client.send(address, [b"x"])
    assert server.receive(10.0) is not None
    server.reply([b"y"])
    received = client.receive(10.0)
    assert received is not None and bytes(received.frames[0]) == b"y"
    client.close()
    server.close()


def test_server_receive_without_request_gives_nothing() -> None:
    server = ZmqServer(f"127.0.0.1:{free_port()}")
    assert server.receive(0.0) is None
    assert server.receive(0.05) is None
    server.close()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:port", ":7101:"])
def test_client_address_malformed_is_an_error_and_the_client_goes_on(address: str) -> None:
    client = ZmqClient()
    with pytest.raises(PeerError, match=address) as caught:
        client.send(address, [b"x"])
    assert caught.value.code == "address"
    server = ZmqServer(good := f"127.0.0.1:{free_port()}")
    client.send(good, [b"x"])
    assert server.receive(10.0) is not None
    client.close()
    server.close()


def test_client_too_many_requests_for_a_silent_address_are_refused() -> None:
    client = ZmqClient()
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(PeerError, match="too many requests") as caught:
        for _ in range(200):
            client.send(address, [b"x"])
    assert caught.value.code == "queue-full"
    client.reset(address)
    client.send(address, [b"x"])
    client.close()


@pytest.fixture
def world() -> Iterator[ZmqWorld]:
    made = ZmqWorld()
    yield made
    made.close()


def test_frames_over_the_limits_are_dropped_and_the_next_ones_answered(world: ZmqWorld) -> None:
    address = world.new_address()
    world.serve(address, lambda frames: [bytes(FRAME_LIMIT + (frames[0][:1] == b"!"))])
    client = world.client()
    client.send(address, [b"!"])
    assert client.receive(0.3) is None
    client.reset(address)
    client.send(address, [bytes(HEADER_LIMIT + 1)])
    assert client.receive(0.3) is None
    client.reset(address)
    client.send(address, [bytes(HEADER_LIMIT)])
    received = client.receive(10.0)
    assert received is not None and len(received.frames[0]) == FRAME_LIMIT


def test_clients_share_a_context_that_stays_open() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server = ZmqServer(address := f"127.0.0.1:{free_port()}")
    for _ in range(2):
        client = ZmqClient(context)
        client.send(address, [b"x"])
        assert server.receive(10.0) is not None
        server.reply([b"y"])
        assert client.receive(10.0) is not None
        client.close()
    assert not context.closed
    context.term()
    server.close()


class SlowReader:
    """A client that asks and never reads."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvhwm, self._socket.rcvbuf = 1, 1 << 16
        self._socket.connect(f"tcp://{address}")

    def ask(self, times: int) -> None:
        for _ in range(times):
            self._socket.send_multipart([b"", b"more"])

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@contextlib.contextmanager
def serving() -> Iterator[tuple[ZmqServer, str]]:
    server = ZmqServer(address := f"127.0.0.1:{free_port()}")
    with contextlib.closing(server):
        yield server, address


def answered(server: ZmqServer, client: ZmqClient, address: str, text: bytes) -> bool:
    """Whether a request gets its own reply, and nothing before it.

    A client that has not noticed yet that its connection was dropped sends into it, and has to ask again.
    """
    request = None
    for _ in range(5):
        if request is None:
            client.send(address, [text])
            request = server.receive(5.0)
    assert request is not None
    server.reply([b"re", *request.frames])
    received = client.receive(10.0)
    return received is not None and [bytes(frame) for frame in received.frames] == [b"re", text]


def test_reset_drops_what_is_queued_and_answers_old_and_new_clients() -> None:
    with serving() as (server, address), contextlib.closing(ZmqClient()) as client:
        assert answered(server, client, address, b"before")
        reader, frames = SlowReader(address), 12
        reader.ask(frames)
        queued: list[weakref.ref[np.ndarray]] = []  # type: ignore[type-arg]
        for _ in range(frames):
            assert server.receive(10.0) is not None
            payload = np.zeros(1 << 20, np.uint8)
            queued.append(weakref.ref(payload))
            server.reply([payload])
            del payload
        # Some of it is in the buffers of the kernel, the rest stays where it is for as long as nobody reads.
        assert not wait_until(lambda: queued[-1]() is None, 0.3)
        for text in (b"again", b"and again"):
            server.reset()
            assert wait_until(lambda: all(frame() is None for frame in queued), 10.0)
            assert answered(server, client, address, text)
            with contextlib.closing(ZmqClient()) as new:
                assert answered(server, new, address, b"new " + text)
        assert client.receive(0.0) is None
        reader.close()


def test_reset_loses_requests_under_way_and_only_those() -> None:
    with serving() as (server, address), contextlib.closing(ZmqClient()) as client:
        assert answered(server, client, address, b"before")
        client.send(address, [b"lost"])
        assert server._socket.poll(10_000)
        server.reset()
        assert answered(server, client, address, b"after")


def test_reset_says_if_something_else_has_taken_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeromq, "REBIND_SECONDS", 0.1)
    with serving() as (server, address), socket.socket() as other:
        server._socket.close()

        def takes_the_port() -> bool:
            with contextlib.suppress(OSError):
                other.bind(("127.0.0.1", int(address.split(":")[1])))
                other.listen()
                return True
            return False

        assert wait_until(takes_the_port, 10.0)
        with pytest.raises(AddressInUse, match=f"cannot listen on {address}"):
            server.reset()


def test_frames_are_dropped_when_they_have_been_sent() -> None:
    with serving() as (server, address), contextlib.closing(ZmqClient()) as client:
        client.send(address, [b"x"])
        assert server.receive(10.0) is not None
        payload = np.zeros(1 << 20, np.uint8)
        sent = weakref.ref(payload)
        server.reply([b"re", payload])
        del payload
        assert client.receive(10.0) is not None
        assert wait_until(lambda: sent() is None, 10.0)
