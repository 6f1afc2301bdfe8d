"""The sliding window against a plain list of clocks, its size, and what it refuses."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.errors import PeerRefused
from p2pdl.synchronisation import SlidingWindow

MOVES = st.lists(st.tuples(st.sampled_from(["join", "push", "push", "push", "push", "leave"]), st.integers(0, 30)))


@given(length=st.integers(1, 6), moves=MOVES)
def test_bounded_any_moves_equals_list_of_clocks(length: int, moves: list[tuple[str, int]]) -> None:
    window, clocks, low = SlidingWindow(length), list[int](), 0
    for move, number in moves:
        place = number % len(clocks) if clocks else None
        if move == "join":
            clocks.append(window.join())
            assert clocks[-1] == low
        elif place is None:
            continue
        elif move == "push":
            if not window.admits(clocks[place]):
                with pytest.raises(PeerRefused):
                    window.push(clocks[place])
                continue
            window.push(clocks[place])
            clocks[place] += 1
        else:
            window.leave(clocks.pop(place))
        low = min(clocks, default=low)
        assert (window.low, window.high, window.workers) == (low, low + length, len(clocks))
        assert window.waiting == sum(clock == low + length for clock in clocks)
        assert [window.admits(clock) for clock in range(low - 1, low + length + 1)] == [False, *[True] * length, False]


@settings(max_examples=60, deadline=None)
@given(speeds=st.lists(st.integers(1, 60), min_size=1, max_size=6), leaver=st.integers(0, 5))
def test_unbounded_any_speeds_low_lags_less_than_stated(speeds: list[int], leaver: int) -> None:
    window = SlidingWindow(None)
    clocks, low, spread = [window.join() for _ in speeds], 0, 0
    for _ in range(30):
        for worker, speed in enumerate(speeds):
            for _ in range(speed):
                window.push(clocks[worker])
                clocks[worker] += 1
            spread = max(spread, max(clocks) - min(clocks))
        assert low <= window.low <= min(clocks)
        assert min(clocks) - window.low <= (spread / 31 if spread >= 63 else 0)
        assert window.admits(max(clocks)) and window.high is None and window.waiting == 0
        low = window.low
    for clock in [clocks.pop(leaver % len(clocks)), *clocks]:
        window.leave(clock)
        assert window.low >= low
        low = window.low
    assert window.join() == low
    window.push(low)
    assert window.low == low + 1


@pytest.mark.parametrize("length", [1, 4, None])
def test_size_does_not_grow_with_workers_or_spread(length: int | None) -> None:
    def counters(workers: int) -> tuple[int, int]:
        window = SlidingWindow(length)
        clocks = [window.join() for _ in range(workers)]
        for turn in range(3000):
            place = turn % 7 % workers
            if window.admits(clocks[place]):
                window.push(clocks[place])
                clocks[place] += 1
        held = window._counts
        return len(held), sys.getsizeof(held)

    assert counters(1) == counters(10_000)
    assert counters(1)[0] == (64 if length is None else length + 1)


def test_push_outside_the_window_is_refused_and_changes_nothing() -> None:
    window = SlidingWindow(2)
    slow, fast = window.join(), window.join()
    for clock in (fast, fast + 1):
        window.push(clock)
    for clock in (-1, 2, 3, 100):
        with pytest.raises(PeerRefused, match=f"iteration {clock} .* 0 to 1") as caught:
            window.push(clock)
        assert caught.value.code == "outside-window"
        assert caught.value.remedy
    assert window.waiting == 1
    window.push(slow)
    assert (window.low, window.high, window.waiting) == (1, 3, 0)


@pytest.mark.parametrize("length", [3, None])
def test_clock_at_which_nobody_is_is_an_error(length: int | None) -> None:
    window = SlidingWindow(length)
    window.join()
    with pytest.raises(ValueError, match="no worker is at iteration 1"):
        window.push(1)
    for clock in (-1, 1, 1000):
        with pytest.raises(ValueError, match=f"no worker is at iteration {clock}"):
            window.leave(clock)


def test_length_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        SlidingWindow(0)
