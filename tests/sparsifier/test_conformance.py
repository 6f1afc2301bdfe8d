"""What every sparsifier must do, whatever its rule: above all, that what is sent and what is kept add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.errors import CheckpointMismatch, DivergedError
from p2pdl.sparsifier import SPARSIFIERS, Balance, GradientSparsifier, Selection, make_sparsifier
from p2pdl.spec import WeightSpec
from p2pdl.types import Float32Vector
from tests.sparsifier.vectors import LARGE, NOTHING, SMALL, gradients, normal, trained

CASES: list[tuple[str, dict[str, Any]]] = [
    ("none", {}),
    ("threshold", {"threshold": 0.7}),
    ("threshold", {"threshold": 0.7, "residual": False}),
    ("mean-threshold", {}),
    ("mean-threshold", {"residual": True}),
    ("top-fraction", {"fraction": 0.1}),
    ("top-fraction", {"fraction": 0.1, "residual": False}),
    ("top-fraction", {"fraction": 0.4, "per_variable": True}),
    ("adacomp", {"fraction": 0.1}),
    ("adacomp", {"fraction": 0.1, "residual": False}),
    ("esgd", {}),
    ("esgd", {"fraction": 0.1}),
    ("esgd", {"fraction": 0.1, "signed": True}),
    ("esgd", {"fraction": 1.0, "decay": 0.0}),
]
EVERY_CASE = pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{o}" for n, o in CASES])
GREATEST = float(np.finfo(np.float32).max)


def dense(selection: Selection, size: int) -> Float32Vector:
    """The selection as a vector, zero where nothing is sent."""
    if selection.indices is None:
        return selection.values.copy()
    vector = np.zeros(size, np.float32)
    vector[selection.indices] = selection.values
    return vector


def kept(sparsifier: GradientSparsifier, size: int) -> Float32Vector:
    residual = sparsifier.residual
    return np.zeros(size, np.float32) if residual is None else residual.copy()


def check_form(selection: Selection, spec: WeightSpec) -> None:
    assert selection.values.dtype == np.float32
    assert np.isfinite(selection.values).all()
    assert not selection.values.flags.writeable
    if selection.indices is None:
        assert selection.values.shape == (spec.size,)
        assert not selection.values[~trained(spec)].any()
        return
    assert selection.indices.dtype == np.intp
    assert selection.indices.shape == selection.values.shape
    assert not selection.indices.flags.writeable
    assert (np.diff(selection.indices) > 0).all()
    assert trained(spec)[selection.indices].all()


def check_balance(
    sparsifier: GradientSparsifier, gradient: Float32Vector, before: Float32Vector, selection: Selection, decay: float
) -> None:
    """What the sparsifier's `balance` says, entry by entry."""
    mine = trained(SMALL) if gradient.size == SMALL.size else trained(LARGE)
    sent, after = dense(selection, gradient.size), kept(sparsifier, gradient.size)
    assert not after[~mine].any()
    with np.errstate(over="ignore"):
        match sparsifier.balance:
            case Balance.KEPT:
                whole = np.clip(gradient + before, -GREATEST, GREATEST)
                np.testing.assert_array_equal((sent + after)[mine], whole[mine])
                assert not (sent[mine] * after[mine]).any()
            case Balance.DROPPED:
                assert sparsifier.residual is None
                places = np.arange(gradient.size) if selection.indices is None else selection.indices
                np.testing.assert_array_equal(sent[places], gradient[places])
            case Balance.DECAYED:
                faded = decay * before.astype(np.float64) + (1.0 - decay) * gradient
                slack = 1e-6 * (np.abs(before.astype(np.float64)) + np.abs(gradient)) + 1e-44
                places = np.zeros(gradient.size, np.bool_)
                places[selection.indices] = True
                assert (np.abs(after - faded) <= slack)[mine & ~places].all()
                out_of_gradient = (sent == gradient) & (after == before)
                out_of_residual = (np.abs(sent - faded) <= slack) & (after == 0.0)
                assert (out_of_gradient | out_of_residual)[places].all()


