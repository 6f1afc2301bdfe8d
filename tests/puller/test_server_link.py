"""Workers and parameter servers over the in-memory network: several servers as one; networks that lose and repeat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.aggregation import UPDATE_RULES
from p2pdl.clock import VirtualClock
from p2pdl.errors import PeerError, PeerRefused, PeerTimeout
from p2pdl.protocol.parameter_server import ParameterServer
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.server_state import ParameterServerSettings
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.puller.requests import Requester
from p2pdl.puller.server_link import LinkSettings, ServerLink, part_of, spans
from p2pdl.server.answer import Answerer
from p2pdl.server.parameter_view import ParameterView
from p2pdl.sparsifier import Selection, make_sparsifier
from p2pdl.spec import ALIGNMENT, WeightSpec
from p2pdl.synchronisation import POLICIES, PolicySettings
from p2pdl.transport.contract import Frames
from p2pdl.transport.memory import Handler, MemoryNetwork
from p2pdl.types import Float32Vector
from tests.protocol.nodes import CLUSTER, MODEL
from tests.protocol.workplace import NAMES, SMALL, batch_of, gradient, initial, settings_of

SETTINGS = LinkSettings(PullSettings(timeout=20, request_timeout=1), "float32", "float32", 1.0)
REJOIN = {"not-joined", "other-iteration", "outside-window", "not-pulled", "too-stale"}
STEPS = 6


class Servers:
    """Parameter servers in a network, each with a range of the model.

    Args:
        settings: Of each.
        spec: The model.
        count: How many there are.
        seed: Of the network.

    Attributes:
        cores: What they are made of.
        checks: How many requests were answered, after each of which the invariants held.
    """

    def __init__(
        self, settings: ParameterServerSettings, spec: WeightSpec = SMALL, count: int = 1, seed: int = 0
    ) -> None:
        self.spec = spec
        self.network = MemoryNetwork(VirtualClock(), seed)
        self.cores = [ParameterServer(settings, f"life {number}") for number in range(count)]
        self.checks = 0
        for number, core in enumerate(self.cores):
            self.network.serve(f"server:{number}", self._handler(core))

    def links(self, worker: str, settings: LinkSettings = SETTINGS) -> list[ServerLink]:
        """A worker's ways to all of them."""
        requester = Requester(self.network.client(f"{worker}:1"), CLUSTER, worker, self.network.clock)
        return [
            ServerLink(f"server{number}", f"server:{number}", requester, self.spec, span, settings)
            for number, span in enumerate(spans(self.spec.size, len(self.cores)))
        ]

    def _handler(self, core: ParameterServer) -> Handler:
        view = ParameterView(core, STEPS)
        serving = Serving(CLUSTER, view, ServingLimits(uploads=8), employer=core)
        answerer = Answerer(CLUSTER, "server", serving)
        state = {"low": 0, "version": 0}

        def answer(frames: list[memoryview], now: float) -> Frames:
            reply = answerer(frames, now)
            view.count(reply)
            assert reply.refused != "internal"
            self.checks += 1
            assert core.policy.low >= state["low"] and core.version >= state["version"]
            state["low"], state["version"] = core.policy.low, core.version
            clocks = [worker.clock for worker in core.workers.values()]
            assert all(clock >= core.policy.low for clock in clocks)
            bound = core.policy.staleness_bound
            if bound is not None and clocks:
                # One more than admitted: whoever waits at the end of the window has pushed its last iteration.
                assert max(clocks) - min(clocks) <= bound + 1 and core.policy.low == min(clocks)
            return reply.frames

        return answer


