"""What a parameter server makes of its workers' updates, against plain SGD in numpy, and who waits for whom."""

from __future__ import annotations

import numpy as np
import pytest

from p2pdl.sparsifier import Selection
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.synchronisation import POLICIES, PolicySettings
from p2pdl.types import Float32Vector
from tests.protocol.nodes import MODEL
from tests.protocol.workplace import (
    MOMENTUM,
    NAMES,
    RATE,
    SMALL,
    SPECS,
    Workplace,
    batch_of,
    gradient,
    settings_of,
    trained,
)

EVERY_POLICY = pytest.mark.parametrize("policy", POLICIES)
EVERY_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def plain_steps(spec: WeightSpec, weights: Float32Vector, steps: int, optimizer: str) -> Float32Vector:
    """What one machine alone makes of ada's batches, by the formulas of Keras."""
    weights, velocity = weights.copy(), np.zeros_like(weights)
    for step in range(steps):
        change = np.float32(RATE) * gradient(spec, weights, batch_of("ada", step))
        if optimizer == "sgd":
            weights -= change
        else:
            velocity = np.float32(MOMENTUM) * velocity - change
            weights += velocity
    return weights


@EVERY_SPEC
@EVERY_POLICY
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_one_worker_under_any_policy_is_plain_training_to_the_bit(
    policy: str, optimizer: str, spec: WeightSpec
) -> None:
    place = Workplace(spec, settings_of(policy, optimizer=optimizer))
    begun_with = place.start("ada")
    for step in range(6):
        place.iterate(("ada",), step)
    np.testing.assert_array_equal(place.weights, plain_steps(spec, begun_with, 6, optimizer))
    assert (place.core.version, place.core.samples) == (7, 6 * 32)


@EVERY_SPEC
def test_changes_made_by_the_workers_own_optimizer_are_taken_as_they_are(spec: WeightSpec) -> None:
    place = Workplace(spec, settings_of("adsp", optimizer="none"))
    begun_with = place.start("ada")
    own, pulled, velocity = begun_with.copy(), begun_with.copy(), np.zeros_like(begun_with)
    for step in range(6):
        velocity = np.float32(MOMENTUM) * velocity - np.float32(RATE) * gradient(spec, own, batch_of("ada", step))
        own += velocity
        if step % 2:
            place.push("ada", trained(spec) * (pulled - own))
            own, pulled = place.weights, place.weights
    # What a float32 difference loses, six times.
    np.testing.assert_allclose(place.weights, plain_steps(spec, begun_with, 6, "momentum"), rtol=0, atol=1e-5)


@EVERY_SPEC
def test_bsp_is_training_with_the_batches_of_all_workers(spec: WeightSpec) -> None:
    place = Workplace(spec, settings_of("bsp", optimizer="momentum", expected=3))
    weights = place.start(*NAMES).astype(np.float64)
    velocity = np.zeros_like(weights)
    for step in range(5):
        place.iterate(NAMES, step)
        now = weights.astype(np.float32)
        mean = np.mean([gradient(spec, now, batch_of(name, step)).astype(np.float64) for name in NAMES], axis=0)
        velocity = MOMENTUM * velocity - RATE * mean
        weights += velocity
    np.testing.assert_allclose(place.weights, weights, rtol=0, atol=1e-5)
    assert (place.core.version, place.core.counters["pushes"]) == (6, 15)


@EVERY_SPEC
def test_ssp_without_staleness_moves_as_bsp_does(spec: WeightSpec) -> None:
    together = Workplace(spec, settings_of("bsp", expected=3))
    one_by_one = Workplace(spec, settings_of("ssp", policy_settings=PolicySettings(staleness=0), expected=3))
    for place in (together, one_by_one):
        place.start(*NAMES)
        for step in range(5):
            place.iterate(NAMES, step)
            clocks = {worker.clock for worker in place.core.workers.values()}
            assert clocks == {step + 1}
    np.testing.assert_allclose(one_by_one.weights, together.weights, rtol=0, atol=1e-5)


@pytest.mark.parametrize("policy, ahead", [("bsp", 0), ("ssp", 2), ("asp", 50), ("adsp", 50)])
def test_nobody_is_admitted_further_ahead_than_the_policy_says(policy: str, ahead: int) -> None:
    place = Workplace(SMALL, settings_of(policy, policy_settings=PolicySettings(staleness=2), expected=2))
    place.start("ada", "bob")
    for _ in range(ahead + 1):
        assert place.begin("ada").admitted
        reply = place.push("ada", np.zeros(SMALL.size, np.float32))
    assert reply.admitted == (policy in ("asp", "adsp"))
    place.push("bob", np.zeros(SMALL.size, np.float32))
    assert place.begin("ada").admitted


