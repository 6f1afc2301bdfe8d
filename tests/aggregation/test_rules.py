"""Each update rule against its definition, written out in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.aggregation import Update, make_rule
from p2pdl.errors import PeerRefused, RejectedWeights
from tests.aggregation.updates import SIZE, WORKERS, dense, sparse, updates, whole

CASES = settings(max_examples=50, deadline=None)


@given(update=updates())
def test_consgd_equals_rate_times_values(update: Update) -> None:
    np.testing.assert_array_equal(make_rule("consgd", SIZE, rate=0.25).scaled(update), update.values * 0.25)
    assert make_rule("consgd", SIZE).scaled(update) is update.values


@given(update=updates())
def test_dynsgd_equals_values_over_staleness_plus_one(update: Update) -> None:
    expected = update.values.astype(np.float64) / (update.staleness + 1)
    np.testing.assert_allclose(make_rule("dynsgd", SIZE).scaled(update), expected, rtol=1e-7)


@CASES
@given(history=st.lists(updates(), min_size=1, max_size=20))
def test_direction_distance_equals_its_definition_and_keeps_the_length_of_the_sum(history: list[Update]) -> None:
    rule = make_rule("direction-distance", SIZE)
    latest: dict[str, tuple[np.ndarray, int, float]] = {}
    for update in history:
        gradient = whole(update).astype(np.float64)
        others = [clock for worker, (_, clock, _) in latest.items() if worker != update.worker]
        share = 1 / (1 + max(0, update.clock - min(others, default=update.clock)))
        latest[update.worker] = gradient, update.clock, share
        lengths = {worker: float(np.linalg.norm(vector)) for worker, (vector, _, _) in latest.items()}
        total = np.linalg.norm(sum(vector for vector, _, _ in latest.values()))
        directions = sum(a * v / lengths[worker] for worker, (v, _, a) in latest.items() if lengths[worker])
        scaled = whole(update, rule.scaled(update)).astype(np.float64)
        if not lengths[update.worker]:
            assert not scaled.any()
            continue
        t = total / np.linalg.norm(directions) if np.linalg.norm(directions) > 1e-9 else np.inf
        end_to_end = sum(lengths.values())
        if t * share > 1.0001 * end_to_end:
            np.testing.assert_array_equal(scaled, gradient)
        elif t * share < 0.9999 * end_to_end:
            np.testing.assert_allclose(np.linalg.norm(scaled), t * share, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(scaled, t * share * gradient / lengths[update.worker], rtol=1e-5, atol=1e-5)
            resized = [t * a * v / lengths[worker] for worker, (v, _, a) in latest.items() if lengths[worker]]
            np.testing.assert_allclose(np.linalg.norm(sum(resized)), total, rtol=1e-9, atol=1e-9)


def test_direction_distance_favours_who_is_behind() -> None:
    rule = make_rule("direction-distance", 2)
    rule.scaled(dense([0.0, 1.0], "slow", clock=3))
    ahead = rule.scaled(dense([1.0, 0.0], "fast", clock=7))
    # a = 1 for the slow one and 1/5 for the fast one: t = sqrt(2) / sqrt(1 + 1/25).
    np.testing.assert_allclose(ahead, [np.sqrt(2) / np.sqrt(1.04) / 5, 0.0], rtol=1e-6)
    behind = rule.scaled(dense([0.0, 1.0], "slow", clock=4))
    np.testing.assert_allclose(behind, [0.0, np.sqrt(2) / np.sqrt(1.04)], rtol=1e-6)


def test_direction_distance_directions_that_cancel_leave_the_gradient_as_it_is() -> None:
    rule = make_rule("direction-distance", 2)
    rule.scaled(dense([3.0, 0.0], "a"))
    np.testing.assert_array_equal(rule.scaled(dense([-1.0, 0.0], "b")), [-1.0, 0.0])


def test_direction_distance_forgotten_worker_leaves_nothing_behind() -> None:
    rule, rng = make_rule("direction-distance", SIZE), np.random.default_rng(1)
    for clock in range(300):
        rule.scaled(dense(rng.normal(size=SIZE).astype(np.float32) * np.float32(10.0 ** (-clock / 60)), "a", clock))
        rule.scaled(dense(rng.normal(size=SIZE).astype(np.float32), "b", clock))
    rule.forget("a")
    rule.forget("b")
    assert max(np.abs(array).max() for array in rule.state().values()) < 1e-12


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e30])
def test_direction_distance_extreme_lengths_stay_finite(scale: float) -> None:
    rule = make_rule("direction-distance", 2)
    rule.scaled(dense([1.0, 0.0], "a"))
    scaled = rule.scaled(dense([0.0, scale], "b"))
    length = np.float64(np.float32(scale))
    np.testing.assert_allclose(scaled, [0.0, np.sqrt((1 + length**2) / 2)], rtol=1e-5)


def test_direction_distance_not_finite_is_refused_and_changes_nothing() -> None:
    rule = make_rule("direction-distance", 2)
    rule.scaled(dense([1.0, 2.0], "a"))
    before = {name: array.tobytes() for name, array in rule.state().items()}
    for value in (np.inf, np.nan):
        with pytest.raises(RejectedWeights) as caught:
            rule.scaled(dense([1.0, value], "a"))
        assert caught.value.code == "not-finite"
    assert {name: array.tobytes() for name, array in rule.state().items()} == before


@CASES
@given(history=st.lists(st.tuples(st.booleans(), updates()), max_size=25))
def test_adacomp_equals_the_literal_definition(history: list[tuple[bool, Update]]) -> None:
    rule = make_rule("adacomp", SIZE)
    applied: list[np.ndarray] = []
    copies = dict.fromkeys(WORKERS, 0)
    for worker in WORKERS:
        rule.on_pull(worker)
    for pull, update in history:
        if pull:
            rule.on_pull(update.worker)
            copies[update.worker] = len(applied)
            continue
        staleness = sum((dw != 0 for dw in applied[copies[update.worker] :]), np.zeros(SIZE, np.int64))
        gradient = whole(update)
        expected = np.where(staleness != 0, gradient / np.maximum(staleness, 1), gradient).astype(np.float32)
        np.testing.assert_array_equal(whole(update, rule.scaled(update)), expected)
        applied.append(gradient)


def test_adacomp_counts_that_wrap_round_give_the_same_staleness() -> None:
    rule = make_rule("adacomp", 3)
    state = {"counts": np.array([65535, 65534, 0], np.uint16), "applied": np.array([65535])}
    rule.restore(state)
    rule.on_pull("a")
    rule.on_pull("b")
    for _ in range(4):
        rule.scaled(sparse([0, 1], [1.0, 1.0], "b"))
    np.testing.assert_array_equal(rule.scaled(dense([1.0, 1.0, 1.0], "a")), [0.25, 0.25, 1.0])


def test_adacomp_without_a_pull_or_too_long_after_it_is_refused_and_changes_nothing() -> None:
    rule = make_rule("adacomp", 2)
    rule.on_pull("b")
    pulled = {f"counts/{name}": np.zeros(2, np.uint16) for name in "ab"}
    since = {"applied/a": np.array([0]), "applied/b": np.array([1])}
    rule.restore({"counts": np.zeros(2, np.uint16), "applied": np.array([65536]), **pulled, **since})
    for worker, code in (("a", "too-stale"), ("c", "not-pulled")):
        with pytest.raises(PeerRefused) as caught:
            rule.scaled(dense([1.0, 1.0], worker))
        assert caught.value.code == code
        assert caught.value.remedy
    assert rule.state()["applied"] == 65536
    rule.scaled(dense([1.0, 1.0], "b"))


def test_direction_distance_vector_of_several_blocks_equals_its_definition() -> None:
    size, rng = 40_000, np.random.default_rng(5)
    rule = make_rule("direction-distance", size)
    first, second = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    indices = np.flatnonzero(rng.random(size) < 0.6)
    rule.scaled(dense(first, "a"))
    scaled = rule.scaled(Update("b", 0, 0, 0, indices, second[indices], 1))
    a, b = first.astype(np.float64), np.zeros(size)
    b[indices] = second[indices]
    directions = a / np.linalg.norm(a) + b / np.linalg.norm(b)
    distance = np.linalg.norm(a + b) / np.linalg.norm(directions)
    np.testing.assert_allclose(scaled, distance * b[indices] / np.linalg.norm(b), rtol=1e-5)
