"""The sparsifiers against plain numpy, and the means of variables that lie in several shards."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2pdl.codec.layer_means import LayerMeans
from p2pdl.codec.sparsifier import SPARSIFIERS, Layer
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.types import Float32Vector

MAGNITUDES = hnp.arrays(np.float32, st.integers(1, 400), elements=st.floats(0.0, 1e6, width=32))
DENSITIES = st.sampled_from([0.001, 0.01, 0.1, 0.5, 1.0])


def normal(size: int, seed: int = 0) -> Float32Vector:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def check_top(magnitudes: Float32Vector, count: int, kept: np.ndarray) -> None:
    assert (np.diff(kept) > 0).all()
    assert kept.size == min(count, np.count_nonzero(magnitudes))
    greatest = np.sort(magnitudes)[::-1][: kept.size]
    np.testing.assert_array_equal(np.sort(magnitudes[kept])[::-1], greatest)


@pytest.mark.parametrize("name", SPARSIFIERS)
@given(magnitudes=MAGNITUDES, density=DENSITIES)
def test_select_any_magnitudes_is_ascending_repeatable_and_never_zero(
    name: str, magnitudes: Float32Vector, density: float
) -> None:
    sparsifier = SPARSIFIERS[name](density)
    layers = [Layer(slice(0, magnitudes.size), float(magnitudes.mean(dtype=np.float64)))]
    kept = sparsifier.select(magnitudes, magnitudes.size, layers)
    assert (np.diff(kept) > 0).all()
    assert magnitudes[kept].all()
    assert kept.size or not magnitudes.any()
    np.testing.assert_array_equal(sparsifier.select(magnitudes, magnitudes.size, layers), kept)


@given(magnitudes=MAGNITUDES, density=DENSITIES)
def test_select_top_k_small_shard_equals_a_sort(magnitudes: Float32Vector, density: float) -> None:
    kept = SPARSIFIERS["top-k"](density).select(magnitudes, magnitudes.size, ())
    check_top(magnitudes, ceil(density * magnitudes.size), kept)


def periodic(size: int) -> Float32Vector:
    magnitudes = np.abs(normal(size))
    magnitudes[::31] += 100
    return magnitudes


def hidden(size: int) -> Float32Vector:
    magnitudes = np.abs(normal(size)) + 1
    magnitudes[::31] = 1e-6
    magnitudes[31 * 50 : 31 * 250 : 31] = 1e6
    return magnitudes


@pytest.mark.parametrize("density", [0.001, 0.01, 0.05, 0.4, 1.0])
@pytest.mark.parametrize(
    "magnitudes",
    [
        np.abs(normal(SHARD_ELEMENTS)),
        np.exp(5 * normal(SHARD_ELEMENTS)),
        np.ones(SHARD_ELEMENTS, np.float32),
        np.where(np.arange(SHARD_ELEMENTS) % 1000 == 7, np.float32(1), np.float32(0)),
        np.sort(np.abs(normal(SHARD_ELEMENTS))),
        periodic(SHARD_ELEMENTS),
        hidden(SHARD_ELEMENTS),
        np.zeros(SHARD_ELEMENTS, np.float32),
    ],
    ids=["normal", "log-normal", "equal", "sparse", "sorted", "sampled-are-great", "sampled-mislead", "zero"],
)
def test_select_top_k_whole_shard_equals_a_sort(magnitudes: Float32Vector, density: float) -> None:
    kept = SPARSIFIERS["top-k"](density).select(magnitudes, magnitudes.size, ())
    check_top(magnitudes, ceil(density * magnitudes.size), kept)


@settings(deadline=None)
@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_select_mean_threshold_equals_formula_layer_by_layer(seed: int, scale: float) -> None:
    magnitudes = np.abs(normal(1000, seed)) * np.float32(scale)
    spans = [slice(0, 300), slice(304, 305), slice(320, 990)]
    layers = [Layer(span, float(magnitudes[span].mean(dtype=np.float64))) for span in spans]
    expected = [span.start + np.flatnonzero(magnitudes[span] >= magnitudes[span].mean()) for span in spans]
    kept = SPARSIFIERS["mean-threshold"](0.0).select(magnitudes, 1000, layers)
    np.testing.assert_array_equal(kept, np.concatenate(expected))


@given(value=st.floats(2.0**-149, 2.0**127, width=32), size=st.integers(1, 300))
def test_select_mean_threshold_equal_entries_are_all_kept(value: float, size: int) -> None:
    magnitudes = np.full(size, value, np.float32)
    layers = [Layer(slice(0, size), float(magnitudes.mean(dtype=np.float64)))]
    assert SPARSIFIERS["mean-threshold"](0.0).select(magnitudes, size, layers).size == size


SPANS = [slice(0, 100), slice(112, SHARD_ELEMENTS + 5000), slice(SHARD_ELEMENTS + 5008, 2 * SHARD_ELEMENTS + 77)]
SIZE = 2 * SHARD_ELEMENTS + 80


def test_means_of_variables_over_shards_equal_numpy_in_whatever_order_shards_change() -> None:
    vector, copy = normal(SIZE), normal(SIZE, 1)
    expected = [np.abs(vector[span].astype(np.float64) - copy[span]).mean() for span in SPANS]
    for order in ([0, 1, 2], [2, 0, 1]):
        means, held = LayerMeans(SPANS, 3), copy.copy()
        found: dict[int, list[float]] = {}
        for number in order:
            layers = means.of_shard(number, vector, held, [1, 1, 1], "version", False)
            found[number] = [layer.mean for layer in layers]
            shard = slice(number * SHARD_ELEMENTS, (number + 1) * SHARD_ELEMENTS)
            held[shard] = vector[shard]
        np.testing.assert_allclose(found[0], expected[:2], rtol=1e-6)
        np.testing.assert_allclose(found[1], expected[1:], rtol=1e-6)
        np.testing.assert_allclose(found[2], expected[2:], rtol=1e-6)


def test_means_spans_are_those_of_the_shard() -> None:
    vector, means = np.zeros(SIZE, np.float32), LayerMeans(SPANS, 3)
    spans = [[layer.span for layer in means.of_shard(n, vector, vector, [1, 1, 1], 0, False)] for n in range(3)]
    assert spans == [
        [slice(0, 100), slice(112, SHARD_ELEMENTS)],
        [slice(0, 5000), slice(5008, SHARD_ELEMENTS)],
        [slice(0, 77)],
    ]


def test_means_count_only_shards_that_the_copy_has() -> None:
    vector, copy = normal(SIZE), np.zeros(SIZE, np.float32)
    copy[:SHARD_ELEMENTS] = vector[:SHARD_ELEMENTS] - 1
    layers = LayerMeans(SPANS, 3).of_shard(0, vector, copy, [1, 0, 0], 0, False)
    assert [layer.mean for layer in layers] == pytest.approx([1.0, 1.0], rel=1e-6)


def test_means_are_taken_anew_for_a_new_version_and_for_a_second_pull_but_not_for_a_repetition() -> None:
    vector, copy = np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32)
    means = LayerMeans(SPANS, 3)

    def mean(version: int, whole: bool) -> float:
        return means.of_shard(2, vector, copy, [1, 1, 1], version, whole)[0].mean

    assert mean(1, False) == 1.0
    copy[:] = 0.5
    assert mean(1, True) == 1.0
    assert mean(1, False) == 0.5
    copy[:] = 0.75
    assert mean(2, True) == 0.25


def test_means_of_differences_beyond_float32_are_finite() -> None:
    vector, copy = np.full(SIZE, 3e38, np.float32), np.full(SIZE, -3e38, np.float32)
    layers = LayerMeans(SPANS, 3).of_shard(0, vector, copy, [1, 1, 1], 0, False)
    assert [layer.mean for layer in layers] == pytest.approx([6e38, 6e38], rel=1e-6)
