"""Several pullers at one server: one after another or in turn, and nobody keeps the others out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from p2pdl.errors import PeerRefused
from p2pdl.protocol.actions import Complete, Fail
from p2pdl.protocol.deadlines import SLACK
from p2pdl.protocol.messages import Envelope, Message, RangeReply, RangeRequest, SnapshotReply, SnapshotRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.protocol.uploads import PAUSE_BOUNDS, SMALL_NBYTES, TERM_BOUNDS
from p2pdl.server.answer import Answerer, reply_only
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.transport.memory import MemoryNetwork
from tests.protocol.nodes import ADDRESS, CLUSTER, LivePull, PlainNode, Pulled, network_of, node_serving, run_pull
from tests.stores import dense_spec, random_vector

VECTOR = random_vector(8 * SHARD_ELEMENTS)
MIB_SECONDS = 0.25
"""Seconds for 1 MiB over the server's link."""


def slow_network(uploads: int) -> MemoryNetwork:
    network = network_of(node_serving(VECTOR), limits=ServingLimits(uploads=uploads))
    network.faults.bandwidth = 2**20 / MIB_SECONDS
    return network


def is_busy(pulled: Pulled) -> bool:
    if not isinstance(pulled.last, Fail):
        return False
    assert isinstance(pulled.last.error, PeerRefused) and pulled.last.error.code == "busy"
    return True


def pull_when_admitted(network: MemoryNetwork, name: str, pause: float = 0.05) -> Pulled:
    """Ask again and again until there is a place."""
    while True:
        pulled = run_pull(network, VECTOR.size, name=name)
        if not is_busy(pulled):
            return pulled
        network.run_until(network.clock.now() + pause)


def test_ranges_of_two_pullers_are_served_in_turn() -> None:
    network = slow_network(uploads=2)
    pulls = [
        LivePull(network, VECTOR.size, PullSettings(window=2, range_shards=1), name=name) for name in ("alpha", "gamma")
    ]
    finished = []
    for pulled in (pull.wait() for pull in pulls):
        assert isinstance(pulled.last, Complete)
        np.testing.assert_array_equal(pulled.vector, VECTOR)
        finished.append(pulled.finished)
    sent = [entry for entry in network.journal if (entry.event, entry.source) == ("sent", ADDRESS)]
    served = [entry.target for entry in sent if entry.nbytes > 2**20]
    assert sorted(served) == ["alpha"] * 8 + ["gamma"] * 8
    # Neither is ever further ahead than its window.
    ahead = np.cumsum([1 if name == "alpha" else -1 for name in served])
    assert np.abs(ahead).max() <= 2
    assert abs(finished[0] - finished[1]) <= 2 * MIB_SECONDS


def test_one_upload_at_a_time_makes_the_first_puller_as_fast_as_alone_and_the_second_no_slower() -> None:
    alone = run_pull(slow_network(1), VECTOR.size).finished
    network = slow_network(1)
    first = LivePull(network, VECTOR.size)
    second = pull_when_admitted(network, "gamma")
    assert isinstance(second.last, Complete)
    np.testing.assert_array_equal(second.vector, VECTOR)
    assert first.wait().finished == pytest.approx(alone, rel=0.05)
    assert second.finished <= 2.1 * alone


def test_puller_without_a_place_is_told_at_once_and_nothing_is_sent_to_it() -> None:
    network = network_of(node_serving(VECTOR))
    network.faults.delay = (0.01, 0.01)
    first = LivePull(network, VECTOR.size, PullSettings(window=1, range_shards=1))
    network.run_until(0.05)
    refused = run_pull(network, VECTOR.size, name="gamma")
    assert is_busy(refused) and refused.finished < 0.1
    assert isinstance(first.wait().last, Complete)
    sent = [entry for entry in network.journal if (entry.event, entry.target) == ("sent", "gamma")]
    assert sent and sum(entry.nbytes for entry in sent) < 2000


def test_unchanged_version_takes_no_place() -> None:
    network = slow_network(1)
    first = LivePull(network, VECTOR.size, PullSettings(window=1, range_shards=1))
    unchanged = run_pull(network, VECTOR.size, known=("first-life", 1), name="gamma")
    assert not is_busy(unchanged)
    assert isinstance(first.wait().last, Complete)


@pytest.mark.parametrize("known", [False, True])
def test_puller_that_vanished_keeps_the_others_out_for_no_longer_than_it_may_pause(known: bool) -> None:
    network = network_of(node_serving(VECTOR))
    if known:
        assert isinstance(run_pull(network, VECTOR.size).last, Complete)
    began = network.clock.now()
    LivePull(network, VECTOR.size, PullSettings(window=1, range_shards=1), name="vanished")
    network.run_until(began + 0.0025)
    network.faults.cut |= {("vanished", ADDRESS), (ADDRESS, "vanished")}
    pulled = pull_when_admitted(network, "gamma")
    assert isinstance(pulled.last, Complete)
    patience = TERM_BOUNDS.floor if known else PAUSE_BOUNDS.initial
    assert patience <= pulled.finished - began <= patience + 0.2


class Poller:
    """Somebody who asks for a place all the time, past the link, until there is one.

    Attributes:
        admitted: When there was one.
    """

    def __init__(self, network: MemoryNetwork, serving: Serving, pause: float = 0.01) -> None:
        self._network = network
        self._serving = serving
        self._pause = pause
        self.admitted = np.inf
        self._ask()

    def _ask(self) -> None:
        now = self._network.clock.now()
        envelope = Envelope(1, CLUSTER, "poller", SnapshotRequest(dense_spec(VECTOR.size).digest))
        if isinstance(self._serving.on_request(envelope, now)[0], SnapshotReply):
            self.admitted = now
        else:
            self._network.at(now + self._pause, self._ask)


