"""The window's cost: what is timed does what it should, and what is concluded of figures made by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from experiments.harness.experiment import Size
from experiments.tsai_window import Minimum, conclude, held, order, timed
from p2pdl.synchronisation import SlidingWindow


@pytest.mark.parametrize("workers, length", [(1, 1), (3, 1), (5, 4), (40, 4)])
def test_orders_are_those_that_the_window_admits(workers: int, length: int) -> None:
    clocks = order(workers, length, 500)
    window, minimum = SlidingWindow(length), Minimum(length)
    at = Counter({0: workers})
    for _ in range(workers):
        window.join()
        minimum.join()
    for clock in clocks:
        assert at[clock]
        assert window.admits(clock) and minimum.admits(clock)
        window.push(clock)
        minimum.push(clock)
        at[clock] -= 1
        at[clock + 1] += 1
        for other in range(window.low, window.low + length + 1):
            assert window.admits(other) == minimum.admits(other)
    assert len(clocks) == 500 and window.low == min(clock for clock, count in at.items() if count)


def test_memory_grows_with_the_workers_where_all_clocks_are_kept() -> None:
    def memory(subject: SlidingWindow | Minimum, workers: int) -> int:
        timed(subject, workers, order(workers, 4, 100))
        return held(subject)

    assert memory(SlidingWindow(4), 1000) == memory(SlidingWindow(4), 2)
    assert memory(Minimum(4), 1000) > 8000


def test_a_window_may_be_flat_and_the_other_not() -> None:
    figures = {
        "workers": [1, 1000, 10_000],
        "microseconds": {"window-1": [0.5, 0.6, 2.0], "window-4": [0.7, 0.5, 0.6], "minimum": [0.2, 15.0, 150.0]},
        "bytes": {"window-1": [200, 200, 200], "window-4": [220, 230, 220], "minimum": [100, 8000, 80_000]},
    }
    done = conclude(Size.SMALL, {"workers": figures})
    assert [promise.holds for promise in done.promises] == [True, True, False, False]
    assert [float(promise.found) for promise in done.promises] == pytest.approx([1.2, 1.0, 1.4, 230 / 220], rel=1e-3)
    assert "0.50 to 0.70 microseconds" in done.sentence and "takes 150 with 10,000" in done.sentence
    assert done.charts[0].series[2].y == [0.2, 15.0, 150.0] and done.tables[0].rows[1][0] == "1,000"


def test_nothing_is_decided_before_it_is_measured() -> None:
    assert [promise.holds for promise in conclude(Size.PAPER, {}).promises] == [None] * 4
    assert not conclude(Size.SMOKE, {}).promises
