"""The meetings of a run on the in-memory network, under a virtual clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from p2pdl.clock import MonotonicClock, VirtualClock
from p2pdl.protocol import uploads
from p2pdl.protocol.finish import DONE_STATES
from p2pdl.protocol.held import LEASE_SECONDS
from p2pdl.protocol.messages import Envelope, SnapshotReply, SnapshotRequest, StatusReply
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.puller.gathering import (
    FINAL_PATIENCE_SECONDS,
    PULL_ATTEMPTS,
    RETRY_SECONDS,
    final_merge,
    gather,
    start_together,
)
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.server.answer import Answerer, reply_only
from p2pdl.simulation.node import SimulatedView
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.transport.memory import MemoryNetwork
from tests.puller.pulling import requester_of
from tests.stores import dense_spec, random_vector
from tests.transport.worlds import ZmqWorld

SPEC = WeightSpec.layout([("w", (64,), "float32", True)])
SETTINGS = PullSettings(timeout=5.0, request_timeout=1.0)


class Peer(SimulatedView):
    """A node whose state a test sets."""

    def __init__(
        self,
        network: MemoryNetwork,
        name: str,
        state: str,
        limits: ServingLimits | None = None,
        spec: WeightSpec = SPEC,
    ) -> None:
        super().__init__(spec)
        self.state = state
        self.samples = 1
        self.serving = Serving("lab", self, limits)
        network.serve(name, reply_only(Answerer("lab", name, self.serving)))

    def status(self, now: float) -> StatusReply:
        return StatusReply("1", self.state, 0, 0, self.samples, None, 0.0, {}, ())


class World:
    def __init__(self, spec: WeightSpec = SPEC) -> None:
        self.spec = spec
        self.clock = VirtualClock()
        self.network = MemoryNetwork(self.clock)
        self.requester = Requester(self.network.client("own"), "lab", "own", self.clock)
        self.peers: dict[str, Peer] = {}

    def add(
        self,
        name: str,
        state: str,
        value: float = 0.0,
        samples: int = 1,
        final: bool = True,
        limits: ServingLimits | None = None,
    ) -> Peer:
        peer = self.peers[name] = Peer(self.network, name, state, limits, self.spec)
        peer.samples = samples
        peer.publish(np.full(self.spec.size, value, np.float32), samples, 0.5, self.clock.now(), final)
        return peer

    def pause(self, seconds: float) -> bool:
        self.network.run_until(self.clock.now() + seconds)
        return False

    def later(self, seconds: float, change: Callable[[], None]) -> None:
        self.network.at(self.clock.now() + seconds, change)

    def addresses(self, *names: str) -> dict[str, str]:
        return {name: name for name in names or self.peers}


def set_state(peer: Peer, state: str) -> Callable[[], None]:
    return lambda: setattr(peer, "state", state)


def test_nodes_that_are_ready_do_not_wait_for_one_another():
    world = World()
    world.add("a", "ready")
    world.add("b", "ready")
    assert start_together(world.requester, world.addresses(), 30.0, world.clock, world.pause) == ["a", "b"]
    assert world.clock.now() < 1.0


def test_a_node_that_builds_its_model_is_waited_for():
    world = World()
    world.later(7.0, set_state(world.add("a", "starting"), "ready"))
    start_together(world.requester, world.addresses(), 30.0, world.clock, world.pause)
    assert 7.0 <= world.clock.now() < 8.0


def test_a_node_that_never_gets_ready_is_waited_for_no_longer_than_allowed():
    world = World()
    world.add("a", "starting")
    start_together(world.requester, world.addresses(), 12.0, world.clock, world.pause)
    assert 12.0 <= world.clock.now() < 13.0


def test_an_absent_node_is_waited_for_a_few_seconds_only():
    world = World()
    world.add("a", "ready")
    assert start_together(world.requester, world.addresses("a", "absent"), 30.0, world.clock, world.pause) == ["a"]
    assert world.clock.now() < 6.0


def test_nobody_waits_when_a_node_trains_already():
    world = World()
    world.add("a", "training")
    world.add("b", "starting")
    start_together(world.requester, world.addresses(), 30.0, world.clock, world.pause)
    assert world.clock.now() < 1.0


def test_the_end_waits_for_a_slow_node_and_names_what_is_missing():
    world = World()
    world.add("a", "finished")
    world.later(40.0, set_state(world.add("b", "training"), "finished"))
    world.add("c", "failed")
    gathering = gather(
        world.requester, world.addresses("a", "b", "c", "d"), DONE_STATES, 300.0, world.clock, world.pause
    )
    assert 40.0 <= world.clock.now() < 45.0
    assert gathering.arrived() == ["a", "b"]
    assert gathering.missing() == {"c": "it has failed", "d": "d: no answer within 2 s"}


def test_the_end_waits_no_longer_than_it_may_linger():
    world = World()
    world.add("a", "training")
    gathering = gather(world.requester, world.addresses(), DONE_STATES, 20.0, world.clock, world.pause)
    assert 20.0 <= world.clock.now() < 23.0
    assert gathering.arrived() == [] and "still training" in gathering.missing()["a"]


def merged(world: World, own_value: float = 0.0, own_samples: int = 1):
    own = ("own", np.full(SPEC.size, own_value, np.float32), own_samples)
    inbox = Inbox(SPEC)
    return final_merge(world.requester, own, world.addresses(), SPEC, SETTINGS, inbox, world.clock, world.pause)


def test_the_final_merge_is_the_average_weighted_by_samples_up_to_twice_the_median():
    world = World()
    world.add("a", "finished", value=1.0, samples=100)
    world.add("z", "merged", value=4.0, samples=300)
    merge = merged(world, own_value=2.0, own_samples=100)
    assert merge.nodes == ["a", "own", "z"] and merge.missing == {}
    np.testing.assert_allclose(merge.vector, (1.0 * 100 + 2.0 * 100 + 4.0 * 200) / 400, rtol=1e-6)


def test_no_claim_of_samples_decides_the_final_merge():
    world = World()
    world.add("a", "finished", value=1.0, samples=100)
    world.add("b", "finished", value=1.0, samples=90)
    world.add("liar", "finished", value=2.0, samples=2**63 - 1)
    merge = merged(world, own_value=1.0, own_samples=110)
    assert merge.nodes == ["a", "b", "liar", "own"]
    np.testing.assert_allclose(merge.vector, (100 + 90 + 110 + 2.0 * 200) / 500, rtol=1e-6)


@pytest.mark.parametrize("value, lengths", [(-1e6, "1e+06"), (-1.0, "2"), (3e38, "3e+38")])
def test_final_weights_that_are_far_from_this_nodes_are_left_out_and_named(value, lengths):
    world = World()
    world.add("a", "finished", value=2.0)
    world.add("bad", "finished", value=value)
    merge = merged(world, own_value=1.0)
    assert merge.nodes == ["a", "own"] and f"{lengths} times as far away" in merge.missing["bad"]
    np.testing.assert_allclose(merge.vector, 1.5)


def test_an_average_that_is_not_finite_is_nobodys():
    spec = WeightSpec.layout([("kernel", (8,), "float32", True), ("mean", (4,), "float32", False)])
    world = World(spec)
    vectors = {name: np.ones(spec.size, np.float32) for name in ("own", "a", "b")}
    statistics = spec.variables[1].span
    vectors["a"][statistics], vectors["b"][statistics] = 3e38, -3e38
    for name in ("a", "b"):
        world.add(name, "finished").publish(vectors[name], 1, 0.5, 0.0, True)
    own = ("own", vectors["own"], 1)
    merge = final_merge(world.requester, own, world.addresses(), spec, SETTINGS, Inbox(spec), world.clock, world.pause)
    assert merge.nodes == ["own"] and merge.missing == dict.fromkeys("ab", "the average is not finite with it")
    np.testing.assert_array_equal(merge.vector, vectors["own"])


def test_every_node_gets_the_same_bits_whoever_it_is():
    values = dict(zip("abcd", np.random.default_rng(0).normal(size=(4, SPEC.size)).astype(np.float32), strict=True))
    results = set()
    for me in values:
        world = World()
        for name, vector in values.items():
            if name != me:
                world.add(name, "finished").publish(vector, 7, 0.5, 0.0, True)
        own = (me, values[me], 7)
        inbox = Inbox(SPEC)
        merge = final_merge(world.requester, own, world.addresses(), SPEC, SETTINGS, inbox, world.clock, world.pause)
        results.add(merge.vector.tobytes())
    assert len(results) == 1


def test_the_final_merge_outwaits_leases_that_keep_the_final_version_away():
    world = World()
    peer = world.add("a", "finished", value=1.0, final=False, limits=ServingLimits(uploads=3))
    # Two pulls that were called off: each holds one of the two copies that the server keeps.
    for puller in ("p", "q"):
        request = Envelope(1, "lab", puller, SnapshotRequest(SPEC.digest))
        assert isinstance(peer.serving.on_request(request, world.clock.now())[0], SnapshotReply)
        peer.publish(np.full(SPEC.size, 5.0, np.float32), 1, 0.5, world.clock.now(), final=False)
    peer.publish(np.full(SPEC.size, 9.0, np.float32), 1, 0.5, world.clock.now(), final=True)
    merge = merged(world, own_value=5.0)
    assert merge.nodes == ["a", "own"]
    assert 0.9 * LEASE_SECONDS < world.clock.now() < 1.5 * LEASE_SECONDS
    np.testing.assert_allclose(merge.vector, 7.0)


def uploading(world: World, peer: Peer) -> None:
    """Let another node begin to pull from a peer; its link may be slow, so that it is waited for."""
    envelope = Envelope(1, "lab", "slow", SnapshotRequest(SPEC.digest))
    reply, _ = peer.serving.on_request(envelope, world.clock.now())
    assert isinstance(reply, SnapshotReply)


def test_the_final_merge_waits_for_its_turn_at_a_peer_that_serves_another_node_first(monkeypatch: pytest.MonkeyPatch):
    world = World()
    seconds = 2.5 * FINAL_PATIENCE_SECONDS
    monkeypatch.setattr(uploads, "PAUSE_BOUNDS", replace(uploads.PAUSE_BOUNDS, initial=seconds))
    uploading(world, world.add("a", "finished", value=1.0))
    world.add("b", "finished", value=6.0)
    merge = merged(world, own_value=5.0)
    assert merge.nodes == ["a", "b", "own"] and merge.missing == {}
    assert seconds <= world.clock.now() < seconds + 1.0
    np.testing.assert_allclose(merge.vector, 4.0)
    assert [outcome.error for outcome in merge.outcomes] == [None, None]


def test_the_final_merge_waits_no_longer_for_a_peer_that_falls_silent_after_it_was_busy():
    world = World()
    uploading(world, world.add("a", "finished", value=1.0))
    world.later(2.0, lambda: world.network.stop("a"))
    merge = merged(world, own_value=5.0)
    assert merge.nodes == ["own"] and "no answer" in merge.missing["a"]
    assert world.clock.now() < 2.0 + PULL_ATTEMPTS * (SETTINGS.request_timeout + RETRY_SECONDS) + 1.0


def test_a_node_that_is_to_stop_ends_the_pull_of_its_final_merge_and_names_who_is_left_out():
    world = World()
    world.add("a", "finished", value=3.0)
    world.add("b", "finished", value=9.0)
    # Cut off in the midst of everything: no answer comes, and none for a long time would be waited for.
    world.network.faults.cut.add(("own", "b"))
    merge = final_merge(
        world.requester,
        ("own", np.full(SPEC.size, 2.0, np.float32), 1),
        world.addresses(),
        SPEC,
        PullSettings(timeout=300.0, request_timeout=300.0),
        Inbox(SPEC),
        world.clock,
        lambda seconds: world.pause(seconds) or world.clock.now() > 5.0,
    )
    assert merge.nodes == ["a", "own"] and "called off" in merge.missing["b"]
    assert 5.0 < world.clock.now() < 7.0
    np.testing.assert_allclose(merge.vector, 2.5)


def test_nodes_that_all_merge_at_once_end_with_the_same_bits():
    spec = dense_spec(2 * SHARD_ELEMENTS + 48)
    vectors = {name: random_vector(spec.size, seed) for seed, name in enumerate("abcd")}
    world, merges, stop = ZmqWorld(), {}, threading.Event()
    try:
        addresses = {name: world.new_address() for name in vectors}
        for name, address in addresses.items():
            view = SimulatedView(spec)
            view.publish(vectors[name], 7, 0.5, 0.0, True)
            answerer = Answerer("lab", name, Serving("lab", view))
            world.serve(address, lambda frames, answerer=answerer: answerer(frames, time.monotonic()).frames)

        def merge(name: str) -> None:
            others = {other: address for other, address in addresses.items() if other != name}
            with requester_of(name) as requester:
                own = (name, vectors[name], 7)
                settings = PullSettings(timeout=60.0, request_timeout=20.0, window=2)
                arguments = (requester, own, others, spec, settings, Inbox(spec), MonotonicClock(), stop.wait)
                merges[name] = final_merge(*arguments)

        threads = [threading.Thread(target=merge, args=(name,)) for name in vectors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
    finally:
        stop.set()
        world.close()
    assert {name: (found.nodes, found.missing) for name, found in merges.items()} == dict.fromkeys(
        "abcd", (list("abcd"), {})
    )
    assert len({found.vector.tobytes() for found in merges.values()}) == 1
    expected = np.mean([vector.astype(np.float64) for vector in vectors.values()], axis=0)
    np.testing.assert_allclose(merges["a"].vector, expected, rtol=1e-5, atol=1e-6)


def test_a_node_that_falls_silent_before_the_final_merge_is_left_out_and_named():
    world = World()
    world.add("a", "finished", value=1.0)
    world.add("b", "finished", value=3.0)
    world.network.stop("a")
    merge = merged(world, own_value=2.0)
    assert merge.nodes == ["b", "own"] and "no answer" in merge.missing["a"]
    np.testing.assert_allclose(merge.vector, 2.5)
