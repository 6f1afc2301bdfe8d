"""The merge of two vectors against its formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2pdl.merge import merge
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector

VALUES = st.floats(-1e3, 1e3, width=32)
VARIANCES = st.floats(0.0, 2.0**100, width=32)
SHARES = st.floats(0.0, 1.0)


def vectors(size: int, elements: st.SearchStrategy[float] = VALUES) -> st.SearchStrategy[Float32Vector]:
    return hnp.arrays(np.float32, size, elements=elements)


@given(own=vectors(9), base=vectors(9), peer=vectors(9), weight=SHARES)
def test_merge_any_vectors_equals_float64_formula(
    own: Float32Vector, base: Float32Vector, peer: Float32Vector, weight: float
) -> None:
    merged = merge(own, base, peer, weight, state_spans=(slice(2, 4), slice(7, 9)))
    x, x0, y = (vector.astype(np.float64) for vector in (own, base, peer))
    expected = x + weight * (y - x0)
    for span in (slice(2, 4), slice(7, 9)):
        expected[span] = (1 - weight) * x[span] + weight * y[span]
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-3)


@given(own=vectors(5, VARIANCES), base=vectors(5, VARIANCES), peer=vectors(5, VARIANCES), weight=SHARES)
def test_merge_statistics_stay_between_both_sides(
    own: Float32Vector, base: Float32Vector, peer: Float32Vector, weight: float
) -> None:
    merged = merge(own, base, peer, weight, state_spans=(slice(0, 5),))
    assert (merged >= 0).all()
    slack = 1e-6 * np.maximum(own, peer)
    assert (merged >= np.minimum(own, peer) - slack).all()
    assert (merged <= np.maximum(own, peer) + slack).all()


def test_merge_local_progress_survives_whole_adoption() -> None:
    base = np.array([1, 2, 3], np.float32)
    peer = np.array([10, 20, 30], np.float32)
    progress = np.array([0.5, -0.5, 0], np.float32)
    np.testing.assert_array_equal(merge(base + progress, base, peer, 1.0), peer + progress)
    np.testing.assert_array_equal(merge(base, base, peer, 0.0), base)


def test_merge_inputs_and_padding_are_left_alone() -> None:
    spec = WeightSpec.layout([("kernel", (3,), "float32", True), ("variance", (2,), "float32", False)])
    own, base, peer = (np.zeros(spec.size, np.float32) for _ in range(3))
    own[:3], base[:3], peer[:3] = 3, 1, 2
    own[16:18], base[16:18], peer[16:18] = 3, 100, 1
    before = [vector.copy() for vector in (own, base, peer)]
    merged = merge(own, base, peer, 0.5, spec.state_spans)
    np.testing.assert_array_equal(merged[:3], np.full(3, 3.5))
    np.testing.assert_array_equal(merged[16:18], np.full(2, 2.0))
    assert not merged[3:16].any()
    assert not merged[18:].any()
    for vector, copy in zip((own, base, peer), before, strict=True):
        np.testing.assert_array_equal(vector, copy)


def test_merge_different_shapes_are_refused() -> None:
    three, four = np.zeros(3, np.float32), np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="cannot be merged"):
        merge(three, three, four, 0.5)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_merge_weight_no_share_is_refused(weight: float) -> None:
    vector = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="between 0 and 1"):
        merge(vector, vector, vector, weight)
