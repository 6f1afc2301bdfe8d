"""Learnt deadlines against the median and its absolute deviation, computed by the book."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.deadlines import (
    DEVIATIONS,
    GUESS_FLOOR,
    GUESS_SLACK,
    PULL_BOUNDS,
    RECENT_TRANSFERS,
    SILENCE_BOUNDS,
    SLACK,
    DeadlineBounds,
    Experience,
    LearntDeadline,
)
from p2pdl.protocol.pull import FIRST_REQUEST_TIMEOUT, FIRST_TIMEOUT

WIDE = DeadlineBounds(floor=1e-6, ceiling=1e12, initial=7.0)
TRANSFERS = st.lists(st.tuples(st.floats(1e-3, 1e3), st.integers(0, 10**9)), min_size=1, max_size=2 * RECENT_TRANSFERS)


def learnt(transfers: list[tuple[float, int]], bounds: DeadlineBounds = WIDE) -> LearntDeadline:
    deadline = LearntDeadline(bounds)
    for seconds, nbytes in transfers:
        deadline.on_success(seconds, nbytes)
    return deadline


def by_the_book(transfers: list[tuple[float, int]], nbytes: int) -> float:
    recent = transfers[-RECENT_TRANSFERS:]
    expected = [seconds * max(1.0, nbytes / max(1, size)) for seconds, size in recent]
    median = statistics.median(expected)
    deviation = statistics.median([abs(value - median) for value in expected])
    return max(SLACK * median, median + DEVIATIONS * deviation)


@given(transfers=TRANSFERS, nbytes=st.integers(0, 10**9))
def test_deadline_is_the_median_and_eight_deviations(transfers: list[tuple[float, int]], nbytes: int) -> None:
    oracle = by_the_book(transfers, nbytes)
    assert learnt(transfers).seconds(nbytes) == pytest.approx(min(max(oracle, WIDE.floor), WIDE.ceiling))


@given(transfers=TRANSFERS, nbytes=st.integers(0, 10**9), timeouts=st.integers(0, 40))
def test_deadline_is_always_within_its_bounds(transfers: list[tuple[float, int]], nbytes: int, timeouts: int) -> None:
    for bounds in (PULL_BOUNDS, SILENCE_BOUNDS):
        deadline = learnt(transfers, bounds)
        for _ in range(timeouts):
            deadline.on_timeout()
        oracle = max(by_the_book(transfers, nbytes), bounds.floor) * 2.0**timeouts
        assert deadline.seconds(nbytes) == pytest.approx(min(oracle, bounds.ceiling))
        assert bounds.floor <= deadline.seconds(nbytes) <= bounds.ceiling


def test_deadline_of_an_unknown_link_is_the_first_one() -> None:
    assert LearntDeadline(PULL_BOUNDS).seconds(10**12) == FIRST_TIMEOUT
    assert LearntDeadline(SILENCE_BOUNDS).seconds(1) == FIRST_REQUEST_TIMEOUT


def test_steady_link_has_twice_its_time() -> None:
    assert learnt([(10.0, 1000)] * 9).seconds(1000) == 20.0


def test_one_outlier_changes_nothing() -> None:
    steady = [(10.0 + 0.1 * number, 1000) for number in range(11)]
    assert learnt([*steady, (5000.0, 1000)]).seconds(1000) == pytest.approx(learnt(steady).seconds(1000), rel=0.05)


def test_larger_transfer_has_time_in_proportion_and_a_smaller_one_no_less() -> None:
    deadline = learnt([(10.0, 1000)] * 5)
    assert deadline.seconds(4000) == 80.0
    assert deadline.seconds(10) == 20.0


def test_link_that_has_changed_is_forgotten() -> None:
    assert learnt([(100.0, 1)] * 50 + [(1.0, 1)] * RECENT_TRANSFERS).seconds(1) == 2.0


def test_timeouts_double_and_a_success_ends_that() -> None:
    for deadline, base in ((LearntDeadline(WIDE), 7.0), (learnt([(10.0, 1)]), 20.0)):
        seen = []
        for _ in range(5):
            seen.append(deadline.seconds(1))
            deadline.on_timeout()
        np.testing.assert_allclose(seen, base * 2.0 ** np.arange(5))
    deadline.on_success(10.0, 1)
    assert deadline.seconds(1) == 20.0


def test_link_of_which_nothing_is_known_is_judged_by_the_slowest_of_the_others() -> None:
    others = Experience()
    known, new = LearntDeadline(PULL_BOUNDS, others), LearntDeadline(PULL_BOUNDS, others)
    assert new.seconds(1000) == PULL_BOUNDS.initial
    known.on_success(0.01, 1000)
    known.on_success(0.2, 1000)
    assert LearntDeadline(PULL_BOUNDS, others).seconds(1000) == pytest.approx(0.2 * GUESS_SLACK)
    assert LearntDeadline(PULL_BOUNDS, others).seconds(2000) == pytest.approx(0.4 * GUESS_SLACK)
    assert LearntDeadline(PULL_BOUNDS).seconds(1000) == PULL_BOUNDS.initial
    known.on_success(1000.0, 1000)
    assert LearntDeadline(PULL_BOUNDS, others).seconds(1000) == PULL_BOUNDS.initial


def test_each_time_out_doubles_a_guess_until_the_link_is_known() -> None:
    others = Experience()
    others.on_success(0.001, 1000)
    deadline = LearntDeadline(PULL_BOUNDS, others)
    found = []
    for _ in range(3):
        found.append(deadline.seconds(1000))
        deadline.on_timeout()
    assert found == [GUESS_FLOOR, 2 * GUESS_FLOOR, 4 * GUESS_FLOOR]
    deadline.on_success(30.0, 1000)
    assert deadline.seconds(1000) == pytest.approx(SLACK * 30.0)