@given(lines=st.integers(1, 400), extra=st.integers(0, ALIGNMENT - 1), servers=st.integers(1, 9))
def test_ranges_cover_the_vector_once_in_whole_lines(lines: int, extra: int, servers: int) -> None:
    size = lines * ALIGNMENT + extra
    if servers > lines:
        with pytest.raises(ValueError, match="cannot be divided"):
            spans(size, servers)
        return
    ranges = spans(size, servers)
    assert len(ranges) == servers
    assert [0, *(span.stop for span in ranges)] == [*(span.start for span in ranges), size]
    assert all(span.start % ALIGNMENT == 0 for span in ranges)
    lengths = [span.stop - span.start for span in ranges]
    assert min(lengths) >= ALIGNMENT and max(lengths) - min(lengths) < 2 * ALIGNMENT


SHAPES = st.lists(
    st.tuples(
        st.sampled_from([(), (1,), (3, 5), (16,), (7, 9), (130,), (0,)]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(shapes=SHAPES, servers=st.integers(1, 4))
def test_parts_lay_their_ranges_out_as_the_whole_does(shapes: list[tuple[tuple[int, ...], bool]], servers: int) -> None:
    spec = WeightSpec.layout([(f"v{number}", shape, "float32", kind) for number, (shape, kind) in enumerate(shapes)])
    if spec.size < servers * ALIGNMENT:
        return
    kinds = np.zeros(spec.size, np.int8)
    for variable in spec.variables:
        kinds[variable.span] = 1 if variable.trainable else 2
    for span in spans(spec.size, servers):
        part = part_of(spec, span)
        assert part.size == span.stop - span.start
        own = np.zeros(part.size, np.int8)
        for variable in part.variables:
            own[variable.span] = 1 if variable.trainable else 2
        np.testing.assert_array_equal(own, kinds[span])
        assert WeightSpec.parse("\n".join(part.rows())) == part
    assert part_of(spec, slice(0, spec.size)) is spec


def trained_by(count: int, settings: ParameterServerSettings, sparsifier: str) -> Float32Vector:
    """The weights that three workers make with so many servers, all doing what they do in the same order."""
    servers = Servers(settings, MODEL, count)
    workers = {name: servers.links(name) for name in NAMES}
    sparsifiers = {name: make_sparsifier(sparsifier, MODEL, 1) for name in NAMES}
    begun_with = initial(MODEL)
    for links in workers.values():
        for link in links:
            if link.join().sends_initial:
                link.send_initial(begun_with)
    vectors = {}
    for step in range(4):
        for name, links in workers.items():
            for link in links:
                assert link.begin().admitted and link.pull().error is None
            vectors[name] = np.concatenate([link.vector for link in links])
        for name, links in workers.items():
            selection = sparsifiers[name].select(gradient(MODEL, vectors[name], batch_of(name, step)), 0.5)
            replies = [link.push(selection, 0.5, 32, step) for link in links]
            assert {reply.clock for reply in replies} == {step + 1}
    for links in workers.values():
        for link in links:
            link.leave(finished=True)
    links = workers[NAMES[0]]
    assert all(link.is_done() for link in links)
    assert all(link.pull().error is None for link in links)
    return np.concatenate([link.vector for link in links])


@pytest.mark.parametrize("sparsifier", ["none", "mean-threshold"])
def test_three_servers_make_the_same_weights_as_one(sparsifier: str) -> None:
    settings = settings_of("bsp", optimizer="momentum", expected=3)
    one = trained_by(1, settings, sparsifier)
    np.testing.assert_array_equal(trained_by(3, settings, sparsifier), one)
    assert np.isfinite(one).all() and (one != initial(MODEL)).any()


def test_link_joins_gives_weights_pushes_pulls_and_leaves() -> None:
    servers = Servers(settings_of("asp"), MODEL)
    [link] = servers.links("ada")
    assert link.join().sends_initial and (link.base, link.pushed_bytes) == (0, 0)
    weights = initial(MODEL)
    reply = link.send_initial(weights)
    assert reply.version == 1 and reply.admitted and reply == link.reply
    assert link.pull().error is None and link.base == 1
    np.testing.assert_array_equal(link.vector, weights)
    update = gradient(MODEL, weights, 1)
    assert link.push(Selection(None, update), 0.5, 32, 0).clock == 1
    assert MODEL.nbytes < link.pushed_bytes < MODEL.nbytes + 100
    assert link.pull().error is None and link.base == 2
    np.testing.assert_array_equal(link.vector, weights - np.float32(0.1) * update)
    assert not link.is_done()
    link.leave(finished=True)
    assert link.is_done()


def test_link_tells_silence_and_refusals() -> None:
    servers = Servers(settings_of("asp"))
    [link] = servers.links("ada")
    with pytest.raises(PeerRefused) as refused:
        link.begin()
    assert refused.value.code == "not-joined"
    link.join()
    link.send_initial(initial(SMALL))
    servers.network.stop("server:0")
    before = servers.network.clock.now()
    with pytest.raises(PeerTimeout):
        link.push(Selection(None, np.zeros(SMALL.size, np.float32)), None, 1, 0)
    assert servers.network.clock.now() == pytest.approx(before + 1.0)


class Hand:
    """A worker that does one thing at a time, as a trainer does, and may be stopped in between.

    Args:
        name: Its name.
        servers: Whom it works for.
        steps: Iterations that it does.
    """

    def __init__(self, name: str, servers: Servers, steps: int) -> None:
        [self.link] = servers.links(name)
        self.name = name
        self.steps = steps
        self.done = 0
        self.has_left = False
        self._spec = servers.spec
        self._joins = True
        self._update: Selection | None = None

    def turn(self) -> None:
        """Do the next thing; what fails is tried again at the next turn."""
        try:
            self._do()
        except PeerError as error:
            if isinstance(error, PeerRefused) and error.code in REJOIN:
                # What was made from weights that it has pulled long ago is of no use to a rule that wants a pull.
                self._joins, self._update = True, None

    def _do(self) -> None:
        link, reply = self.link, self.link.reply
        if self._joins or reply is None:
            link.join()
            self._joins = False
        elif self.done == self.steps:
            link.leave(finished=True)
            self.has_left = True
        elif not reply.version and reply.sends_initial:
            link.send_initial(initial(self._spec))
        elif self._update is not None:
            link.push(self._update, 0.5, 32, self.done)
            self._update = None
            self.done += 1
        elif not reply.admitted:
            link.begin()
        else:
            outcome = link.pull()
            if outcome.error is not None:
                raise outcome.error
            self._update = Selection(None, gradient(self._spec, link.vector, batch_of(self.name, self.done)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_any_schedule_over_a_bad_network_comes_to_its_end(policy: str, rule: str, seed: int) -> None:
    print(f"policy {policy}, rule {rule}, seed {seed}")
    settings = settings_of(
        policy, rule=rule, policy_settings=PolicySettings(staleness=1), expected=3, lease=8.0, start_wait=15.0
    )
    servers = Servers(settings, seed=seed)
    [core], network = servers.cores, servers.network
    faults, random = network.faults, np.random.default_rng(seed)
    faults.loss, faults.duplication, faults.reordering, faults.delay = 0.08, 0.1, 0.2, (0.001, 0.4)
    hands = [Hand(name, servers, STEPS) for name in NAMES]
    dies = hands[int(random.integers(3))] if seed % 2 else None
    turns = 0
    while not all(hand.has_left for hand in hands):
        turns += 1
        assert turns < 5000, [(hand.name, hand.done, hand.link.reply) for hand in hands]
        hand = hands[int(random.integers(len(hands)))]
        if hand is dies and hand.done == STEPS // 2:
            hands.remove(hand)
        elif not hand.has_left:
            hand.turn()
    network.run_until(network.clock.now() + 5.0)
    assert {hand.name for hand in hands} <= core.finished | core.workers.keys()
    network.run_until(network.clock.now() + settings.lease + 0.1)
    core.expire(network.clock.now())
    assert core.is_done and not core.workers
    assert servers.checks > 3 * STEPS
    assert np.isfinite(core.load().vector).all()  # type: ignore[union-attr]
    assert core.counters["pushes"] >= STEPS * len(hands)
