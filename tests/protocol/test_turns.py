"""Several pullers at one server: one after another or in turn, and nobody keeps the others out."""

from __future__ import annotations

import numpy as np
import pytest

from p2pdl.errors import PeerRefused
from p2pdl.protocol.actions import Complete, Fail
from p2pdl.protocol.messages import Envelope, Message, RangeReply, RangeRequest, SnapshotReply, SnapshotRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.protocol.uploads import IDLE_SECONDS, SHORTEST_TERM, TERM_MEDIANS
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.transport.memory import MemoryNetwork
from tests.protocol.nodes import ADDRESS, CLUSTER, LivePull, Pulled, network_of, node_serving, run_pull
from tests.stores import random_vector

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
    pulls = [LivePull(network, VECTOR.size, PullSettings(window=2), name=name) for name in ("alpha", "gamma")]
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
    first = LivePull(network, VECTOR.size, PullSettings(window=1))
    network.run_until(0.05)
    refused = run_pull(network, VECTOR.size, name="gamma")
    assert is_busy(refused) and refused.finished < 0.1
    assert isinstance(first.wait().last, Complete)
    sent = [entry for entry in network.journal if (entry.event, entry.target) == ("sent", "gamma")]
    assert sent and sum(entry.nbytes for entry in sent) < 2000


def test_unchanged_version_takes_no_place() -> None:
    network = slow_network(1)
    first = LivePull(network, VECTOR.size, PullSettings(window=1))
    unchanged = run_pull(network, VECTOR.size, known=("first-life", 1), name="gamma")
    assert not is_busy(unchanged)
    assert isinstance(first.wait().last, Complete)


def test_puller_that_vanished_keeps_the_others_out_for_no_longer_than_it_may_be_idle() -> None:
    network = network_of(node_serving(VECTOR))
    LivePull(network, VECTOR.size, PullSettings(window=1), name="vanished")
    network.run_until(0.0025)
    network.faults.cut |= {("vanished", ADDRESS), (ADDRESS, "vanished")}
    pulled = pull_when_admitted(network, "gamma")
    assert isinstance(pulled.last, Complete)
    assert IDLE_SECONDS <= pulled.finished <= IDLE_SECONDS + 0.2


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
        assert isinstance(ask("quick", shard(7), began + 0.5), RangeReply)
    assert isinstance(ask("slow", snapshot, 100.0), SnapshotReply)
    admitted = []
    for tick in range(70):
        now = 100.0 + 0.125 * tick
        if tick % 8 == 0 and tick < 64:
            assert isinstance(ask("slow", shard(tick // 8), now), RangeReply), "the slow one is served to its end"
        if not admitted and isinstance(ask("gamma", snapshot, now), SnapshotReply):
            admitted.append(now)
    assert admitted == [100.0 + max(SHORTEST_TERM, TERM_MEDIANS * 0.5)]
