"""The faults of the in-memory network, and that a seed repeats them."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from p2pdl.clock import VirtualClock
from p2pdl.transport.contract import Frames, Received
from p2pdl.transport.memory import Entry, MemoryClient, MemoryNetwork


def echo(frames: list[memoryview], now: float) -> Frames:
    return [bytes(frame) for frame in frames]


def network_of_one(seed: int = 0) -> tuple[MemoryNetwork, MemoryClient]:
    network = MemoryNetwork(VirtualClock(), seed)
    network.serve("b", echo)
    return network, network.client("a")


def events(network: MemoryNetwork) -> list[tuple[str, str, str]]:
    return [(entry.event, entry.source, entry.target) for entry in network.journal]


def run_with_every_fault(seed: int) -> list[Entry]:
    network, client = network_of_one(seed)
    faults = network.faults
    faults.loss, faults.delay, faults.corruption, faults.bandwidth = 0.2, (0.001, 0.3), 0.2, 1e4
    faults.duplication, faults.reordering = 0.1, 0.3
    for number in range(100):
        client.send("b", [b"%d" % number, bytes(50)])
        if number == 50:
            faults.paused.add("b")
        network.run_until(0.02 * number)
    faults.paused.clear()
    network.run_until(100.0)
    return network.journal


def test_same_seed_and_calls_give_the_same_journal() -> None:
    assert run_with_every_fault(3) == run_with_every_fault(3)
    assert run_with_every_fault(3) != run_with_every_fault(4)
    events = {entry.event for entry in run_with_every_fault(3)}
    assert events == {"sent", "lost", "corrupted", "repeated", "delivered"}


def test_message_without_faults_is_journalled_both_ways() -> None:
    network, client = network_of_one()
    client.send("b", [b"12", b"345"])
    assert client.receive(1.0) is not None
    assert network.journal == [
        Entry(0.0, "sent", "a", "b", 5),
        Entry(0.001, "delivered", "a", "b", 5),
        Entry(0.001, "sent", "b", "a", 5),
        Entry(0.002, "delivered", "b", "a", 5),
    ]
    assert network.clock.now() == pytest.approx(0.002)


def test_delay_is_drawn_within_its_bounds_and_keeps_order() -> None:
    network, client = network_of_one()
    network.faults.delay = (0.1, 0.5)
    for number in range(50):
        client.send("b", [b"%d" % number])
    replies = []
    while (received := client.receive(5.0)) is not None:
        replies.append(int(bytes(received.frames[0])))
    assert replies == list(range(50))
    there = [entry.now for entry in network.journal if entry.event == "delivered" and entry.target == "b"]
    assert 0.1 <= min(there) <= max(there) <= 0.5
    assert there == sorted(there)


def test_loss_of_everything_and_its_frequency() -> None:
    network, client = network_of_one()
    network.faults.loss = 1.0
    client.send("b", [b"x"])
    assert client.receive(3.0) is None
    assert network.clock.now() == 3.0
    assert events(network) == [("sent", "a", "b"), ("lost", "a", "b")]
    network.faults.loss = 0.25
    for _ in range(1000):
        client.send("b", [b"x"])
    network.run_until(10.0)
    lost_there = events(network).count(("lost", "a", "b")) - 1
    assert 200 < lost_there < 300


def test_cut_is_one_way_and_takes_what_is_under_way() -> None:
    network, client = network_of_one()
    network.faults.cut.add(("b", "a"))
    client.send("b", [b"x"])
    assert client.receive(1.0) is None
    assert events(network)[1:] == [("delivered", "a", "b"), ("sent", "b", "a"), ("lost", "b", "a")]
    network.faults.cut.clear()
    network.faults.delay = (0.5, 0.5)
    client.send("b", [b"y"])
    network.run_until(network.clock.now() + 0.1)
    network.faults.cut.add(("a", "b"))
    assert client.receive(5.0) is None
    network.faults.cut.clear()
    client.send("b", [b"z"])
    received = client.receive(5.0)
    assert received is not None and bytes(received.frames[0]) == b"z"


def test_paused_address_answers_everything_in_order_when_it_goes_on() -> None:
    network, client = network_of_one()
    network.faults.paused.add("b")
    for number in range(20):
        client.send("b", [b"%d" % number])
        network.run_until(0.013 * number)
    assert client.receive(1.0) is None
    network.faults.paused.clear()
    replies = [client.receive(1.0) for _ in range(20)]
    assert [bytes(each.frames[0]) for each in replies if each] == [b"%d" % number for number in range(20)]


def test_stopped_address_is_silent_and_can_be_served_again() -> None:
    network, client = network_of_one()
    network.stop("b")
    network.stop("never was")
    client.send("b", [b"x"])
    assert client.receive(1.0) is None
    network.serve("b", echo)
    assert client.receive(1.0) is None
    client.send("b", [b"y"])
    assert client.receive(1.0) is not None


def test_handler_may_keep_silent() -> None:
    network, client = network_of_one()
    network.serve("b", lambda frames, now: None)
    client.send("b", [b"x"])
    assert client.receive(1.0) is None


def test_corruption_changes_one_bit_of_the_last_frame_and_no_buffer_of_the_sender() -> None:
    network, client = network_of_one()
    vector = np.zeros(100, np.float32)
    network.serve("b", lambda frames, now: [b"header", vector])
    network.faults.corruption = 1.0
    for _ in range(20):
        client.send("b", [b""])
        received = client.receive(1.0)
        assert received is not None
        assert bytes(received.frames[0]) == b"header"
        assert sum(byte.bit_count() for byte in bytes(received.frames[1])) == 1
    assert not vector.any()
    assert ("corrupted", "b", "a") in events(network) and ("corrupted", "a", "b") not in events(network)


def test_duplication_delivers_a_message_twice_and_its_handler_answers_twice() -> None:
    network, client = network_of_one()
    answered: list[bytes] = []
    network.serve("b", lambda frames, now: answered.append(bytes(frames[0])) or [b"re", *map(bytes, frames)])
    network.faults.duplication = 1.0
    client.send("b", [b"x"])
    replies = []
    while (received := client.receive(1.0)) is not None:
        replies.append([bytes(frame) for frame in received.frames])
    assert answered == [b"x", b"x"] and replies == [[b"re", b"x"]] * 4
    network.faults.duplication = 0.25
    network.journal.clear()
    for _ in range(1000):
        client.send("b", [b"x"])
    repeated = events(network).count(("repeated", "a", "b"))
    network.run_until(10.0)
    assert 200 < repeated < 300
    assert events(network).count(("delivered", "a", "b")) == 1000 + repeated


def test_reordering_lets_messages_overtake_and_loses_none() -> None:
    network, client = network_of_one()
    network.faults.delay, network.faults.reordering = (0.0, 0.5), 1.0
    for number in range(100):
        client.send("b", [b"%d" % number])
    replies = []
    while (received := client.receive(5.0)) is not None:
        replies.append(int(bytes(received.frames[0])))
    assert sorted(replies) == list(range(100)) != replies
    network.faults.reordering = 0.0
    for number in range(100):
        client.send("b", [b"%d" % number])
    network.run_until(20.0)
    assert [int(bytes(received.frames[0])) for received in iter(lambda: client.receive(0.0), None)] == list(range(100))


def test_bandwidth_is_shared_by_what_one_sender_sends() -> None:
    network, client = network_of_one()
    network.serve("b", lambda frames, now: [bytes(1000)])
    network.faults.bandwidth, network.faults.delay = 1e4, (0.0, 0.0)
    for _ in range(5):
        client.send("b", [b""])
    network.run_until(10.0)
    arrivals = [entry.now for entry in network.journal if entry.event == "delivered" and entry.target == "a"]
    assert arrivals == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_frames_are_referred_to_until_they_have_left_the_sender() -> None:
    network, client = network_of_one()
    network.faults.bandwidth = 1000.0
    sent: list[weakref.ref[np.ndarray]] = []  # type: ignore[type-arg]

    def answer(frames: list[memoryview], now: float) -> Frames:
        payload = np.zeros(1000, np.uint8)
        sent.append(weakref.ref(payload))
        return [payload]

    network.serve("b", answer)
    for _ in range(3):
        client.send("b", [b""])
    seen = []
    for moment in (0.5, 1.5, 2.5, 3.5):
        network.run_until(moment)
        seen.append([frame() is None for frame in sent])
    assert seen == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]


def test_message_is_a_copy_taken_when_it_was_sent() -> None:
    network, client = network_of_one()
    buffer = bytearray(b"before")
    client.send("b", [buffer])
    buffer[:] = b"after!"
    received = client.receive(1.0)
    assert received is not None and bytes(received.frames[0]) == b"before"


def test_client_with_arrival_is_called_and_has_no_inbox() -> None:
    network, _ = network_of_one()
    arrived: list[tuple[Received, float]] = []
    client = network.client("c", lambda received, now: arrived.append((received, now)))
    client.send("b", [b"x"])
    network.run_until(1.0)
    [(received, now)] = arrived
    assert (received.address, bytes(received.frames[0]), now) == ("b", b"x", pytest.approx(0.002))
    assert client.receive(1.0) is None
    client.send("b", [b"y"])
    client.close()
    network.run_until(5.0)
    assert len(arrived) == 1


def test_calls_are_made_at_their_moment_and_in_order() -> None:
    network, _ = network_of_one()
    made: list[tuple[str, float]] = []
    for name, when in (("late", 2.0), ("early", 1.0), ("also early", 1.0), ("past", -1.0)):
        network.at(when, lambda name=name: made.append((name, network.clock.now())))  # type: ignore[misc]
    network.run_until(1.5)
    assert made == [("past", 0.0), ("early", 1.0), ("also early", 1.0)]
    assert network.clock.now() == 1.5
    network.run_until(1.0)
    assert network.clock.now() == 1.5
    network.run_until(9.0, stop=lambda: len(made) == 4)
    assert (made[-1], network.clock.now()) == (("late", 2.0), 2.0)
