"""The spans that vectors are gone through in, and how far apart the entries of a sample are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.sparsifier.sampling import stride_for
from p2pdl.sparsifier.spans import PIECE, entries_in, pieces, trained_spans, untrained_indices, variable_spans
from tests.sparsifier.vectors import LARGE, SMALL, trained


@given(entries=st.integers(0, 10**9), roots=st.integers(2, 10))
def test_stride_is_odd_and_samples_grow_with_the_root(entries: int, roots: int) -> None:
    stride = stride_for(entries, roots)
    assert stride % 2 == 1
    if entries >= 4096:
        assert 0.8 < entries / stride / (roots * entries**0.5) < 1.7


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
