"""The bound from a sample and the greatest of many, against a sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.codec.greatest import TINY, greatest, lower_bound


def uniform(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(size).astype(np.float32)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.5, 0.999])
def test_bound_of_samples_is_reached_by_the_greatest_of_all(share: float) -> None:
    values = uniform(200_000, 0)
    kth = np.sort(values)[values.size - int(share * values.size)]
    for seed in range(100):
        sample = np.random.default_rng(seed).choice(values, 4000, replace=False)
        assert TINY <= lower_bound(sample, share * sample.size) <= kth


def test_bound_is_reached_by_few_more() -> None:
    values = uniform(1_000_000, 1)
    bound = lower_bound(values[::101], 0.1 * values[::101].size)
    assert 0.1 * values.size <= np.count_nonzero(values >= bound) < 0.115 * values.size


@given(size=st.integers(0, 60), expected=st.floats(0.0, 60.0))
def test_bound_any_sample_is_above_zero(size: int, expected: float) -> None:
    assert lower_bound(uniform(size, size), min(expected, size)) >= TINY


@given(size=st.integers(0, 300), levels=st.sampled_from([1, 2, 20, 10**6]), seed=st.integers(0, 99), data=st.data())
def test_greatest_equals_a_sort_that_leaves_equal_ones_in_order(
    size: int, levels: int, seed: int, data: st.DataObject
) -> None:
    values = np.round(uniform(size, seed) * levels).astype(np.float32)
    count = data.draw(st.integers(0, size + 2))
    expected = np.sort(np.argsort(-values, kind="stable")[:count])
    np.testing.assert_array_equal(greatest(values, count), expected)