@EVERY_CASE
@settings(max_examples=15)
@given(steps=st.lists(st.tuples(gradients(), st.floats(0.0, 2.0)), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_select_any_gradients_is_well_formed_and_sent_and_kept_balance(
    name: str, options: dict[str, Any], steps: list[tuple[Float32Vector, float]], seed: int
) -> None:
    sparsifier = make_sparsifier(name, SMALL, seed, **options)
    for gradient, loss in steps:
        before, given_gradient = kept(sparsifier, SMALL.size), gradient.copy()
        selection = sparsifier.select(gradient, loss)
        np.testing.assert_array_equal(gradient, given_gradient)
        check_form(selection, SMALL)
        check_balance(sparsifier, gradient, before, selection, options.get("decay", 0.9))


@EVERY_CASE
def test_select_large_vector_is_well_formed_and_sent_and_kept_balance(name: str, options: dict[str, Any]) -> None:
    sparsifier = make_sparsifier(name, LARGE, 3, **options)
    for step, loss in enumerate([1.0, 0.9, 1.1, 1.0]):
        gradient, before = normal(LARGE, step), kept(sparsifier, LARGE.size)
        selection = sparsifier.select(gradient, loss)
        check_form(selection, LARGE)
        check_balance(sparsifier, gradient, before, selection, options.get("decay", 0.9))


@EVERY_CASE
def test_restore_in_the_middle_goes_on_with_the_same_bits(name: str, options: dict[str, Any]) -> None:
    first, second = make_sparsifier(name, LARGE, 5, **options), make_sparsifier(name, LARGE, 6, **options)
    losses = [1.0, 0.9, 1.2, 0.8, 0.7, 1.0]
    for step in range(3):
        first.select(normal(LARGE, step), losses[step])
    second.restore({key: array.copy() for key, array in first.state().items()})
    for step in range(3, 6):
        expected, found = (one.select(normal(LARGE, step), losses[step]) for one in (first, second))
        if expected.indices is not None:
            np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.values, expected.values)
    assert first.state().keys() == second.state().keys()
    for key, array in first.state().items():
        np.testing.assert_array_equal(second.state()[key], array)


@EVERY_CASE
def test_restore_other_state_is_refused_and_changes_nothing(name: str, options: dict[str, Any]) -> None:
    sparsifier = make_sparsifier(name, SMALL, 0, **options)
    sparsifier.select(normal(SMALL, 0), 1.0)
    before = {key: array.copy() for key, array in sparsifier.state().items()}
    others = [{**before, "other": np.zeros(1)}]
    for key, array in before.items():
        others.append({other: value for other, value in before.items() if other != key})
        others.append({**before, key: np.zeros(array.size + 1, array.dtype)})
        others.append({**before, key: np.zeros(array.shape, np.complex64)})
    for other in others:
        with pytest.raises(CheckpointMismatch, match="checkpoint"):
            sparsifier.restore(other)
    for key, array in sparsifier.state().items():
        np.testing.assert_array_equal(array, before[key])


@EVERY_CASE
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_select_gradient_not_finite_is_refused_and_changes_nothing(
    name: str, options: dict[str, Any], value: float
) -> None:
    sparsifier = make_sparsifier(name, SMALL, 0, **options)
    sparsifier.select(normal(SMALL, 0), 1.0)
    before = {key: array.copy() for key, array in sparsifier.state().items()}
    gradient = normal(SMALL, 1)
    gradient[3] = value
    with pytest.raises(DivergedError):
        sparsifier.select(gradient, 0.5)
    for key, array in sparsifier.state().items():
        np.testing.assert_array_equal(array, before[key])


@EVERY_CASE
def test_select_gradient_of_another_form_is_refused(name: str, options: dict[str, Any]) -> None:
    sparsifier = make_sparsifier(name, SMALL, 0, **options)
    for gradient in (normal(SMALL, 0)[1:], normal(SMALL, 0).astype(np.float64), normal(SMALL, 0)[None]):
        with pytest.raises(ValueError, match="float32 of shape"):
            sparsifier.select(gradient, 1.0)  # type: ignore[arg-type]


@EVERY_CASE
@pytest.mark.parametrize("spec", [NOTHING, WeightSpec(())], ids=["statistics", "empty"])
def test_select_nothing_trained_sends_nothing(name: str, options: dict[str, Any], spec: WeightSpec) -> None:
    sparsifier = make_sparsifier(name, spec, 0, **options)
    for loss in (1.0, 0.5):
        selection = sparsifier.select(normal(spec, 0), loss)
        check_form(selection, spec)
        assert not selection.values.any()


@EVERY_CASE
def test_name_and_residual_are_as_registered(name: str, options: dict[str, Any]) -> None:
    sparsifier = make_sparsifier(name, SMALL, 0, **options)
    assert sparsifier.name == name
    assert (sparsifier.residual is None) == (name == "none" or sparsifier.balance is Balance.DROPPED)
    if sparsifier.residual is not None:
        with pytest.raises(ValueError, match="read-only"):
            sparsifier.residual[0] = 1.0


def test_every_sparsifier_is_in_a_case() -> None:
    assert {name for name, _ in CASES} == set(SPARSIFIERS)


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("top", {}, "'top'.*none, threshold, mean-threshold, top-fraction, adacomp, esgd"),
        ("adacomp", {"rate": 1.0}, "adacomp has no setting 'rate'; it has fraction, residual"),
        ("none", {"rate": 1.0}, "none has no setting 'rate'; it has none"),
        ("threshold", {"threshold": 0.0}, "above 0, not 0.0"),
        ("threshold", {"threshold": float("nan")}, "above 0, not nan"),
        ("threshold", {"threshold": 1e39}, "above 0, not 1e\\+39"),
        ("top-fraction", {"fraction": 0.0}, "above 0 and at most 1, not 0.0"),
        ("adacomp", {"fraction": 1.01}, "above 0 and at most 1, not 1.01"),
        ("esgd", {"fraction": float("nan")}, "above 0 and at most 1, not nan"),
        ("esgd", {"decay": 1.5}, "between 0 and 1, not 1.5"),
    ],
)
def test_make_wrong_name_or_setting_says_what_there_is(name: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make_sparsifier(name, SMALL, 0, **options)