def watched_network(mbit: float) -> tuple[MemoryNetwork, Serving, PlainNode]:
    """A slow network, and the server within it."""
    node = node_serving(VECTOR)
    network, serving = network_of(node), Serving(CLUSTER, node)
    network.serve(ADDRESS, reply_only(Answerer(CLUSTER, "beta", serving)))
    network.faults.bandwidth = mbit * 1e6 / 8
    return network, serving, node


def sent_to(network: MemoryNetwork, name: str) -> float:
    """When the last bytes to somebody have left the server, but for the travel time."""
    arrived = [e.now for e in network.journal if (e.event, e.source, e.target) == ("delivered", ADDRESS, name)]
    return max(arrived) - network.faults.delay[1]


PATIENT = PullSettings(timeout=1e6, request_timeout=1e4, range_shards=1, window=4)


@pytest.mark.parametrize("mbit", [0.5, 3.0, 100.0])
@pytest.mark.parametrize("range_shards, window", [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_known_link_serves_one_puller_to_its_end_though_ranges_come_seconds_apart(
    mbit: float, range_shards: int, window: int
) -> None:
    settings = replace(PATIENT, range_shards=range_shards, window=window)
    network, serving, node = watched_network(mbit)
    # What the first pull shows of the link is known from then on.
    assert isinstance(run_pull(network, VECTOR.size, settings).last, Complete)
    network.run_until(network.clock.now() + 1.0)
    began = network.clock.now()
    first = LivePull(network, VECTOR.size, settings)
    network.run_until(began + 0.01)
    poller = Poller(network, serving, 0.1 if mbit < 10 else 0.001)
    while poller.admitted == np.inf:
        node.publish(VECTOR)
        network.run_until(network.clock.now() + 20.0)
    pulled = first.wait()
    assert isinstance(pulled.last, Complete)
    assert sent_to(network, "alpha") <= poller.admitted <= sent_to(network, "alpha") + 0.11
    assert pulled.finished - began == pytest.approx(VECTOR.nbytes / network.faults.bandwidth, rel=0.05)


def test_first_upload_over_a_slow_link_gets_its_place_back_when_it_asks_for_more() -> None:
    network, serving, _ = watched_network(1.0)
    first = LivePull(network, VECTOR.size, PATIENT)
    # The first range takes 8.4 s: longer than the patience with an unknown link, shorter than with this upload.
    network.run_until(8.5)
    poller = Poller(network, serving, 0.1)
    assert isinstance(first.wait().last, Complete)
    network.run_until(network.clock.now() + 1.0)
    assert sent_to(network, "alpha") <= poller.admitted <= sent_to(network, "alpha") + 0.2


def test_slow_upload_keeps_its_version_however_often_others_are_published_and_served() -> None:
    network, serving, node = watched_network(0.5)
    first = LivePull(network, VECTOR.size, PATIENT)
    turns = 0

    def others_come_and_go() -> None:
        nonlocal turns
        turns += 1
        node.publish(VECTOR)
        name, now = f"other{turns}", network.clock.now()
        serving.on_request(Envelope(1, CLUSTER, name, SnapshotRequest(node.spec_digest())), now)
        last = RangeRequest("", 1, 7 * SHARD_ELEMENTS, SHARD_ELEMENTS, "float32", (), True)
        serving.on_request(Envelope(2, CLUSTER, name, last), now)
        network.at(now + 1.0, others_come_and_go)

    # From the first of its pauses on, the server knows how long they are: 16.8 s, more than a lease is at first.
    network.run_until(17.0)
    others_come_and_go()
    pulled = first.wait()
    assert isinstance(pulled.last, Complete) and pulled.last.snapshot.version == 1
    assert turns > 100


def test_small_model_is_sent_to_everybody_at_once() -> None:
    vector = VECTOR[: SMALL_NBYTES // 2**20 * SHARD_ELEMENTS]
    network = network_of(node_serving(vector))
    network.faults.bandwidth = 2**20 / MIB_SECONDS
    pulls = []
    for name in ("alpha", "beta", "gamma"):
        pulls.append(LivePull(network, vector.size, name=name))
        network.run_until(network.clock.now() + 0.01)
    for number, pulled in enumerate([pull.wait() for pull in pulls], 1):
        assert isinstance(pulled.last, Complete)
        # Each one's replies stand behind those of the one before: in turn, though nobody was refused.
        assert pulled.finished == pytest.approx(4 * number * MIB_SECONDS, rel=0.05)


def test_slow_puller_keeps_the_others_out_for_no_longer_than_its_term() -> None:
    node = node_serving(VECTOR)
    serving = Serving(CLUSTER, node)

    def ask(name: str, message: Message, now: float) -> Message:
        return serving.on_request(Envelope(1, CLUSTER, name, message), now)[0]

    def shard(number: int) -> RangeRequest:
        return RangeRequest("", 1, number * SHARD_ELEMENTS, SHARD_ELEMENTS, "float32", (), number == 7)

    snapshot = SnapshotRequest(node.spec_digest())
    for began in (0.0, 10.0, 20.0):
        assert isinstance(ask("quick", snapshot, began), SnapshotReply)
        for number in range(8):
            assert isinstance(ask("quick", shard(number), began + 0.125 * number), RangeReply)
    assert isinstance(ask("slow", snapshot, 100.0), SnapshotReply)
    admitted = []
    for tick in range(70):
        now = 100.0 + 0.125 * tick
        if tick % 8 == 0 and tick < 64:
            assert isinstance(ask("slow", shard(tick // 8), now), RangeReply), "the slow one is served to its end"
        if not admitted and isinstance(ask("gamma", snapshot, now), SnapshotReply):
            admitted.append(now)
    assert admitted == [100.0 + SLACK * 7 * 0.125]
