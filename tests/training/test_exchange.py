"""The exchange against plain numpy: peers one after another and several at once, served by real processes."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

from p2pdl import merge, topology
from p2pdl.clock import MonotonicClock, VirtualClock
from p2pdl.errors import PeerTimeout
from p2pdl.protocol.link import LinkSettings
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.puller.directory import Directory
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome, Requester
from p2pdl.store.writer import StoreWriter
from p2pdl.training.downloads import Downloads
from p2pdl.training.exchange import Exchange
from p2pdl.training.exchange_settings import ExchangeSettings
from p2pdl.training.timeline import Timeline
from p2pdl.training.weights import ModelWeights, spec_of
from p2pdl.transport.zeromq import ZmqClient
from tests.processes import free_port, server
from tests.stores import new_store, publish, random_vector, writing
from tests.training.test_weights import small_model, vector_of

PEERS = ("alpha", "beta")
SNAPSHOT = SnapshotReply("life", 1, 5, 320, 0.5, False, 0, 0, 0.0)


class World:
    """One node with two peers, each with a store and a server process of its own."""

    def __init__(self, stack, folder, downloads, absent=()):
        model = small_model()
        spec = spec_of(model)
        clock = MonotonicClock()
        self.writers, addresses = {}, {}
        for peer in PEERS:
            if peer in absent:
                addresses[peer] = f"127.0.0.1:{free_port()}"
                continue
            store = stack.enter_context(new_store())
            self.writers[peer] = stack.enter_context(writing(store, spec))
            addresses[peer] = stack.enter_context(server(store, node=peer)).address
        self.downloads = Downloads(lambda: Requester(ZmqClient(), "lab", "own", clock), spec, downloads, clock)
        self.weights = ModelWeights(model, *(inbox.vector for inbox in self.downloads.inboxes))
        chosen = topology.create("random", ["own", *PEERS], peers=2)
        rng = np.random.default_rng(0)
        self.timeline = Timeline(folder / "timeline.json", "own", downloads)
        store = stack.enter_context(new_store())
        self.exchange = Exchange(
            self.weights,
            self.downloads,
            StoreWriter(store, spec, clock),
            Neighbours("own", PEERS, chosen, rng),
            Directory("own", addresses),
            merge.create("mean"),
            # These peers have nothing in common with the node, nor with one another.
            ExchangeSettings(overlap=False, link=LinkSettings(request_timeout=1.0), clip=None),
            clock,
            self.timeline,
        )
        stack.callback(self.timeline.close)
        stack.callback(self.exchange.close)
        self.trained = np.zeros(spec.size, bool)
        self.held = np.zeros(spec.size, bool)
        for place in spec.variables:
            self.held[place.span] = True
            self.trained[place.span] = place.trainable

    def serve(self, peer, seed):
        vector = random_vector(self.weights.spec.size, seed) * self.held
        vector[~self.trained] = np.abs(vector[~self.trained])
        publish(self.writers[peer], vector, step=5)
        return vector

    def weights_now(self):
        return vector_of(self.weights)


@pytest.fixture
def worlds(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **settings: World(stack, tmp_path, *arguments, **settings)


@pytest.mark.parametrize("downloads", [1, 2])
def test_two_peers_and_oneself_end_at_the_mean_of_three(worlds, downloads):
    world = worlds(downloads)
    for number in range(3):
        own = world.weights_now()
        peers = [world.serve(peer, 10 * number + place) for place, peer in enumerate(PEERS)]
        world.exchange.after_step(5 + number, 64, 0.5)
        merged = world.weights_now()
        mean = np.mean([own, *peers], axis=0)
        np.testing.assert_allclose(merged[world.trained], mean[world.trained], atol=1e-6)
        assert world.exchange.counters.merges == 2 * (number + 1)
        assert not world.downloads.is_busy
    assert world.exchange.counters.adoptions == 0
    assert world.exchange.counters.payload_bytes_received == 6 * world.weights.spec.nbytes


def test_pulls_at_once_lie_on_tracks_of_their_own(worlds, tmp_path):
    world = worlds(2)
    for number in range(2):
        for place, peer in enumerate(PEERS):
            world.serve(peer, 10 * number + place)
        world.exchange.after_step(5 + number, 64, 0.5)
    world.timeline.flush()
    events = json.loads((tmp_path / "timeline.json").read_text())
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert set(tracks.values()) == {"trainer", "puller 1", "puller 2"}
    spans = [(tracks[event["tid"]], event["name"]) for event in events if event["ph"] == "X"]
    # The first merge of a run may adopt a peer's weights whole: it comes alone.
    assert [name for track, name in spans if track == "puller 2"] in (["pull alpha"], ["pull beta"])
    assert len([name for track, name in spans if track == "puller 1"]) == 3
    assert {name for track, name in spans if track == "trainer"} >= {"publish", "merge", "wait"}


def test_peer_that_is_not_there_takes_nothing_from_the_other(worlds):
    world = worlds(2, absent=("beta",))
    for number in range(2):
        own, alpha = world.weights_now(), world.serve("alpha", number)
        world.exchange.neighbours.records["beta"].pause_until = 0.0
        world.exchange.after_step(5 + number, 64, 0.5)
        merged = world.weights_now()
        np.testing.assert_allclose(merged[world.trained], ((own + alpha) / 2)[world.trained], atol=1e-6)
    counters = world.exchange.counters
    assert (counters.merges, counters.merges_skipped, counters.failures) == (2, 2, {"timeout": 2})


class ScriptedDownloads:
    """Pulls from one peer that end as the test says."""

    def __init__(self, spec):
        self.inboxes = [Inbox(spec)]
        self.orders = []
        self.outcome = None
        self.is_busy = False

    def start(self, order):
        self.orders.append(order)
        self.is_busy = True

    def end(self, accepted=0, error=None):
        self.outcome = Outcome("alpha", SNAPSHOT, False, error, 1.0, 100, 50, accepted=accepted)

    def take(self, timeout=0.0):
        outcome, self.outcome = self.outcome, None
        self.is_busy = self.is_busy and outcome is None
        return None if outcome is None else [outcome]

    def close(self):
        pass


@pytest.mark.parametrize("codec", ["float32", "top-k:0.5"])
def test_what_a_failed_pull_of_differences_has_brought_is_merged(codec):
    model = small_model()
    spec = spec_of(model)
    clock = VirtualClock(10.0)
    downloads = ScriptedDownloads(spec)
    weights = ModelWeights(model, downloads.inboxes[0].vector)
    with new_store() as store, writing(store, spec) as writer:
        exchange = Exchange(
            weights,
            downloads,
            writer,
            Neighbours("own", ["alpha"], topology.create("ring", ["own", "alpha"]), np.random.default_rng(0)),
            Directory("own", {"alpha": "127.0.0.1:1"}),
            merge.create("mean"),
            ExchangeSettings(link=LinkSettings(codec), clip=None),
            clock,
        )
        exchange.after_step(5, 320, 0.5)
        downloads.orders[0].sink(0, vector_of(weights), None)
        downloads.end(accepted=1)
        exchange.after_step(6, 384, 0.5)
        assert exchange.counters.merges == 1 and len(downloads.orders) == 2
        own = vector_of(weights)
        places = np.array([1, 5, 30])
        # Statistics always come whole.
        changed, indices = own.copy(), np.concatenate([places, *(np.arange(s.start, s.stop) for s in spec.state_spans)])
        changed[places] += 2
        downloads.orders[1].sink(0, changed[indices], indices)
        downloads.end(accepted=1, error=PeerTimeout("alpha: cut off"))
        exchange.after_step(7, 448, 0.5)
        assert (exchange.counters.merges, exchange.counters.merges_skipped) == (1, 1)
        assert exchange.neighbours.records["alpha"].failures == 1
        expected = own.copy()
        if codec != "float32":
            expected[places] += 1
        np.testing.assert_allclose(vector_of(weights), expected, atol=1e-6)
        exchange.close()


def test_trainer_that_is_to_stop_waits_for_no_pull():
    model = small_model()
    downloads = ScriptedDownloads(spec_of(model))
    asked = []

    def stopping():
        asked.append(True)
        return len(asked) > 5

    with new_store() as store, writing(store, spec_of(model)) as writer:
        exchange = Exchange(
            ModelWeights(model, downloads.inboxes[0].vector),
            downloads,
            writer,
            Neighbours("own", ["alpha"], topology.create("ring", ["own", "alpha"]), np.random.default_rng(0)),
            Directory("own", {"alpha": "127.0.0.1:1"}),
            merge.create("mean"),
            ExchangeSettings(overlap=False),
            VirtualClock(10.0),
            stopping=stopping,
        )
        # The pull never ends, and the time of the clock stands still.
        exchange.after_step(5, 320, 0.5)
        assert len(asked) > 5 and downloads.is_busy
        assert exchange.counters.merges == 0
        exchange.close()


def test_evaluation_between_two_steps_is_no_part_of_their_length():
    model = small_model()
    spec = spec_of(model)
    clock = VirtualClock(10.0)
    downloads = ScriptedDownloads(spec)
    with new_store() as store, writing(store, spec) as writer:
        exchange = Exchange(
            ModelWeights(model, downloads.inboxes[0].vector),
            downloads,
            writer,
            Neighbours("own", ["alpha"], topology.create("ring", ["own", "alpha"]), np.random.default_rng(0)),
            Directory("own", {"alpha": "127.0.0.1:1"}),
            merge.create("mean"),
            ExchangeSettings(clip=None),
            clock,
        )
        exchange.after_evaluation(3.0)
        for step in range(1, 6):
            clock.advance_to(clock.now() + 0.25)
            exchange.after_step(step, 64 * step, 0.5)
            clock.advance_to(clock.now() + 60.0)
            exchange.while_evaluating()
            exchange.after_evaluation(60.0)
        assert exchange.step_seconds == pytest.approx(0.25)
        exchange.close()
