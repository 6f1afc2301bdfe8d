"""The weighted draw against its chances, and the boundary of the least hidden weights against a sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.sparsifier.displacement import Displacement
from p2pdl.sparsifier.spans import PIECE, pieces
from p2pdl.sparsifier.weighted_draw import WeightedDraw, chance_factor


@given(
    weights=st.lists(st.integers(1, 1000), min_size=1, max_size=80),
    fraction=st.floats(0.001, 1.0),
)
def test_chances_add_up_to_the_fraction(weights: list[int], fraction: float) -> None:
    vector = np.array(weights, np.float32)
    chances = np.minimum(chance_factor(vector, fraction) * vector.astype(np.float64), 1.0)
    assert chances.sum() == pytest.approx(fraction * vector.size)


def test_chance_factor_known_weights() -> None:
    assert chance_factor(np.ones(10, np.float32), 0.3) == pytest.approx(0.3)
    # Three are wanted, and one is certain: the other two of nine equal ones.
    assert chance_factor(np.array([100.0] + [1.0] * 9, np.float32), 0.3) == pytest.approx(2 / 9)


def draws(hidden: np.ndarray, fraction: float, times: int) -> np.ndarray:
    """How often each coordinate is drawn, as a share."""
    draw = WeightedDraw([slice(0, hidden.size)], fraction, np.random.SFC64(7))
    factor, selected, counts = draw.factor(hidden), np.empty(hidden.size, np.bool_), np.zeros(hidden.size)
    for _ in range(times):
        draw.draw(hidden, factor, selected)
        counts += selected
    return counts / times


@pytest.mark.parametrize("fraction", [0.0003, 0.02, 0.5])
def test_draw_frequencies_are_in_proportion_to_hidden_plus_one(fraction: float) -> None:
    hidden = np.tile(np.array([0, 0, 0, 1, 3], np.float32), 800)
    counts, times = draws(hidden, fraction, 1500).reshape(-1, 5).mean(axis=0), 1500
    expected = np.minimum(chance_factor(hidden + 1, fraction) * np.array([1, 1, 1, 2, 4]), 1.0)
    error = np.sqrt(expected * (1 - expected) / (times * 800))
    # The rounding of the thresholds is shared by a piece, which adds at most half a step of 1 / 65536 a draw.
    assert (np.abs(counts - expected) <= 4.5 * error + 4.5 * 2**-17 / np.sqrt(times)).all()


def test_draw_of_all_is_all_and_certain_ones_are_always_drawn() -> None:
    assert (draws(np.arange(500, dtype=np.float32), 1.0, 50) == 1.0).all()
    hidden = np.zeros(300, np.float32)
    hidden[17] = 1e6
    assert draws(hidden, 0.1, 200)[17] == 1.0


def test_draw_of_many_is_the_fraction_on_average_and_has_no_pattern() -> None:
    selected = np.empty(PIECE, np.bool_)
    draw = WeightedDraw([slice(0, 4 * PIECE)], 0.25, np.random.SFC64(0))
    hidden = np.zeros(4 * PIECE, np.float32)
    draw.draw(hidden[:PIECE], draw.factor(hidden), selected)
    assert selected.mean() == pytest.approx(0.25, abs=4.5 * np.sqrt(0.25 * 0.75 / PIECE))
    for lag in (1, 2, 3, 4, 5, 64, 512):
        together = (selected[lag:] & selected[:-lag]).mean()
        assert together == pytest.approx(0.0625, abs=5 * np.sqrt(0.0625 / PIECE))


def check_boundary(hidden: np.ndarray, selected: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Who gives way: `count` selected ones of the least hidden weights."""
    spans = [slice(0, hidden.size)]
    displacement = Displacement(spans, pieces(spans), np.random.SFC64(seed))
    boundary = displacement.boundary(hidden, selected, count, int(selected.sum()))
    gone = selected & (hidden < boundary.weight)
    gone[np.flatnonzero(selected & (hidden == boundary.weight))[boundary.ties]] = True
    assert gone.sum() == count
    np.testing.assert_array_equal(np.sort(hidden[gone]), np.sort(hidden[selected])[:count])
    return gone


@settings(max_examples=100)
@given(size=st.integers(1, 200), levels=st.sampled_from([1, 2, 10, 100_000]), seed=st.integers(0, 999), data=st.data())
def test_boundary_small_vector_equals_a_sort(size: int, levels: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    hidden, selected = rng.integers(0, levels, size).astype(np.float32), rng.random(size) < 0.6
    selected[0] = True
    check_boundary(hidden, selected, data.draw(st.integers(1, int(selected.sum()))), seed)


@pytest.mark.parametrize("levels", [1, 3, 200, 1_000_000])
@pytest.mark.parametrize("share", [0.0001, 0.1, 0.9, 1.0])
def test_boundary_large_vector_equals_a_sort(levels: int, share: float) -> None:
    rng = np.random.default_rng(1)
    hidden, selected = rng.integers(0, levels, 150_000).astype(np.float32), rng.random(150_000) < 0.2
    check_boundary(hidden, selected, max(int(share * selected.sum()), 1), 0)


def test_boundary_sample_that_finds_nothing_equals_a_sort() -> None:
    hidden, selected = np.arange(50_000, dtype=np.float32) % 1000, np.zeros(50_000, np.bool_)
    selected[[30_001, 30_002, 30_500]] = True
    for count in (1, 2, 3):
        check_boundary(hidden, selected, count, 0)


def test_boundary_ties_give_way_evenly_and_each_with_the_same_chance() -> None:
    hidden, selected, counts = np.zeros(40, np.float32), np.ones(40, np.bool_), np.zeros(40)
    for seed in range(2000):
        gone = check_boundary(hidden, selected, 10, seed)
        assert (gone.reshape(4, 10).sum(axis=1) >= 2).all()
        counts += gone
    np.testing.assert_allclose(counts / 2000, 0.25, atol=4.5 * np.sqrt(0.25 * 0.75 / 2000))
