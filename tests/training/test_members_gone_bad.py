"""What a node's weights become when peers send what they should not, and when its own training has diverged."""

from __future__ import annotations

import contextlib
import logging

import numpy as np
import pytest

from p2pdl import merge, topology
from p2pdl.clock import VirtualClock
from p2pdl.errors import DivergedError, PeerError
from p2pdl.merge.clipping import FIRST_SHARE
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.protocol.quarantine import FIRST_TERM
from p2pdl.puller.directory import Directory
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome
from p2pdl.store.reader import StoreReader
from p2pdl.training.exchange import Exchange
from p2pdl.training.exchange_settings import ExchangeSettings
from p2pdl.training.weights import ModelWeights, spec_of
from tests.stores import new_store, writing
from tests.training.test_weights import small_model, vector_of

PEERS = ("alpha", "beta", "gamma")


class PlannedDownloads:
    """One pull at a time, which brings what the test says."""

    def __init__(self, spec):
        self.inboxes = [Inbox(spec)]
        self.order = None
        self._outcome = None

    @property
    def is_busy(self):
        return self.order is not None

    def start(self, order):
        self.order = order

    def bring(self, vector, loss=0.5, step=5, version=1):
        error = None
        try:
            self.order.sink(0, vector, None)
        except PeerError as refusal:
            error = refusal
        snapshot = SnapshotReply("life", version, step, 64 * step, loss, False, 0, vector.size, 0.0)
        self._outcome = Outcome(self.order.peer, snapshot, False, error, 1.0, 100, 50, accepted=error is None)

    def take(self, timeout=0.0):
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return None
        self.order = None
        return [outcome]

    def call_off(self):
        self.order = self._outcome = None

    def close(self):
        pass


class World:
    """One node and three peers that say what the test wants."""

    def __init__(self, stack, judge=None, rule="mean"):
        model = small_model()
        self.spec = spec_of(model)
        self.clock = VirtualClock(10.0)
        self.downloads = PlannedDownloads(self.spec)
        self.weights = ModelWeights(model, self.downloads.inboxes[0].vector)
        store = stack.enter_context(new_store())
        self.reader = StoreReader(store)
        stack.callback(self.reader.close)
        chosen = topology.create("random", ["own", *PEERS], peers=1)
        self.exchange = Exchange(
            self.weights,
            self.downloads,
            stack.enter_context(writing(store, self.spec)),
            Neighbours("own", PEERS, chosen, np.random.default_rng(0)),
            Directory("own", {peer: f"127.0.0.1:{number}" for number, peer in enumerate(PEERS, start=1)}),
            merge.create(rule),
            ExchangeSettings(),
            self.clock,
            judge=judge,
        )
        stack.callback(self.exchange.close)
        self.step = 4
        self.trained = np.zeros(self.spec.size, bool)
        for place in self.spec.variables:
            self.trained[place.span] = place.trainable

    def go_on(self, loss=0.5):
        """One step, and what a node does after it."""
        self.step += 1
        self.exchange.after_step(self.step, 64 * self.step, loss)

    def vector(self):
        return vector_of(self.weights)

    def near(self, distance):
        """Weights of which each entry is so far from the node's own, and each statistic half as much again as its."""
        vector = self.vector()
        vector[self.trained] += np.float32(distance)
        for span in self.spec.state_spans:
            vector[span] *= np.float32(1.5)
        return vector

    def merge_from(self, vector, **said):
        """Let the pull under way bring a vector, and merge it."""
        self.downloads.bring(vector, **{"step": self.step, **said})
        self.go_on()

    def warm_up(self, distance, times=6):
        """Merges that say how far honest peers are."""
        self.go_on()
        for _ in range(times):
            self.merge_from(self.near(distance))


@pytest.fixture
def worlds():
    with contextlib.ExitStack() as stack:
        yield lambda **settings: World(stack, **settings)


def test_far_weights_are_drawn_near_and_their_statistics_with_them(worlds):
    world = worlds()
    world.warm_up(1e-3)
    assert world.exchange.counters.clipped == 0
    own, far = world.vector(), world.near(0.02)
    world.merge_from(far)
    merged = world.vector()
    share = 0.5 * 3e-3 / 0.02
    np.testing.assert_allclose((merged - own)[world.trained], share * (far - own)[world.trained], rtol=1e-3, atol=1e-7)
    for span in world.spec.state_spans:
        np.testing.assert_allclose(merged[span], own[span] + share * (far - own)[span], rtol=1e-3)
    length = np.linalg.norm((merged - own)[world.trained])
    assert length == pytest.approx(0.5 * 3e-3 * np.sqrt(world.trained.sum()), rel=1e-3)
    assert world.exchange.counters.clipped == 1 and world.exchange.counters.merges == 7


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("scale", [1000.0, -1.0, 1e37])
def test_scaled_or_mirrored_weights_leave_the_own_ones_bit_for_bit(worlds, scale, first):
    world = worlds()
    world.warm_up(1e-4, times=0 if first else 6)
    own, merges = world.vector(), world.exchange.counters.merges
    far = world.vector()
    far[world.trained] *= np.float32(scale)
    if first and scale == -1.0:
        # Weights and their mirror image are 2 own lengths apart, which is 200 times what is usual at first.
        assert 2.0 / (3.0 * FIRST_SHARE) > 20.0
    world.merge_from(far)
    assert world.vector().tobytes() == own.tobytes()
    counters = world.exchange.counters
    assert (counters.merges, counters.merges_skipped, counters.failures) == (merges, 1, {"distance": 1})


