"""The bounds from a sample and the least of many, against a sort; and the spans that vectors are gone through in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.sparsifier.comparison import TINY
from p2pdl.sparsifier.greatest import bounds, least, stride_for
from p2pdl.sparsifier.spans import PIECE, entries_in, pieces, trained_spans, untrained_indices, variable_spans
from tests.sparsifier.vectors import LARGE, SMALL, trained


def uniform(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(size).astype(np.float32)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.5, 0.999])
def test_bounds_of_samples_hold_the_kth_of_all(share: float) -> None:
    values = uniform(200_000, 0)
    kth = np.sort(values)[values.size - int(share * values.size)]
    for seed in range(100):
        sample = np.random.default_rng(seed).choice(values, 4000, replace=False)
        low, high = bounds(sample, share * sample.size)
        assert TINY <= low <= kth < high


def test_bounds_leave_few_between_them() -> None:
    values = uniform(1_000_000, 1)
    low, high = bounds(values[::101], 0.1 * values[::101].size)
    assert np.count_nonzero((values >= low) & (values < high)) < 0.03 * values.size


@given(size=st.integers(0, 60), expected=st.floats(0.0, 60.0))
def test_bounds_any_sample_are_above_zero_and_in_order(size: int, expected: float) -> None:
    low, high = bounds(uniform(size, size), min(expected, size))
    assert TINY <= low <= high


@given(size=st.integers(1, 300), seed=st.integers(0, 99), data=st.data())
def test_least_whatever_the_bound_equals_a_sort(size: int, seed: int, data: st.DataObject) -> None:
    values = np.round(uniform(size, seed) * 20).astype(np.float32)
    count = data.draw(st.integers(1, size))
    places = least(values, count, np.float32(data.draw(st.sampled_from([0.0, 3.0, 10.0, np.inf]))))
    assert np.unique(places).size == count
    np.testing.assert_array_equal(np.sort(values[places]), np.sort(values)[:count])


@given(entries=st.integers(0, 10**9))
def test_stride_is_odd_and_samples_grow_with_the_root(entries: int) -> None:
    stride = stride_for(entries)
    assert stride % 2 == 1
    if entries >= 4096:
        assert 0.8 < entries / stride / (10 * entries**0.5) < 1.7


@pytest.mark.parametrize("spec", [SMALL, LARGE], ids=["small", "large"])
def test_spans_cover_the_trained_entries_once(spec: object) -> None:
    mask = trained(spec)  # type: ignore[arg-type]
    for spans in (variable_spans(spec), trained_spans(spec), pieces(trained_spans(spec))):  # type: ignore[arg-type]
        counts = np.zeros(mask.size, np.int64)
        for span in spans:
            assert span.start < span.stop
            counts[span] += 1
        np.testing.assert_array_equal(counts, mask)
        assert entries_in(spans) == mask.sum()
    assert all(piece.stop - piece.start <= PIECE for piece in pieces(trained_spans(spec)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(untrained_indices(spec), np.flatnonzero(~mask))  # type: ignore[arg-type]


def test_trained_spans_without_a_gap_are_one() -> None:
    assert len(variable_spans(SMALL)) == 4
    assert [(span.start, span.stop) for span in trained_spans(SMALL)] == [(0, 35), (64, 81), (96, 128)]