@pytest.mark.parametrize("policy", ["bsp", "ssp"])
@pytest.mark.parametrize("in_push", [False, True])
def test_worker_that_dies_holds_nobody_longer_than_its_lease(policy: str, in_push: bool) -> None:
    spec = MODEL
    lease = 10.0
    options = {"policy_settings": PolicySettings(staleness=0), "rate": 1.0, "lease": lease, "expected": 3}
    place = Workplace(spec, settings_of(policy, **options))
    weights = place.start(*NAMES)
    died = place.now
    gradients = {name: gradient(spec, weights, batch_of(name, 0)) for name in NAMES}
    if in_push:
        request, frame = place.frames("cyd", gradients["cyd"])[0]
        place.told("cyd", request, frame)
    else:
        place.begin("cyd")
    replies = [place.push(name, gradients[name], 1) for name in ("ada", "bob")]
    assert not any(reply.admitted for reply in replies)
    while place.now < died + lease:
        place.now += 1.0
        assert place.begin("ada").admitted == place.begin("bob").admitted == (place.now > died + lease)
    place.now = died + lease + 0.01
    assert place.begin("ada").admitted and place.begin("bob").admitted
    assert list(place.core.workers) == ["ada", "bob"] and place.core.counters["lapsed"] == 1
    if policy == "bsp":
        came = [[*("ada", "bob"), *(["cyd"] if in_push else [])], ["ada", "bob"]]
        for number, names in enumerate(came):
            shard = slice(number * SHARD_ELEMENTS, (number + 1) * SHARD_ELEMENTS)
            mean = np.mean([gradients[name][shard].astype(np.float64) for name in names], axis=0)
            np.testing.assert_allclose(place.weights[shard], weights[shard] - RATE * mean, rtol=0, atol=1e-5)
    place.iterate(("ada", "bob"), 1)
    assert place.join("cyd").clock == 2


@EVERY_POLICY
@EVERY_SPEC
def test_push_that_is_sent_again_after_a_lost_reply_changes_nothing(policy: str, spec: WeightSpec) -> None:
    once, again = (Workplace(spec, settings_of(policy, optimizer="momentum", expected=2)) for _ in range(2))
    for place in (once, again):
        place.start("ada", "bob")
    for step in range(3):
        for name in ("ada", "bob"):
            for place in (once, again):
                frames = place.frames(name, gradient(spec, place.weights, batch_of(name, step)))
                replies = [place.told(name, *part) for part in frames[:-1]]
                if place is again:
                    assert [place.told(name, *part) for part in frames[:-1]] == replies
                reply = place.told(name, *frames[-1])
                if place is again:
                    assert [place.told(name, *part) for part in frames][-1] == reply
                place.core.on_pulled(name, range(2 if spec is MODEL else 1), place.now)
        np.testing.assert_array_equal(once.weights, again.weights)
    assert (once.core.version, once.core.samples) == (again.core.version, again.core.samples)
    assert once.core.counters["pushes"] == again.core.counters["pushes"] == 6


def test_worker_that_joins_again_within_an_iteration_counts_once() -> None:
    place = Workplace(SMALL, settings_of("bsp", expected=2))
    weights = place.start("ada", "bob")
    updates = {name: gradient(SMALL, weights, batch_of(name, 0)) for name in ("ada", "bob")}
    place.push("ada", updates["ada"])
    assert place.join("ada").clock == 0
    assert place.push("ada", updates["ada"]).clock == 1
    assert place.core.version == 1
    place.push("bob", updates["bob"])
    mean = (updates["ada"].astype(np.float64) + updates["bob"]) / 2
    np.testing.assert_allclose(place.weights, weights - RATE * mean, rtol=0, atol=1e-6)


def test_shard_that_was_not_sent_counts_as_zeros() -> None:
    """The mean is over all workers, and velocity goes on, where a worker has selected nothing of a shard."""
    beginning = Selection(np.arange(3), np.array([1.0, 2.0, 3.0], np.float32))
    for policy in ("bsp", "asp"):
        place = Workplace(MODEL, settings_of(policy, optimizer="momentum", rate=1.0, expected=2))
        weights = place.start("ada", "bob").astype(np.float64)
        whole = gradient(MODEL, weights.astype(np.float32), 5)
        sparse = np.zeros(MODEL.size)
        sparse[beginning.indices] = beginning.values
        steps = [(whole + sparse) / 2] if policy == "bsp" else [whole.astype(np.float64), sparse]
        velocity = np.zeros(MODEL.size)
        for _ in range(3):
            place.push("ada", whole)
            place.push("bob", beginning)
            for step in steps:
                velocity = MOMENTUM * velocity - RATE * step
                weights += velocity
        np.testing.assert_allclose(place.weights, weights, rtol=0, atol=2e-5)


def test_iteration_with_nothing_to_send_is_one_empty_frame() -> None:
    place = Workplace(SMALL, settings_of("asp", optimizer="momentum", rate=1.0))
    weights = place.start("ada").astype(np.float64)
    update = gradient(SMALL, weights.astype(np.float32), 1)
    place.push("ada", update)
    nothing = Selection(np.empty(0, np.intp), np.empty(0, np.float32))
    assert [frame for _, frame in place.frames("ada", nothing)] == [b""]
    assert place.push("ada", nothing).clock == 2
    np.testing.assert_allclose(place.weights, weights - RATE * update * (1 + MOMENTUM), rtol=0, atol=1e-5)
