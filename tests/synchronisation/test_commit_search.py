"""The search of the number of commits: curves with a known best, noise, too few losses, and the fit by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from p2pdl.synchronisation import CommitSearch
from p2pdl.synchronisation.loss_curve import Losses, speeds


def run(
    search: CommitSearch,
    speed: Callable[[int], float],
    *,
    seconds: float,
    every: float = 0.5,
    noise: float = 0.0,
    seed: int = 0,
    floor: float = 0.1,
) -> list[int]:
    """Train along 1 / u + floor, where u grows by speed(commits) a second; returns the targets over time."""
    rng, u, targets = np.random.default_rng(seed), 0.45, []
    for now in np.arange(0.0, seconds, every):
        targets.append(search.target(float(now)))
        u += every * speed(targets[-1])
        search.observe(1.0 / u + floor + noise * float(rng.normal()), float(now))
    return targets


@pytest.mark.parametrize("best", [1, 3, 6])
@pytest.mark.parametrize("first", [1, 3, 8])
@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_search_speed_with_one_best_ends_at_it_or_next_to_it(best: int, first: int, noise: float) -> None:
    search = CommitSearch(window=30.0, period=1e6, first=first)
    targets = run(search, lambda commits: 0.004 / (1 + 0.15 * (commits - best) ** 2), seconds=400, noise=noise)
    assert not search.searching
    assert abs(targets[-1] - best) <= 1
    assert noise or targets[-1] == best


def test_search_begins_again_each_period_and_follows_a_change() -> None:
    search = CommitSearch(window=20.0, period=300.0, first=2)
    asked = 0

    def speed(commits: int) -> float:
        nonlocal asked
        asked += 1
        best = 4 if asked < 580 else 2
        return 0.003 / (1 + 0.2 * (commits - best) ** 2)

    targets = run(search, speed, seconds=590)
    assert set(targets[400:590]) == {4}
    assert targets[-1] == 2
    assert not search.searching
    assert search.target(600.0) == 2
    assert search.searching


def test_search_does_not_pass_its_limits() -> None:
    assert max(run(CommitSearch(20.0, 1e6, first=2, greatest=4), lambda commits: 0.002 * commits, seconds=300)) == 4
    down = run(CommitSearch(20.0, 1e6, first=3, greatest=3), lambda commits: 0.02 / commits, seconds=300)
    assert (max(down), min(down), down[-1]) == (3, 1, 1)


def test_search_without_enough_losses_waits_for_them() -> None:
    search = CommitSearch(window=10.0, period=100.0, first=2)
    for now in (0.0, 500.0, 1000.0):
        search.observe(1.0, now)
        search.observe(math.nan, now)
        search.observe(math.inf, now)
        assert search.target(now + 100.0) == 2
    search.observe(0.9, 1200.0)
    assert search.target(1201.0) == 3


@pytest.mark.parametrize("losses", [[1.0] * 50, [1e308, -1e308] * 25, [5e-324, 0.0] * 25, [1e300, 1.0] * 25])
def test_search_odd_losses_keep_a_valid_target(losses: list[float]) -> None:
    search = CommitSearch(window=5.0, period=10.0, first=2, greatest=3)
    for now in range(200):
        search.observe(losses[now % 50], float(now))
        assert 1 <= search.target(float(now)) <= 3


def test_search_loss_that_only_wavers_stays_near_the_first_number() -> None:
    finals = [
        run(CommitSearch(30.0, 1e6, first=5), lambda commits: 0.0, seconds=400, noise=0.05, seed=seed)[-1]
        for seed in range(20)
    ]
    assert 3 <= np.mean(finals) <= 7


@pytest.mark.parametrize("slope, offset, floor", [(0.01, 0.4, 0.1), (0.5, 2.0, 1.5), (0.0001, 1.0, 0.0)])
def test_speeds_exact_curve_has_its_speed_in_every_window(slope: float, offset: float, floor: float) -> None:
    windows = []
    for start in (0.0, 40.0, 80.0):
        window = Losses(start, 40.0)
        for now in np.linspace(start, start + 39.9, 400):
            window.observe(1.0 / (slope * now + offset) + floor, float(now))
        assert len(window) == 24
        windows.append(window)
    fitted = speeds(windows)
    # a3 comes from a grid, and a speed depends on it: their ratio is what has to be right.
    for speed in fitted:
        assert speed.value == pytest.approx(slope, rel=0.1)
        assert speed.value == pytest.approx(fitted[0].value, rel=0.02)
        assert speed.value > 10 * speed.error


def test_speeds_of_rising_and_constant_losses() -> None:
    rising, constant = Losses(0.0, 10.0), Losses(0.0, 10.0)
    for now in range(10):
        rising.observe(1.0 + now, float(now))
        constant.observe(1.0, float(now))
    assert speeds([rising])[0].value < 0.0
    assert speeds([constant])[0].value == 0.0


def test_speeds_too_few_points_are_refused() -> None:
    window = Losses(0.0, 10.0)
    window.observe(1.0, 0.0)
    with pytest.raises(ValueError, match="4 points, not 1"):
        speeds([window])


@pytest.mark.parametrize(
    "window, period, first, greatest", [(0, 1, 1, 2), (1, math.inf, 1, 2), (1, 1, 0, 2), (1, 1, 3, 2)]
)
def test_search_wrong_settings_are_refused(window: float, period: float, first: int, greatest: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        CommitSearch(window, period, first, greatest)
