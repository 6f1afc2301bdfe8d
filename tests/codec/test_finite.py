"""The quick look for values that are not finite against the look at each of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2pdl.codec import is_finite
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector

VALUES = st.one_of(st.floats(width=32), st.sampled_from([3e38, -3e38, np.inf, -np.inf, np.nan]))


@given(values=hnp.arrays(np.float32, st.integers(1, 300), elements=VALUES))
def test_is_finite_any_values_agrees_with_numpy(values: Float32Vector) -> None:
    with np.errstate(all="raise"):
        assert is_finite(values) is bool(np.isfinite(values).all())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 12345, SHARD_ELEMENTS - 1])
def test_is_finite_one_bad_value_in_a_shard_is_found(bad: float, place: int) -> None:
    values = np.random.default_rng(0).standard_normal(SHARD_ELEMENTS).astype(np.float32)
    values[place] = bad
    assert not is_finite(values)


def test_is_finite_sum_that_overflows_is_no_bad_value() -> None:
    assert is_finite(np.full(1000, 3e38, np.float32))
    assert is_finite(np.array([3e38, 3e38, -3e38, -3e38], np.float32))
    assert is_finite(np.repeat(np.array([3e38, -3e38], np.float32), 500))


def test_is_finite_bad_values_do_not_cancel() -> None:
    for size in (2, 3, 17, 64, 1000):
        values = np.ones(size, np.float32)
        values[0], values[-1] = np.inf, -np.inf
        assert not is_finite(values)