def test_three_refusals_lead_into_quarantine_with_one_line_in_the_log(worlds, caplog):
    world = worlds()
    world.warm_up(1e-4)
    caplog.clear()
    records = world.exchange.neighbours.records
    refused = 0
    with caplog.at_level(logging.INFO):
        for _ in range(60):
            bad = world.downloads.order.peer == "beta"
            refused += bad
            world.merge_from(world.vector() + 1e3 if bad else world.near(1e-4))
            world.clock.advance_to(world.clock.now() + 0.9)
    assert refused == 3
    assert (records["beta"].state, records["beta"].pause_until > world.clock.now()) == ("quarantined", True)
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("skipped beta: its weights are ") and "training goes on" in first
    assert second.startswith("quarantined beta: its weights are ") and second.endswith("asked again in 60 s")
    world.clock.advance_to(world.clock.now() + FIRST_TERM)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        while records["beta"].state == "quarantined":
            world.merge_from(world.near(1e-4))
    assert [record.getMessage() for record in caplog.records] == ["beta answers; merging with it"]


def test_negative_variance_is_refused_and_named(worlds, caplog):
    world = worlds()
    world.go_on()
    own, damaged = world.vector(), world.near(1e-3)
    variance = next(place for place in world.spec.variables if place.name.endswith("moving_variance"))
    damaged[variance.span.start] = -1e-3
    peer = world.downloads.order.peer
    with caplog.at_level(logging.WARNING):
        world.merge_from(damaged)
    assert world.vector().tobytes() == own.tobytes()
    assert world.exchange.counters.failures == {"negative-variance": 1}
    assert caplog.records[-1].getMessage().startswith(f"skipped {peer}: a moving variance is -0.001")


class FixedJudge:
    """Gives the losses that the test says."""

    def __init__(self, own, theirs):
        self.own, self.theirs = own, theirs

    def own_loss(self, step):
        return self.own

    def loss_of(self, write, step):
        return self.theirs


@pytest.mark.parametrize("theirs, adopts", [(2.0, True), (2.3, True), (2.4, False), (float("nan"), False)])
def test_newcomer_takes_only_weights_that_are_no_worse_on_its_own_data(worlds, theirs, adopts):
    world = worlds(judge=FixedJudge(2.3, theirs))
    world.go_on()
    own, other = world.vector(), vector_of(ModelWeights(small_model(9), np.zeros(world.spec.size, np.float32)))
    world.merge_from(other, loss=0.01, step=500)
    counters = world.exchange.counters
    if adopts:
        assert world.vector().tobytes() == other.tobytes()
        assert (counters.adoptions, counters.failures) == (1, {})
        # What the peer claims is not what this node says of itself from now on.
        assert world.exchange.smoothed_loss > 0.95 * theirs
    else:
        assert world.vector().tobytes() == own.tobytes()
        assert (counters.adoptions, counters.merges, counters.failures) == (0, 0, {"worse": 1})


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_own_loss_that_is_not_finite_is_neither_published_nor_remembered(worlds, loss):
    world = worlds()
    world.warm_up(1e-4)
    published, smoothed = world.reader.newest_version(), world.exchange.smoothed_loss
    with pytest.raises(DivergedError, match="step 12 is (nan|inf)"):
        world.go_on(loss)
    assert (world.reader.newest_version(), world.exchange.smoothed_loss) == (published, smoothed)


def test_own_weights_that_are_not_finite_are_not_published(worlds):
    world = worlds()
    world.warm_up(1e-4)
    good = world.reader.load()
    good_vector = good.vector.copy()
    world.weights.assign(np.full(world.spec.size, np.nan, np.float32))
    world.downloads.bring(good_vector)
    with pytest.raises(DivergedError, match="the weights of step 12 are not finite"):
        world.go_on()
    newest = world.reader.load()
    assert newest.info.version == good.info.version and np.isfinite(newest.vector).all()
    with pytest.raises(DivergedError):
        world.exchange.finish()


def test_pull_that_began_before_the_weights_were_put_back_is_never_merged(worlds):
    world = worlds()
    world.warm_up(1e-4)
    assert world.downloads.is_busy
    restored = world.vector() * np.float32(0.5)
    world.exchange.call_off()
    world.weights.assign(restored)
    assert not world.downloads.is_busy
    merges = world.exchange.counters.merges
    world.go_on()
    assert world.vector().tobytes() == restored.tobytes()
    assert world.exchange.counters.merges == merges
    # The next pull begins from the restored weights.
    near = world.near(1e-4)
    world.merge_from(near)
    np.testing.assert_allclose(world.vector(), restored + (near - restored) / 2, rtol=1e-5, atol=1e-8)


def test_refusal_is_a_strike_against_the_peer_that_was_pulled(worlds):
    world = worlds()
    world.warm_up(1e-4)
    peer = world.downloads.order.peer
    world.merge_from(world.vector() * np.float32(1e4))
    strikes = {name: record.conduct.strikes for name, record in world.exchange.neighbours.records.items()}
    assert strikes == {name: int(name == peer) for name in PEERS}
