"""What every transport must do."""

from __future__ import annotations

import time

import numpy as np
import pytest

from p2pdl.transport.contract import ClientTransport, Frames, Received
from tests.transport.worlds import World

WAIT = 10.0
"""Seconds for a reply that does come: only a failure takes so long."""

BRIEF = 0.15
"""Seconds for a reply that does not come."""

MIB = 1 << 20


def echo(frames: list[memoryview]) -> Frames:
    return [b"re", *[bytes(frame) for frame in frames]]


def texts(received: Received | None) -> list[bytes]:
    assert received is not None
    return [bytes(frame) for frame in received.frames]


def collect(client: ClientTransport, count: int) -> list[Received]:
    received = [client.receive(WAIT) for _ in range(count)]
    assert None not in received
    return received  # type: ignore[return-value]


def test_request_is_answered_with_all_frames(world: World) -> None:
    address = world.new_address()
    world.serve(address, echo)
    client = world.client()
    for frames in ([b"one"], [b"one", b"", b"three"], [b""]):
        client.send(address, frames)
        received = client.receive(WAIT)
        assert received is not None and received.address == address
        assert texts(received) == [b"re", *frames]


def test_reply_frames_are_read_only_views(world: World) -> None:
    address = world.new_address()
    world.serve(address, echo)
    client = world.client()
    client.send(address, [b"x" * 60_000])
    received = client.receive(WAIT)
    assert received is not None
    assert all(type(frame) is memoryview and frame.readonly for frame in received.frames)


def test_many_requests_in_flight_are_answered_in_order(world: World) -> None:
    address = world.new_address()
    world.serve(address, echo)
    client = world.client()
    for start in range(0, 192, 16):
        for number in range(start, start + 16):
            client.send(address, [b"%d" % number])
        assert [texts(each)[1] for each in collect(client, 16)] == [b"%d" % n for n in range(start, start + 16)]
    assert client.receive(BRIEF) is None


def test_large_frames_of_arrays_arrive_bit_by_bit(world: World) -> None:
    shards = np.random.default_rng(0).standard_normal((4, MIB // 4), dtype=np.float32)
    address = world.new_address()
    world.serve(address, lambda frames: [b"re", *shards])
    client = world.client()
    for _ in range(4):
        client.send(address, [b"all"])
    for received in collect(client, 4):
        assert [len(frame) for frame in received.frames] == [2, MIB, MIB, MIB, MIB]
        for frame, shard in zip(received.frames[1:], shards, strict=True):
            np.testing.assert_array_equal(np.frombuffer(frame, np.float32), shard)


def test_silent_address_gives_nothing_by_the_deadline_and_answers_after_reset(world: World) -> None:
    address = world.new_address()
    client = world.client()
    client.send(address, [b"lost"])
    started = time.monotonic()
    assert client.receive(BRIEF) is None
    assert time.monotonic() - started < 5
    client.reset(address)
    world.serve(address, echo)
    client.send(address, [b"new"])
    assert texts(client.receive(WAIT)) == [b"re", b"new"]
    assert client.receive(BRIEF) is None


def test_receive_without_any_request_gives_nothing(world: World) -> None:
    client = world.client()
    assert client.receive(0.0) is None
    assert client.receive(BRIEF) is None


def test_reset_of_an_unknown_address_does_nothing(world: World) -> None:
    address = world.new_address()
    client = world.client()
    client.reset(address)
    world.serve(address, echo)
    client.send(address, [b"x"])
    assert texts(client.receive(WAIT)) == [b"re", b"x"]


def test_reset_drops_requests_and_replies_under_way(world: World) -> None:
    address = world.new_address()
    world.serve(address, echo)
    client = world.client()
    client.send(address, [b"first"])
    assert texts(client.receive(WAIT)) == [b"re", b"first"]
    for _ in range(5):
        client.send(address, [b"late"])
        client.reset(address)
    client.send(address, [b"new"])
    assert texts(client.receive(WAIT)) == [b"re", b"new"]
    assert client.receive(BRIEF) is None


def test_server_gone_and_back_on_the_same_address_answers_again(world: World) -> None:
    address = world.new_address()
    client = world.client()
    for life in (b"first", b"second", b"third"):
        world.serve(address, lambda frames, life=life: [life])  # type: ignore[misc]
        client.send(address, [b"who"])
        assert texts(client.receive(WAIT)) == [life]
        world.stop(address)
        client.send(address, [b"anybody"])
        assert client.receive(BRIEF) is None
        client.reset(address)


def test_two_clients_at_once_get_their_own_replies(world: World) -> None:
    address = world.new_address()
    world.serve(address, echo)
    clients = [world.client(), world.client()]
    for number in range(8):
        for place, client in enumerate(clients):
            client.send(address, [b"%d of %d" % (number, place)])
    for place, client in enumerate(clients):
        assert [texts(each)[1] for each in collect(client, 8)] == [b"%d of %d" % (n, place) for n in range(8)]


def test_one_client_of_two_servers_knows_who_answered(world: World) -> None:
    addresses = [world.new_address(), world.new_address()]
    for address in addresses:
        world.serve(address, lambda frames, address=address: [address.encode()])  # type: ignore[misc]
    client = world.client()
    for address in addresses * 5:
        client.send(address, [b"who"])
    replies = collect(client, 10)
    assert sorted(each.address for each in replies) == sorted(addresses * 5)
    assert all(texts(each) == [each.address.encode()] for each in replies)


def test_silent_address_does_not_hold_up_another(world: World) -> None:
    silent, loud = world.new_address(), world.new_address()
    world.serve(loud, echo)
    client = world.client()
    client.send(silent, [b"x"])
    client.send(loud, [b"y"])
    assert texts(client.receive(WAIT)) == [b"re", b"y"]
    client.reset(silent)
    client.send(loud, [b"z"])
    assert texts(client.receive(WAIT)) == [b"re", b"z"]


@pytest.mark.parametrize("count", [1, 40])
def test_close_with_requests_in_flight_returns_at_once(world: World, count: int) -> None:
    address = world.new_address()
    client = world.client()
    for _ in range(count):
        client.send(address, [b"x" * 1000])
    started = time.monotonic()
    client.close()
    assert time.monotonic() - started < 5
