"""The life of a parameter server: how it starts, goes on after a restart, is done; and what it takes from strangers."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.aggregation import UPDATE_RULES
from p2pdl.errors import CheckpointMismatch
from p2pdl.protocol.messages import InitialRequest, JoinRequest, Refusal, WorkerReply
from p2pdl.protocol.parameter_server import MOST_SAMPLES, ParameterServer
from p2pdl.spec import WeightSpec
from p2pdl.synchronisation import POLICIES
from tests.protocol.nodes import MODEL
from tests.protocol.workplace import NAMES, RATE, SMALL, SPECS, Workplace, gradient, initial, settings_of

EVERY_POLICY = pytest.mark.parametrize("policy", POLICIES)
EVERY_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


@EVERY_SPEC
@EVERY_POLICY
@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_restarted_server_goes_on_to_the_same_bits(policy: str, rule: str, spec: WeightSpec) -> None:
    settings = settings_of(policy, rule=rule, optimizer="momentum", rate=0.5, expected=3)
    first = Workplace(spec, settings)
    first.start(*NAMES)
    for step in range(3):
        first.iterate(NAMES, step)
    header, arrays = first.core.state()
    kept = {name: array.copy() for name, array in arrays.items()}
    second = Workplace(spec, settings, "next life")
    second.core.restore(header, kept)
    second.now = first.now
    np.testing.assert_array_equal(second.weights, first.weights)
    for name in NAMES:
        reply = second.join(name)
        assert (reply.incarnation, reply.clock, reply.version) == ("next life", 3, first.core.version)
        assert not reply.sends_initial
    for place in (first, second):
        for step in range(3, 6):
            place.iterate(NAMES, step)
    np.testing.assert_array_equal(second.weights, first.weights)
    assert second.core.state()[0] == first.core.state()[0]


def test_checkpoint_of_another_optimizer_is_refused() -> None:
    place = Workplace(SMALL, settings_of("bsp", optimizer="momentum"))
    place.start("ada")
    with pytest.raises(CheckpointMismatch):
        ParameterServer(settings_of("bsp", optimizer="sgd"), "next").restore(*place.core.state())


def test_restarted_server_is_not_done_before_those_it_misses_could_come_back() -> None:
    place = Workplace(SMALL, settings_of("asp", rule="direction-distance", expected=2, lease=10.0))
    place.start("ada", "bob")
    for name in ("ada", "bob"):
        place.push(name, gradient(SMALL, place.weights, 3))
    place.leave("ada")
    for comes_back in (True, False):
        second = Workplace(SMALL, place.settings, "next life")
        second.core.restore(*place.core.state())
        second.now = 500.0
        second.core.expire(second.now)
        assert not second.core.is_done
        if comes_back:
            second.join("bob")
            second.now += 5.0
            second.push("bob", gradient(SMALL, second.weights, 4))
            second.leave("bob")
        else:
            second.now += 10.1
            second.core.expire(second.now)
            assert "rule/0/values/bob" not in second.core.state()[1]
        assert second.core.is_done and second.core.finished == ({"ada", "bob"} if comes_back else {"ada"})


@EVERY_POLICY
def test_after_a_restart_who_may_not_run_ahead_waits_for_those_who_were_there(policy: str) -> None:
    place = Workplace(SMALL, settings_of(policy, expected=3, lease=10.0))
    place.start(*NAMES)
    place.iterate(NAMES, 0)
    second = Workplace(SMALL, place.settings, "next life")
    second.core.restore(*place.core.state())
    second.now = 500.0
    is_bounded = second.core.policy.staleness_bound is not None
    assert second.join(NAMES[0]).admitted != is_bounded
    second.now += 4.0
    assert second.join(NAMES[1]).admitted != is_bounded
    second.now += 5.0
    assert second.begin(NAMES[0]).admitted != is_bounded, "the lease of the third is not over"
    second.begin(NAMES[1])
    second.now += 1.1
    assert second.begin(NAMES[0]).admitted, "nobody is waited for longer than a lease"


@pytest.mark.parametrize("others", ["finished", "missed", "lapsed"])
def test_an_update_weighs_the_same_when_others_have_finished_or_are_not_back_yet(others: str) -> None:
    settings = settings_of("asp", optimizer="sgd", rate=None, expected=3, lease=10.0)
    place = Workplace(SMALL, settings)
    place.start(*NAMES)
    for name in NAMES:
        place.push(name, gradient(SMALL, place.weights, 0))
    if others == "finished":
        for name in NAMES[1:]:
            place.leave(name)
    elif others == "missed":
        before, place = place, Workplace(SMALL, settings, "next life")
        place.core.restore(*before.core.state())
        place.join(NAMES[0])
    else:
        place.now += 6.0
        place.begin(NAMES[0])
        place.now += 6.0
        place.begin(NAMES[0])
        assert place.core.workers.keys() == {NAMES[0]}
    was = place.weights.copy()
    made = gradient(SMALL, was, 1)
    place.push(NAMES[0], made)
    share = 1.0 if others == "lapsed" else 1 / len(NAMES)
    np.testing.assert_allclose(was - place.weights, RATE * share * made, rtol=1e-4, atol=1e-7)


def test_weights_to_begin_with_come_from_one_worker_and_from_another_if_it_dies() -> None:
    place = Workplace(MODEL, settings_of("bsp", expected=2, lease=10.0))
    assert place.join("ada").sends_initial
    assert not place.join("bob").sends_initial
    other = initial(MODEL, 1)
    place.give("bob", other)
    assert place.core.version == 0 and place.core.load() is None, "bob was not asked"
    place.give("ada", initial(MODEL), range(0, 1))
    place.now += 6.0
    assert not place.begin("bob").sends_initial
    place.now += 6.0
    assert place.begin("bob").sends_initial, "ada has not been heard of for 12 s"
    place.give("bob", other, range(1, 2))
    assert place.core.version == 0, "the shard that ada had sent is hers"
    assert place.give("bob", other).version == 1
    np.testing.assert_array_equal(place.weights, other)
    place.join("ada")
    place.give("ada", initial(MODEL))
    np.testing.assert_array_equal(place.weights, other)


@given(st.lists(st.tuples(st.sampled_from(["join", "say", "look"]), st.integers(0, 3), st.integers(0, 7)), max_size=60))
def test_a_worker_goes_with_the_first_look_after_its_lease_whatever_the_others_do(
    events: list[tuple[str, int, int]],
) -> None:
    lease = 10.0
    place = Workplace(SMALL, settings_of("asp", lease=lease))
    heard: dict[str, float] = {}
    for what, number, seconds in events:
        place.now += seconds
        name = f"worker{number}"
        heard = {worker: moment for worker, moment in heard.items() if place.now - moment <= lease}
        if what == "join":
            place.join(name)
            heard[name] = place.now
        elif what == "say" and name in heard:
            place.begin(name)
            heard[name] = place.now
        else:
            place.core.expire(place.now)
        assert {worker: it.heard for worker, it in place.core.workers.items()} == heard


@EVERY_POLICY
def test_start_waits_for_as_many_workers_as_are_expected_but_not_for_ever(policy: str) -> None:
    for all_come in (True, False):
        place = Workplace(SMALL, settings_of(policy, expected=3, start_wait=30.0, lease=100.0))
        place.join("ada")
        place.give("ada", initial(SMALL))
        place.now += 20.0
        place.join("bob")
        assert not place.begin("ada").admitted and not place.begin("bob").admitted
        if all_come:
            assert place.join("cyd").admitted
        else:
            place.now += 9.9
            assert not place.begin("ada").admitted
            place.now += 0.2
        assert place.begin("ada").admitted
        place.leave("bob", finished=False)
        assert place.begin("ada").admitted, "what has begun goes on with fewer"


def test_run_is_done_when_nobody_works_any_more_and_ends_when_all_have_the_last_weights() -> None:
    place = Workplace(MODEL, settings_of("bsp", expected=2))
    place.start("ada", "bob")
    place.iterate(("ada", "bob"), 0)
    place.leave("ada")
    assert not place.core.is_done
    place.core.on_pulled("ada", range(2), place.now)
    place.push("bob", gradient(MODEL, place.weights, 9))
    place.leave("bob")
    assert place.core.is_done and not place.core.has_served_everybody
    assert (snapshot := place.core.load()) is not None and snapshot.info.final
    for name in ("ada", "bob"):
        place.core.on_pulled(name, range(0, 1), place.now)
        assert not place.core.has_served_everybody
        place.core.on_pulled(name, range(1, 2), place.now)
    assert place.core.has_served_everybody
    place.join("ada")
    assert not place.core.is_done and place.core.finished == {"bob"}
    place.leave("ada", finished=False)
    assert place.core.is_done


def test_last_update_is_not_lost_with_the_worker_that_was_waited_for() -> None:
    place = Workplace(SMALL, settings_of("bsp", expected=2, lease=10.0))
    weights = place.start("ada", "bob")
    update = gradient(SMALL, weights, 1)
    place.push("ada", update)
    place.leave("ada")
    place.now += 11.0
    place.core.expire(place.now)
    assert place.core.is_done
    np.testing.assert_array_equal(place.weights, weights - np.float32(RATE) * update)


def test_layout_that_claims_a_trillion_elements_allocates_nothing() -> None:
    place = Workplace(SMALL, settings_of("bsp"))
    for shape in ((10**12,), (10**6, 10**6), (-(10**6), -(10**6)), (2**34 + 1,), (10**400,), (-4, -4)):
        claimed = WeightSpec.layout([("w", shape, "float32", True)])
        tracemalloc.start()
        reply = place.ask("ada", JoinRequest(claimed.digest), "\n".join(claimed.rows()).encode())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert isinstance(reply, Refusal) and reply.code == "payload"
        assert peak < 1 << 20
    assert place.core.layout() is None and not place.core.workers
    assert isinstance(place.join("ada"), WorkerReply)


def test_layout_for_which_memory_is_too_short_leaves_the_server_free(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workplace(SMALL, settings_of("bsp"))

    def no_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("p2pdl.protocol.parameter_server.shards_of", no_memory)
        with pytest.raises(MemoryError):
            place.join("ada")
    assert place.core.layout() is None
    place.start("bob")


def test_samples_that_a_worker_claims_never_become_more_than_a_message_can_say() -> None:
    place = Workplace(SMALL, settings_of("asp"))
    place.start("ada")
    for _ in range(2):
        [(request, frame)] = place.frames("ada", np.zeros(SMALL.size, np.float32))
        place.told("ada", replace(request, samples=MOST_SAMPLES), frame)
    assert place.core.samples == MOST_SAMPLES


def test_loss_is_smoothed_over_the_workers_and_may_be_missing() -> None:
    place = Workplace(SMALL, settings_of("asp"))
    place.start("ada")
    assert math.isnan(place.core.loss)
    for loss in (None, 2.0, 1.0):
        [(request, frame)] = place.frames("ada", np.zeros(SMALL.size, np.float32), loss)
        place.told("ada", request, frame)
    assert place.core.loss == pytest.approx(0.98 * 2.0 + 0.02 * 1.0)


def test_shard_of_the_weights_to_begin_with_must_be_whole_and_finite() -> None:
    place = Workplace(SMALL, settings_of("bsp"))
    place.join("ada")
    vector = initial(SMALL)
    damaged = vector.copy()
    damaged[3] = np.nan
    good = vector.tobytes()
    for shard, frame, digest in (
        (0, good, 1),
        (1, good, None),
        (0, good[:-4], None),
        (0, b"", None),
        (0, damaged.tobytes(), None),
    ):
        digest = xxhash.xxh3_64_intdigest(frame) if digest is None else digest
        reply = place.ask("ada", InitialRequest(shard, digest), frame)
        assert isinstance(reply, Refusal) and reply.code == "payload"
    assert place.core.version == 0
    assert place.give("ada", vector).version == 1
