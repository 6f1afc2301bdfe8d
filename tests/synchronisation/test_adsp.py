"""ADSP over a simulated time: the same commits from workers of any speed, and timers as the formula has them."""

from __future__ import annotations

import heapq
from collections import Counter

import pytest

from p2pdl.synchronisation.adsp import Adsp
from p2pdl.synchronisation.commit_search import CommitSearch

PERIOD = 10.0


def steady(commits: int) -> Adsp:
    """A policy whose search never ends its first window."""
    return Adsp(CommitSearch(window=1e9, period=1e9, first=commits), PERIOD)


def train(policy: Adsp, step_seconds: dict[str, float], until: float, since: float = 0.0) -> list[tuple[float, str]]:
    """Workers that step without a pause and commit at the first step after their timer; returns the commits."""
    clocks = {worker: policy.join(worker, since) for worker in step_seconds}
    due = {worker: since + (policy.commit_in(worker, since) or 0.0) for worker in step_seconds}
    steps = [(since + seconds, worker) for worker, seconds in step_seconds.items()]
    heapq.heapify(steps)
    commits = []
    while steps[0][0] < until:
        now, worker = heapq.heappop(steps)
        if now >= due[worker]:
            policy.push(worker, clocks[worker], 1.0, now)
            clocks[worker] += 1
            due[worker] = now + (policy.commit_in(worker, now) or 0.0)
            commits.append((now, worker))
        heapq.heappush(steps, (now + step_seconds[worker], worker))
    return commits


@pytest.mark.parametrize("commits", [1, 3, 5])
def test_workers_of_different_speeds_make_the_same_commits(commits: int) -> None:
    policy = steady(commits)
    made = train(policy, {"fast": 0.07, "middling": 0.31, "slow": 1.3}, until=200.0)
    # A commit that is due at the end of a period may fall into the next one.
    for end in range(10, 201, 10):
        counts = Counter(worker for now, worker in made if now < end)
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1
    for worker in ("fast", "middling", "slow"):
        assert abs(sum(name == worker for _, name in made) - commits * 200.0 / PERIOD) <= 1
    figures = policy.figures()
    assert figures["commits_per_period"] == commits
    assert figures["commits_most"] - figures["commits_least"] <= 1


def test_worker_too_slow_for_its_number_commits_after_every_step_and_holds_nobody() -> None:
    policy = steady(4)
    made = Counter(worker for _, worker in train(policy, {"fast": 0.1, "slow": 7.0}, until=205.0))
    assert abs(made["fast"] - 82) <= 1
    assert made["slow"] == 29
    assert policy.admits("fast") and policy.admits("slow")


def test_timer_is_the_period_divided_by_what_is_left_to_the_target() -> None:
    policy = steady(4)
    for worker in ("a", "b"):
        policy.join(worker, 0.0)
    assert policy.commit_in("a", 0.0) == pytest.approx(2.5)
    assert policy.commit_in("a", 1.0) == pytest.approx(1.5)
    for clock in range(4):
        policy.push("a", clock, 1.0, 2.5 * (clock + 1) - 0.1)
    policy.push("b", 0, 1.0, 9.95)
    # The target is 4 + 4: a has 4 to go, b has 7.
    assert policy.commit_in("a", 10.0) == pytest.approx(2.5)
    assert policy.commit_in("b", 10.0) == pytest.approx(10.0 / 7)
    assert policy.figures()["commits_target"] == 8
    assert policy.commit_in("b", 12.0) == 0.0


def test_newcomer_makes_what_is_left_of_the_period() -> None:
    policy = steady(4)
    policy.join("old", 0.0)
    policy.join("new", 6.0)
    # Commits due after 2.5 and 5 s count as made; the third is due after 7.5 s.
    assert policy.commit_in("new", 6.0) == pytest.approx(1.5)
    for clock in range(3):
        policy.push("old", clock, 1.0, 7.0 + clock)
    policy.leave("old", 9.0)
    assert policy.join("old", 9.5) == policy.low
    assert policy.commit_in("old", 9.5) == pytest.approx(0.5)


def test_periods_nobody_called_in_are_passed_over() -> None:
    policy = steady(2)
    policy.join("a", 0.0)
    # One commit counts as due, and two more are: the fourth period began at 40 s.
    assert policy.commit_in("a", 47.0) == 0.0
    assert policy.commit_in("a", 41.0) == pytest.approx(10.0 / 3 - 1.0)
    for clock in range(2):
        policy.push("a", clock, 1.0, 47.0)
    assert policy.commit_in("a", 47.0) == pytest.approx(3.0)


def test_search_changes_the_timers_at_once_and_sees_the_losses() -> None:
    policy = Adsp(CommitSearch(window=5.0, period=1000.0, first=1), 2.0)
    clock, now, u = policy.join("a", 0.0), 0.0, 1.0
    while now < 60.0:
        policy.push("a", clock, 1.0 / u, now)
        u += 0.02 / (1 + (policy.figures()["commits_per_period"] - 3) ** 2)
        clock, now = clock + 1, now + 0.1
    assert policy.figures()["commits_per_period"] == 3
    assert policy.commit_in("a", now) is not None
