"""What every policy must do, whatever its rule: the bound kept, nobody stuck, `low` never falling."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.errors import PeerRefused
from p2pdl.synchronisation import POLICIES, Policy, PolicySettings, make_policy

EVERY_POLICY = pytest.mark.parametrize("name", POLICIES)
SETTINGS = PolicySettings(staleness=2, check_period=5.0, search_window=7.0, search_period=40.0)
WORKERS = [f"worker{number}" for number in range(5)]
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["join", "push", "push", "push", "push", "push", "leave"]),
        st.sampled_from(WORKERS),
        st.floats(0.0, 4.0),
    ),
    max_size=80,
)
LOSSES = st.floats(allow_nan=True, allow_infinity=True)


def check(policy: Policy, clocks: dict[str, int], low: int) -> int:
    """What holds at any moment; returns `low`."""
    assert policy.low >= low
    slowest = min(clocks.values(), default=policy.low)
    assert policy.low <= slowest
    admitted = [worker for worker in clocks if policy.admits(worker)]
    assert bool(admitted) == bool(clocks)
    if policy.staleness_bound is not None:
        assert policy.low == slowest
        assert all(clocks[worker] - slowest <= policy.staleness_bound for worker in admitted)
        behind = [worker for worker in clocks if clocks[worker] - slowest <= policy.staleness_bound]
        assert admitted == behind
    else:
        assert admitted == list(clocks)
    figures = policy.figures()
    assert (figures["workers"], figures["low"]) == (len(clocks), policy.low)
    assert figures["waiting"] == len(clocks) - len(admitted)
    assert all(math.isfinite(value) for value in figures.values())
    return policy.low


@EVERY_POLICY
@settings(max_examples=100, deadline=None)
@given(moves=MOVES, loss=LOSSES)
def test_any_schedule_keeps_the_bound_and_somebody_is_admitted(
    name: str, moves: list[tuple[str, str, float]], loss: float
) -> None:
    policy, clocks, low, now = make_policy(name, SETTINGS), dict[str, int](), 0, 100.0
    for move, worker, pause in moves:
        now += pause
        if move == "join":
            clocks.pop(worker, None)
            clocks[worker] = policy.join(worker, now)
            assert clocks[worker] == policy.low
        elif move == "leave":
            clocks.pop(worker, None)
            policy.leave(worker, now)
        elif worker in clocks and policy.admits(worker):
            policy.push(worker, clocks[worker], loss, now)
            clocks[worker] += 1
        else:
            with pytest.raises(PeerRefused) as caught:
                policy.push(worker, clocks.get(worker, policy.low), loss, now)
            assert caught.value.code == ("outside-window" if worker in clocks else "not-joined")
        low = check(policy, clocks, low)
        for live in clocks:
            pause_left = policy.commit_in(live, now)
            assert pause_left is None if name != "adsp" else pause_left is not None and 0.0 <= pause_left < math.inf


@EVERY_POLICY
def test_leave_of_the_slowest_lets_the_others_go_on(name: str) -> None:
    policy = make_policy(name, SETTINGS)
    for worker in WORKERS:
        policy.join(worker, 0.0)
    for round in range(10):
        for worker in WORKERS[1:]:
            if policy.admits(worker):
                policy.push(worker, round, 1.0, 1.0)
    policy.leave(WORKERS[0], 2.0)
    policy.leave(WORKERS[0], 3.0)
    assert all(policy.admits(worker) for worker in WORKERS[1:])
    with pytest.raises(PeerRefused) as caught:
        policy.push(WORKERS[0], 0, 1.0, 4.0)
    assert caught.value.code == "not-joined"
    assert caught.value.remedy
    assert policy.join(WORKERS[0], 5.0) == policy.low > 0


@EVERY_POLICY
def test_push_sent_twice_is_refused_and_changes_nothing(name: str) -> None:
    policy = make_policy(name, SETTINGS)
    for worker in WORKERS[:2]:
        policy.join(worker, 0.0)
    policy.push(WORKERS[0], 0, 1.0, 0.0)
    before = dict(policy.figures())
    with pytest.raises(PeerRefused) as caught:
        policy.push(WORKERS[0], 0, 1.0, 0.0)
    assert caught.value.code == "other-iteration"
    assert caught.value.remedy
    assert policy.figures() == before
    policy.push(WORKERS[1], 0, 1.0, 0.0)
    assert policy.low == 1
    policy.push(WORKERS[0], 1, 1.0, 0.0)


@EVERY_POLICY
def test_unknown_worker_is_not_joined(name: str) -> None:
    policy = make_policy(name)
    policy.leave("nobody", 0.0)
    for ask in (
        lambda: policy.push("nobody", 0, 1.0, 0.0),
        lambda: policy.admits("nobody"),
        lambda: policy.commit_in("nobody", 0.0),
    ):
        with pytest.raises(PeerRefused) as caught:
            ask()
        assert caught.value.code == "not-joined"


@given(moves=MOVES)
def test_ssp_without_staleness_admits_what_bsp_admits(moves: list[tuple[str, str, float]]) -> None:
    ssp, bsp = make_policy("ssp", PolicySettings(staleness=0)), make_policy("bsp")
    clocks: dict[str, int] = {}
    for move, worker, _ in moves:
        if move == "join":
            clocks[worker] = ssp.join(worker, 0.0)
            assert bsp.join(worker, 0.0) == clocks[worker]
        elif move == "leave":
            clocks.pop(worker, None)
            ssp.leave(worker, 0.0)
            bsp.leave(worker, 0.0)
        elif worker in clocks and ssp.admits(worker):
            ssp.push(worker, clocks[worker], 1.0, 0.0)
            bsp.push(worker, clocks[worker], 1.0, 0.0)
            clocks[worker] += 1
        assert ssp.low == bsp.low
        assert [ssp.admits(worker) for worker in clocks] == [bsp.admits(worker) for worker in clocks]


@EVERY_POLICY
def test_policy_of_a_resumed_run_begins_where_it_is_told(name: str) -> None:
    policy = make_policy(name, SETTINGS, low=700)
    assert policy.join("a", 0.0) == policy.low == 700
    policy.push("a", 700, 1.0, 0.0)
    assert policy.low == 701


def test_policies_are_named_and_bounded_as_stated() -> None:
    made = [make_policy(name, PolicySettings(staleness=4)) for name in POLICIES]
    assert [policy.name for policy in made] == list(POLICIES)
    assert [policy.staleness_bound for policy in made] == [0, None, 4, None]
    assert [policy.collects for policy in made] == [True, False, False, False]


def test_make_unknown_name_or_wrong_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="'sync'.*bsp, asp, ssp, adsp"):
        make_policy("sync")
    with pytest.raises(ValueError, match="at least 0, not -1"):
        make_policy("ssp", PolicySettings(staleness=-1))
    with pytest.raises(ValueError, match="first iteration must be at least 0, not -1"):
        make_policy("asp", low=-1)
    with pytest.raises(ValueError, match="above 0 s, not 0"):
        make_policy("adsp", PolicySettings(check_period=0.0))
