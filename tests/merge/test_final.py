"""The running average against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.merge import WeightedAverage
from p2pdl.types import Float32Vector


def average(models: list[Float32Vector], samples: list[int]) -> Float32Vector:
    running = WeightedAverage(models[0].size)
    for model, count in zip(models, samples, strict=True):
        running.add(model, count)
    return running.result()


@settings(deadline=None)
@given(samples=st.lists(st.integers(0, 10**6), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_result_any_samples_equals_float64_average(samples: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    models = [rng.standard_normal(33).astype(np.float32) for _ in samples]
    weights = samples if any(samples) else [1] * len(samples)
    expected = np.average(np.asarray(models, np.float64), axis=0, weights=weights)
    result = average(models, samples)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_result_more_than_one_piece_equals_float64_average() -> None:
    rng = np.random.default_rng(0)
    size = 2 * (1 << 18) + 17
    models = [rng.standard_normal(size, np.float32) for _ in range(3)]
    expected = np.average(np.asarray(models, np.float64), axis=0, weights=[1, 2, 5])
    np.testing.assert_allclose(average(models, [1, 2, 5]), expected, atol=1e-6)


def test_result_same_order_is_the_same_to_the_bit() -> None:
    rng = np.random.default_rng(1)
    models = [rng.standard_normal(1000, np.float32) for _ in range(5)]
    samples = [700, 0, 31, 4096, 1]
    np.testing.assert_array_equal(average(models, samples), average(models, samples))


@given(
    variances=st.lists(st.floats(0.0, 2.0**100, width=32), min_size=1, max_size=6),
    counts=st.lists(st.integers(0, 10**6), min_size=6, max_size=6),
)
def test_result_of_variances_is_never_negative(variances: list[float], counts: list[int]) -> None:
    models = [np.array([variance], np.float32) for variance in variances]
    assert average(models, counts[: len(models)])[0] >= 0.0


def test_result_models_without_samples_count_only_among_themselves() -> None:
    ones, threes, nines = (np.full(4, value, np.float32) for value in (1, 3, 9))
    np.testing.assert_array_equal(average([ones, threes], [0, 0]), np.full(4, 2.0))
    np.testing.assert_array_equal(average([ones, threes, nines], [0, 0, 5]), nines)
    np.testing.assert_array_equal(average([nines, ones, threes], [5, 0, 0]), nines)


def test_result_is_a_copy_that_later_models_do_not_change() -> None:
    running = WeightedAverage(2)
    model = np.array([1, 2], np.float32)
    running.add(model, 1)
    first = running.result()
    running.add(np.array([3, 4], np.float32), 1)
    np.testing.assert_array_equal(first, [1, 2])
    np.testing.assert_array_equal(model, [1, 2])
    np.testing.assert_array_equal(running.result(), [2, 3])


def test_result_of_no_models_is_refused() -> None:
    with pytest.raises(ValueError, match="no models"):
        WeightedAverage(3).result()


def test_add_wrong_shape_or_negative_samples_is_refused() -> None:
    running = WeightedAverage(3)
    with pytest.raises(ValueError, match="does not fit"):
        running.add(np.zeros(4, np.float32), 1)
    with pytest.raises(ValueError, match="-1 samples"):
        running.add(np.zeros(3, np.float32), -1)
