"""What only the ZeroMQ transport promises: clear errors for addresses, and limits on frames and queues."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import zmq

from p2pdl.errors import AddressInUse, PeerError, StartupError
from p2pdl.transport.zeromq import ZmqClient, ZmqServer
from p2pdl.wire import FRAME_LIMIT, HEADER_LIMIT
from tests.processes import free_port
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
