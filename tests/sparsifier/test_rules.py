"""The rules by magnitude against plain numpy, step after step."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.sparsifier import make_sparsifier
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector
from tests.sparsifier.vectors import LARGE, SMALL, gradients, normal, trained

STEPS = st.lists(gradients(), min_size=1, max_size=5)
RESIDUAL = pytest.mark.parametrize("residual", [False, True])
GREATEST = float(np.finfo(np.float32).max)


def add(gradient: Float32Vector, residual: Float32Vector | None) -> Float32Vector:
    if residual is None:
        return gradient
    with np.errstate(over="ignore"):
        return np.clip(gradient + residual, -GREATEST, GREATEST)


def spans(spec: WeightSpec) -> list[slice]:
    return [variable.span for variable in spec.variables if variable.trainable and variable.size]


def test_none_gradient_that_is_zero_elsewhere_is_sent_without_a_copy() -> None:
    gradient = normal(SMALL, 0) * trained(SMALL)
    values = make_sparsifier("none", SMALL, 0).select(gradient, 1.0).values
    assert np.shares_memory(values, gradient)
    np.testing.assert_array_equal(values, gradient)


def test_none_gradient_that_is_not_is_sent_without_what_is_not_trained() -> None:
    gradient = normal(SMALL, 0)
    selection = make_sparsifier("none", SMALL, 0).select(gradient, 1.0)
    np.testing.assert_array_equal(selection.values, gradient * trained(SMALL))


@RESIDUAL
@settings(max_examples=25)
@given(steps=STEPS, threshold=st.sampled_from([1e-20, 0.3, 1.0, 3e38]))
def test_threshold_equals_formula(residual: bool, steps: list[Float32Vector], threshold: float) -> None:
    sparsifier = make_sparsifier("threshold", SMALL, 0, threshold=threshold, residual=residual)
    waiting = np.zeros(SMALL.size, np.float32) if residual else None
    for gradient in steps:
        total = add(gradient, waiting)
        expected = np.flatnonzero((np.abs(total) >= np.float32(threshold)) & trained(SMALL))
        selection = sparsifier.select(gradient, 1.0)
        np.testing.assert_array_equal(selection.indices, expected)
        np.testing.assert_array_equal(selection.values, total[expected])
        if waiting is not None:
            waiting = total.copy()
            waiting[expected] = 0.0


@RESIDUAL
@settings(max_examples=25)
@given(steps=STEPS)
def test_mean_threshold_equals_formula_variable_by_variable(residual: bool, steps: list[Float32Vector]) -> None:
    sparsifier = make_sparsifier("mean-threshold", SMALL, 0, residual=residual)
    waiting = np.zeros(SMALL.size, np.float32) if residual else None
    for gradient in steps:
        total = add(gradient, waiting)
        magnitudes = np.abs(total.astype(np.float64))
        # The one part in 100,000 by which rounding could make a mean greater than equal entries.
        expected = [
            span.start + np.flatnonzero((magnitudes[span] >= magnitudes[span].mean() * (1 - 1e-5)) & (total[span] != 0))
            for span in spans(SMALL)
        ]
        selection = sparsifier.select(gradient, 1.0)
        np.testing.assert_array_equal(selection.indices, np.concatenate(expected))
        if waiting is not None:
            waiting = total.copy()
            waiting[selection.indices] = 0.0


def test_mean_threshold_normal_entries_sends_42_in_100() -> None:
    selection = make_sparsifier("mean-threshold", LARGE, 0).select(normal(LARGE, 0), 1.0)
    # P(|x| >= sqrt(2 / pi)) = 0.42494; the standard error over 305,500 entries is 0.0009.
    assert selection.values.size / trained(LARGE).sum() == pytest.approx(0.42494, abs=0.004)


def check_greatest(total: Float32Vector, units: list[list[slice]], fraction: float, indices: np.ndarray) -> None:
    """The greatest of each unit, whichever of equal ones."""
    chosen = np.zeros(total.size, np.bool_)
    chosen[indices] = True
    for unit in units:
        magnitudes = np.abs(np.concatenate([total[span] for span in unit]))
        sent = np.concatenate([chosen[span] for span in unit])
        count = min(ceil(fraction * magnitudes.size), np.count_nonzero(magnitudes))
        assert sent.sum() == count
        np.testing.assert_array_equal(np.sort(magnitudes[sent]), np.sort(magnitudes)[magnitudes.size - count :])


FRACTION_CASES: list[tuple[str, dict[str, Any], bool]] = [
    ("top-fraction", {}, False),
    ("top-fraction", {"per_variable": True}, True),
    ("adacomp", {}, True),
]


def units_of(spec: WeightSpec, by_variable: bool) -> list[list[slice]]:
    return [[span] for span in spans(spec)] if by_variable else [spans(spec)]


@RESIDUAL
@pytest.mark.parametrize(("name", "options", "by_variable"), FRACTION_CASES)
@settings(max_examples=25)
@given(steps=STEPS, fraction=st.sampled_from([0.001, 0.1, 0.5, 1.0]))
def test_fraction_small_vector_equals_a_sort(
    name: str, options: dict[str, Any], by_variable: bool, residual: bool, steps: list[Float32Vector], fraction: float
) -> None:
    sparsifier = make_sparsifier(name, SMALL, 0, fraction=fraction, residual=residual, **options)
    waiting = np.zeros(SMALL.size, np.float32) if residual else None
    for gradient in steps:
        total = add(gradient, waiting)
        selection = sparsifier.select(gradient, 1.0)
        assert selection.indices is not None
        check_greatest(total, units_of(SMALL, by_variable), fraction, selection.indices)
        if waiting is not None:
            waiting = total.copy()
            waiting[selection.indices] = 0.0


def shape_of(kind: str) -> Float32Vector:
    gradient, places = normal(LARGE, 1), np.arange(LARGE.size)
    match kind:
        case "log-normal":
            gradient = np.exp(5 * gradient)
        case "equal":
            gradient = np.ones(LARGE.size)
        case "few":
            gradient = np.where(places % 1000 == 7, gradient, 0.0)
        case "sorted":
            gradient = np.sort(gradient)
        case "sampled-are-great":
            gradient = np.where(places % 55 == 0, gradient + 100, gradient)
        case "sampled-mislead":
            gradient = np.where(places % 55 == 0, 1e-6, np.abs(gradient) + 1)
            gradient[55 * 50 : 55 * 2000 : 55] = 1e6
        case "zero":
            gradient = np.zeros(LARGE.size)
    return np.asarray(gradient, np.float32)


@pytest.mark.parametrize("fraction", [0.01, 0.4])
@pytest.mark.parametrize("kind", "normal log-normal equal few sorted sampled-are-great sampled-mislead zero".split())
def test_fraction_large_vector_equals_a_sort_twice(kind: str, fraction: float) -> None:
    for name, by_variable in (("top-fraction", False), ("adacomp", True)):
        sparsifier, waiting = make_sparsifier(name, LARGE, 0, fraction=fraction), np.zeros(LARGE.size)
        for _ in range(2):
            total = shape_of(kind) + waiting.astype(np.float32)
            selection = sparsifier.select(shape_of(kind), 1.0)
            assert selection.indices is not None
            check_greatest(total, units_of(LARGE, by_variable), fraction, selection.indices)
            waiting = total.copy()
            waiting[selection.indices] = 0.0


def test_residual_of_a_steady_gradient_is_sent_in_turn_and_nothing_is_lost() -> None:
    gradient = normal(SMALL, 2) * trained(SMALL)
    sparsifier, arrived = make_sparsifier("top-fraction", SMALL, 0, fraction=0.05), np.zeros(SMALL.size)
    for _ in range(400):
        selection = sparsifier.select(gradient, 1.0)
        arrived[selection.indices] += selection.values
    # An entry waits until it is among the greatest 5 %, so what is missing is at most what it then amounts to.
    np.testing.assert_allclose(arrived / 400, gradient, atol=0.1)
    assert (arrived != 0).sum() > 0.9 * trained(SMALL).sum()
