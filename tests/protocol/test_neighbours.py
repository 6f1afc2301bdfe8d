"""Whom to ask next: pauses grow and stay finite, and each change is news once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import PeerError, PeerRefused, PeerTimeout
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.neighbours import FIRST_PAUSE, LONGEST_PAUSE, TRANSIENT_PAUSES, Neighbours
from p2pdl.topology import create

NODES = ["a", "b", "c", "d"]
TIMEOUT = PeerTimeout("b: no answer for 10 s")


def neighbours_of(self_id: str = "a", seed: int = 0, topology: str = "ring") -> Neighbours:
    others = [node for node in NODES if node != self_id]
    return Neighbours(self_id, others, create(topology, NODES, peers=1, graph=None), np.random.default_rng(seed))


def snapshot(step: int, age: float | None = 0.0) -> SnapshotReply:
    return SnapshotReply("life", step, step, 64 * step, 0.5, False, 1, 16, age)


def pause_after(neighbours: Neighbours, failures: int, now: float = 0.0) -> float:
    for _ in range(failures):
        neighbours.on_failure("b", TIMEOUT, now)
    return neighbours.records["b"].pause_until - now


@pytest.mark.parametrize("failures, base", [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (50, 30.0)])
def test_pause_doubles_up_to_the_longest_with_a_quarter_of_jitter(failures: int, base: float) -> None:
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (0.5, 30.0)
    pauses = [pause_after(neighbours_of(seed=seed), failures) for seed in range(300)]
    assert 0.75 * base <= min(pauses) < 0.78 * base
    assert 1.22 * base < max(pauses) <= 1.25 * base
    assert np.mean(pauses) == pytest.approx(base, rel=0.03)


@pytest.mark.parametrize("wasted, base", [(0.01, 0.5), (0.5, 4.0), (2.0, 16.0), (60.0, 30.0)])
def test_pause_is_longer_after_a_failure_that_took_long(wasted: float, base: float) -> None:
    pauses = []
    for seed in range(300):
        neighbours = neighbours_of(seed=seed)
        neighbours.on_failure("b", TIMEOUT, 0.0, wasted)
        pauses.append(neighbours.records["b"].pause_until)
    assert 0.75 * base <= min(pauses) and max(pauses) <= 1.25 * base


def test_pause_after_days_of_failures_is_still_finite() -> None:
    neighbours = neighbours_of()
    now = 0.0
    for _ in range(5000):
        neighbours.on_failure("b", TIMEOUT, now)
        now = neighbours.records["b"].pause_until
    assert pause_after(neighbours, 1, now) <= 1.25 * LONGEST_PAUSE


@pytest.mark.parametrize("code", sorted(TRANSIENT_PAUSES))
def test_transient_refusal_pauses_briefly_and_is_no_news(code: str) -> None:
    longest = TRANSIENT_PAUSES[code]
    assert longest <= 2.0
    for seed in range(50):
        neighbours = neighbours_of(seed=seed)
        for round in range(20):
            assert not neighbours.on_failure("b", PeerRefused("b: not yet", code=code), 1.0 * round)
            record = neighbours.records["b"]
            assert 0.1 * longest - 1e-9 <= record.pause_until - round <= 0.5 * longest + 1e-9
            assert (record.state, record.failures, record.last_code) == ("unknown", 0, code)


def test_failure_is_news_when_its_kind_changes() -> None:
    neighbours = neighbours_of()
    garbage = PeerError("b: garbage", code="protocol-error")
    told = [neighbours.on_failure("b", error, 0.0) for error in (TIMEOUT, TIMEOUT, garbage, garbage, TIMEOUT)]
    assert told == [True, False, True, False, True]
    assert neighbours.records["b"].last_error == TIMEOUT.message


def test_success_is_news_when_the_peer_was_not_live() -> None:
    neighbours = neighbours_of()
    assert neighbours.on_success("b", snapshot(step=3))
    assert not neighbours.on_success("b", snapshot(step=4))
    neighbours.on_failure("b", TIMEOUT, 0.0)
    assert neighbours.records["b"].state == "failing"
    assert neighbours.on_success("b", snapshot(step=9))
    record = neighbours.records["b"]
    assert (record.state, record.failures, record.last_error, record.last_code) == ("live", 0, "", "")
    assert (record.pulls, record.step, record.known) == (3, 9, ("life", 9))
    assert neighbours.on_failure("b", TIMEOUT, 0.0)
    assert neighbours.records["b"].failures == 1


@pytest.mark.parametrize("age, base", [(0.0, 0.01), (None, 0.01), (4.0, 4.0), (1e6, 30.0)])
def test_unchanged_peer_is_asked_again_after_up_to_its_versions_age(age: float | None, base: float) -> None:
    pauses = []
    for seed in range(300):
        neighbours = neighbours_of(seed=seed)
        neighbours.on_failure("b", TIMEOUT, 0.0)
        neighbours.on_unchanged("b", snapshot(step=3, age=age), 100.0)
        record = neighbours.records["b"]
        assert (record.state, record.failures, record.last_error, record.pulls) == ("live", 0, "", 0)
        pauses.append(record.pause_until - 100.0)
    assert 0.5 * base - 1e-9 <= min(pauses) < 0.51 * base
    assert 0.99 * base < max(pauses) <= base + 1e-9


def test_choice_leaves_paused_peers_alone_until_their_time() -> None:
    neighbours = neighbours_of(topology="random")
    neighbours.on_failure("b", TIMEOUT, 100.0)
    again = neighbours.records["b"].pause_until
    chosen = {neighbours.choose(again - 0.001) for _ in range(200)}
    assert chosen == {("c",), ("d",)}
    assert {neighbours.choose(again) for _ in range(200)} == {("b",), ("c",), ("d",)}


def test_choice_while_everybody_is_paused_is_empty_and_ends() -> None:
    neighbours = neighbours_of()
    for peer in "bcd":
        neighbours.on_failure(peer, TIMEOUT, 0.0)
    assert neighbours.choose(0.1) == ()
    assert neighbours.choose(LONGEST_PAUSE) != ()


def test_choice_of_a_node_alone_is_empty() -> None:
    neighbours = Neighbours("a", [], create("ring", ["a"], peers=1, graph=None), np.random.default_rng(0))
    assert neighbours.choose(0.0) == ()


@given(
    topology=st.sampled_from(["ring", "random", "exponential"]),
    failing=st.sets(st.sampled_from(["b", "c", "d"])),
    seed=st.integers(0, 99),
)
def test_choice_is_always_of_unpaused_others(topology: str, failing: set[str], seed: int) -> None:
    neighbours = neighbours_of(seed=seed, topology=topology)
    for peer in failing:
        neighbours.on_failure(peer, TIMEOUT, 0.0)
    for _ in range(8):
        chosen = neighbours.choose(0.1)
        assert set(chosen) <= set("bcd") - failing
        assert bool(chosen) == (failing != set("bcd"))


def test_peer_that_was_merged_last_is_known() -> None:
    neighbours = neighbours_of()
    assert neighbours.merged_last is None
    neighbours.on_success("b", snapshot(1))
    neighbours.on_success("c", snapshot(2))
    assert neighbours.merged_last == "c"
    neighbours.on_unchanged("b", snapshot(1), 0.0)
    neighbours.on_failure("d", TIMEOUT, 0.0)
    assert neighbours.merged_last == "c"


def chosen_by(neighbours: Neighbours, now: float = 0.0, rounds: int = 200) -> set[str]:
    return {peer for _ in range(rounds) for peer in neighbours.choose(now)}


@pytest.mark.parametrize(
    "states, expected",
    [
        ({"b": "alive", "c": "alive", "d": "alive"}, {"b", "c", "d"}),
        ({"b": "alive", "c": "suspect", "d": "dead"}, {"b"}),
        ({"b": "suspect", "c": "dead", "d": "unknown"}, {"b"}),
        ({"b": "dead", "c": "left", "d": "unknown"}, {"d"}),
        ({"b": "dead", "c": "left", "d": "dead"}, set()),
    ],
)
def test_whom_the_membership_sees_alive_is_asked_before_suspects_and_nobody_asks_the_dead(
    states: dict[str, str], expected: set[str]
) -> None:
    neighbours = neighbours_of(topology="random")
    neighbours.follow(states)
    assert chosen_by(neighbours) == expected


def test_node_that_joined_later_is_a_peer_like_the_others() -> None:
    neighbours = neighbours_of(topology="random")
    neighbours.follow({"b": "alive", "c": "dead", "d": "dead", "late": "alive"})
    assert chosen_by(neighbours) == {"b", "late"}
    neighbours.on_success("late", snapshot(5))
    assert neighbours.records["late"].state == "live"


def test_node_that_was_dead_and_is_alive_again_is_asked_at_once() -> None:
    neighbours = neighbours_of(topology="random")
    alive = dict.fromkeys("bcd", "alive")
    neighbours.follow(alive)
    assert pause_after(neighbours, 6) > 8.0
    # Alive all the time: the way to it is what failed, and the pause stays.
    neighbours.follow(alive)
    assert chosen_by(neighbours) == {"c", "d"}
    neighbours.follow(alive | {"b": "dead"})
    neighbours.follow(alive)
    assert chosen_by(neighbours) == {"b", "c", "d"}


def test_quarantine_outlasts_a_death() -> None:
    neighbours = neighbours_of(topology="random")
    alive = dict.fromkeys("bcd", "alive")
    neighbours.follow(alive)
    for _ in range(3):
        neighbours.on_failure("b", PeerError("b: not finite", code="not-finite"), 0.0)
    assert neighbours.records["b"].state == "quarantined"
    neighbours.follow(alive | {"b": "dead"})
    neighbours.follow(alive)
    assert chosen_by(neighbours) == {"c", "d"}
